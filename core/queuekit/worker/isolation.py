"""Run bodies in processes of their own: suspects of a crash (QK6), and tasks that must be killable.

A small server, which has imported the app and runs no threads, forks the processes, so each costs about ten
milliseconds. A body's process ends when its worker does: it listens on a pipe that only the worker holds.
"""

from __future__ import annotations

import contextlib
import math
import pickle  # safe: both ends run the same code for the same user
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from typing import Any

import attrs

from queuekit.broker import Delivery, Release
from queuekit.client.runtime import Runtime
from queuekit.control import Snooze, TaskTimeout
from queuekit.errors import UnavailableError
from queuekit.events import BodyCrashed, ChildRecycled
from queuekit.execution.executor import Executor
from queuekit.execution.outcome import Outcome, Run
from queuekit.ids import worker_name
from queuekit.tasks.task import Task
from queuekit.wire.records import entered_mark, unconfirmed
from queuekit.wire.stacks import Frame
from queuekit.worker.app_ref import AppRef
from queuekit.worker.carried import is_usual, pack_deliveries, read_outcome, read_times
from queuekit.worker.forkserver import Forked, ForkServer, Plan
from queuekit.worker.frames import FramedSocket
from queuekit.worker.isolated import LONGEST_CLOSE, CancelBody, Interrupt, Last, WriteStack, not_carried
from queuekit.worker.isolation_gate import IsolationGate
from queuekit.worker.limit import GRACE
from queuekit.worker.memory import in_bytes, out_of_memory_kills, resident_bytes
from queuekit.worker.recycling import Reached
from queuekit.worker.spare_processes import SpareProcesses
from queuekit.worker.suspect_processes import SuspectProcesses

__all__ = ["Isolation", "server_for_suspects"]

_TICK = 0.1
"""Seconds between two checks of a body's time limit and cancel mark."""
_LONGEST_START = 60.0
"""Seconds that a process may take to load the app."""
_BUFFERED = 65_536
"""Bytes of a delivery that surely fit into the buffer of a pipe, so that sending them does not block."""
_LONGEST_SEND = 0.5
"""Seconds after the end of a process within which the rest of a delivery to it fails."""
_TOGETHER = 0.02
"""Seconds after which what was sent to a process together and has not begun is taken back."""
_PATIENCE = 2.0
"""Seconds that a suspect waits in its thread for other suspects to end before it is snoozed: most bodies are short."""
_LONGEST_PUT_OFF = 60.0
_LONGEST_END = 10.0
"""Seconds that an idle process has for its exit handlers, where nothing waits for its end."""
_USUAL_END = LONGEST_CLOSE + 0.5
"""Seconds that another process has to end by itself: for its resources, and a moment for its exit handlers."""
_IDLE = 10.0
"""Seconds after which an idle process for suspects ends."""

NOT_BEGUN = b""
"""The answer of a process for what it has not begun."""
Answers = Iterator[tuple[Run, bytes | None]]
"""Runs with what their process answered; ``None``: it has ended in the body."""
Calls = Iterator[tuple[Run, Outcome | None]]
"""Runs with their outcomes; ``None``: it has not begun."""


class Isolation:
    """Runs bodies in child processes.

    Args:
        runtime: Its backend stores the marks of suspects.
        executor: Decides for bodies that did not return.
        ref: Reference by which a child loads the app.
        worker: Name of the worker.
        always: Whether all tasks run this way (``pool = "process"``); each thread then keeps its process.
        server: The fork server, if it is already started.
        table: Descriptor of the run table, if the worker shares it with a supervisor; else -1.
    """

    def __init__(
        self,
        runtime: Runtime,
        executor: Executor,
        *,
        ref: AppRef,
        worker: str,
        always: bool,
        server: ForkServer | None = None,
        table: int = -1,
    ) -> None:
        self._runtime = runtime
        self._executor = executor
        self._worker, self._table = worker, table
        self._most = runtime.config.worker.max_deliveries
        self.always = always
        idle = None if always else _IDLE
        self._server = server or ForkServer(Plan(ref=ref, worker=worker, modules=_modules(), idle=idle))
        self._spares = SpareProcesses(self._spawn)
        self._gate = IsolationGate()
        self._suspects: SuspectProcesses[_BodyProcess] | None = None
        self._kept: dict[int, _BodyProcess] = {}
        self._busy: dict[int, _BodyProcess] = {}
        self._closed = False
        self._counting = threading.Lock()
        self.ran = 0
        """Bodies that have ended in processes of their own."""

    def wants(self, run: Run) -> bool:
        """Return whether the body of *run* must run in a process of its own."""
        chosen = run.task.defaults.pool
        return run.suspect or (self.always if chosen is None else chosen == "process")

    def is_usual(self, tasks: Mapping[str, Task[..., Any]]) -> bool:
        """Return whether any of *tasks* runs in processes, not only suspects."""
        return any(
            (task.defaults.pool or ("process" if self.always else "thread")) == "process" for task in tasks.values()
        )

    def start(self) -> None:
        """Start the fork server, which imports the app meanwhile; if it cannot start, the first body tries again."""
        self.expect_suspects()
        if self.always:
            self._spares.start()

    def expect_suspects(self) -> None:
        """Start the fork server, unless it runs."""
        with contextlib.suppress(OSError):
            self._server.start()

    def wait(self, stopped: threading.Event) -> None:
        """Wait until a process is ready for the first body, or cannot be made, or until *stopped*."""
        if self.always:
            self._spares.wait(stopped.is_set, _LONGEST_START)

    def serve_suspects(self, submit: Callable[[Sequence[Run]], None], *, most: int) -> None:
        """Let suspects that need a process wait outside the threads; *submit* hands them to the threads again."""
        if not self.always:
            self._suspects = SuspectProcesses(self._spawn, submit=submit, most=most)

    @property
    def waiting(self) -> int:
        """How many suspects wait for a process outside the threads."""
        return 0 if self._suspects is None else self._suspects.waiting

    def may_begin(self, run: Run) -> bool:
        """Return whether a thread may call *run* now; if not, it is submitted again."""
        return self._suspects is None or not run.suspect or self._suspects.may_begin(run)

    def forget(self, run: Run) -> None:
        """Release the process of *run*, which was allowed to start but will not."""
        if self._suspects is not None:
            self._suspects.forget(run)

    def take_waiting(self) -> list[Run]:
        """Take back the suspects that wait outside the threads."""
        return [] if self._suspects is None else self._suspects.take_waiting()

    def shares(self, run: Run) -> bool:
        """Return whether the body of *run* may go to a process together with others."""
        return not run.suspect and not run.early and not run.task.defaults.track and is_usual(run.delivery)

    def call(self, row: int, runs: Sequence[Run]) -> Calls:
        """Run the bodies of *runs* in another process, one after the other; blocks the calling thread.

        Yields:
            Each run with its outcome, or, always the last that is left, with ``None``: it has not begun, and may run
            elsewhere.
        """
        first = runs[0]
        first.started = first.ended = self._runtime.clock.monotonic()
        if not first.suspect:
            yield from self._run(row, runs)
            return
        exclusive = first.unseen and first.known_crashes + 1 >= self._most
        if not self._gate.enter(exclusive=exclusive, patience=_PATIENCE):
            self.forget(first)
            yield first, self._executor.raised(first, Snooze(_put_off(first.delivery)))
            return
        try:
            yield from self._run(row, runs)
        finally:
            self._gate.leave(exclusive=exclusive)

    def stack_of(self, run: Run) -> tuple[int, tuple[Frame, ...]]:
        """Return the id of the process of *run* and the stack of its body; 0 if it runs in none."""
        child = next((child for child in list(self._busy.values()) if child.current is run), None)
        return (0, ()) if child is None else (child.pid, child.stack())

    def close(self, patience: float) -> None:
        """End all processes: busy ones at once, idle ones gently, all together within *patience* seconds.

        Busy tasks did not fail: release them uncounted.
        """
        self._closed = True
        busy = list(self._busy.values())
        for child in busy:
            child.kill()
        free = [] if self._suspects is None else self._suspects.close()
        idle = [*free, *self._spares.close(), *self._kept.values()]
        self._kept.clear()
        for process in idle:
            process.leave()
        until = time.monotonic() + min(patience, _LONGEST_END)
        for process in idle:
            process.close(max(0.0, until - time.monotonic()))
        self._server.close()
        self._unmark([child.current for child in busy if child.current is not None])

    def _run(self, row: int, runs: Sequence[Run]) -> Calls:
        """Run them in their assigned process, in the one that the thread kept, or in a new one.

        A run that has crashed before always gets a new process, so that leftovers of another body can be blamed on it
        at most once.
        """
        first = runs[0]
        if self._suspects is not None and first.suspect:
            kept = self._suspects.take(first)
        else:
            kept = None if first.known_crashes else self._kept.pop(row, None)
        kept = kept or self._spares.take()
        if kept is not None:
            with contextlib.suppress(_NotBegunError):
                yield from self._call(kept, row, runs)
                return
        try:
            process = self._spawn()
        except (OSError, EOFError):
            if not self._closed:
                raise
            yield first, self._executor.decide.handed_back(first)  # its worker stops; nothing is wrong
            return
        yield from self._call(process, row, [first] if kept is not None else runs)

    def _call(self, child: _BodyProcess, row: int, runs: Sequence[Run]) -> Calls:
        """Run them in *child*.

        Raises:
            _NotBegunError: It ended before it began the first.
        """
        if runs[0].suspect:
            self._mark(runs[0], seen=False)
        self._busy[row] = child
        if self._closed:
            child.kill()
        try:
            for run, answer in child.call(row, runs):
                yield run, None if answer is NOT_BEGUN else self._outcome(child, run, answer)
        except _NotBegunError:
            child.reap()
            raise
        finally:
            del self._busy[row]
        if child.ended and child.reached is None:
            child.reap()
        else:
            self._keep(child, row, runs[0])

    def _outcome(self, child: _BodyProcess, run: Run, answer: bytes | None) -> Outcome:
        """Return the outcome of a body that has ended, with this *answer* or without one."""
        if answer is None:
            run.ended = self._runtime.clock.monotonic()
            child.reap()
            outcome = self._without_answer(child, run)
        else:
            with self._counting:
                self.ran += 1
            try:
                outcome = child.read(answer, run.delivery)
            except _UnreadableError as error:
                outcome = self._executor.decide.failed(run, not_carried(run, error.__cause__ or error))
        if isinstance(outcome.settlement, Release) and not outcome.settlement.counted:
            self._unmark([run])
        outcome.run = run
        return outcome

    def _keep(self, child: _BodyProcess, row: int, run: Run) -> None:
        """Keep a process that answered for later bodies, unless its run has crashed before or it ends by itself."""
        reached = child.reached
        if reached is not None:
            threading.Thread(target=child.end, name="queuekit-recycle", daemon=True).start()
            event = ChildRecycled(worker=self._worker, pid=child.pid, **attrs.asdict(reached))
            self._runtime.events.emit(event)
        elif run.known_crashes or self._closed:
            child.close()
        elif self._suspects is not None and run.suspect:
            self._suspects.give_back(child)
        else:
            self._kept[row] = child

    def _without_answer(self, child: _BodyProcess, run: Run) -> Outcome:
        """Decide for a body that was stopped with its worker, cancelled, over its time limit, or that crashed."""
        if self._closed:  # its body may have begun: acknowledged early, it must not run again
            return self._executor.decide.unfinished(run, settles=not run.early)
        if child.cancelled:
            return self._executor.cancelled(run)
        if child.overran:
            error = TaskTimeout(f"ran longer than {run.time_limit or run.timeout:g} s and was killed")
            return self._executor.raised(run, error)
        if run.early:  # no broker has it any more
            return self._executor.decide.failed(run, ChildProcessError(f"its process {child.exit_reason()}"))
        crashes = run.known_crashes + 1
        if crashes >= self._most:
            return self._executor.crashed(run, crashes, child.exit_reason())
        self._mark(run, seen=True)
        longest = self._runtime.broker.limits.max_delay
        delay = min(30.0, 0.5 * 2.0**crashes, 30.0 if longest is None else longest)
        settlement = Release(run.delivery, delay=delay, counted=True)
        event = BodyCrashed(
            worker=self._worker, id=run.message.id, task=run.message.task, how=child.exit_reason(), again_in=delay
        )
        return Outcome(delivery=run.delivery, settlement=settlement, status="crashed", event=event)

    def _mark(self, run: Run, *, seen: bool) -> None:
        """Write the crash mark: before the body of a suspect starts, and again, as confirmed, after a crash."""
        if self._runtime.backend is not None:
            self._runtime.backend.put([entered_mark(run.delivery, seen=seen)])

    def _unmark(self, runs: list[Run]) -> None:
        """Delete the crash marks of bodies that did not crash and whose messages are delivered again."""
        keys = [entered_mark(run.delivery).key for run in runs if run.suspect]
        if keys and (backend := self._runtime.backend) is not None:
            with contextlib.suppress(UnavailableError):
                backend.delete(unconfirmed(backend.get(keys)))

    def _spawn(self) -> _BodyProcess:
        """Return a process that is ready to run a body.

        Raises:
            OSError: The system allows no more processes.
            EOFError: It ended before it was ready: the app cannot be loaded.
        """
        child = _BodyProcess(self._server.fork(self._table))
        child.wait_until_ready()
        return child


def server_for_suspects(ref: AppRef) -> ForkServer | None:
    """Return a server that starts to import the app at once; ``None`` if it cannot be started now.

    A worker that replaces a crashed one needs it soon: the messages that the crashed worker ran are suspects.
    """
    server = ForkServer(Plan(ref=ref, worker=worker_name(), modules=_modules(), idle=_IDLE))
    try:
        server.start()
    except OSError:
        return None
    return server


def _modules() -> tuple[str, ...]:
    """Return the modules of queuekit that this process has imported; the server imports them for its children."""
    return tuple(name for name in list(sys.modules) if name.partition(".")[0].startswith("queuekit"))


def _put_off(delivery: Delivery) -> float:
    """Return for how many seconds to snooze a suspect that must run exclusively; longer each time."""
    return min(_LONGEST_PUT_OFF, 0.5 * 2.0 ** min(delivery.number - delivery.crashes, 10))


class _BodyProcess:
    """One process for bodies, as its worker sees it."""

    def __init__(self, process: Forked) -> None:
        self._process = process
        self._pipe = process.pipe
        self._frames = FramedSocket(process.pipe.fileno())
        self._sending = threading.Lock()
        self._count = 0
        """How many deliveries it was sent."""
        # Two for all bodies: `multiprocessing.connection.wait` makes one for each call, as slow as all else.
        self._answers, self._notifications = select.poll(), select.poll()
        self._status = -1
        """Descriptor that is readable when it has ended."""
        self._rss = 0
        """Bytes of memory that it occupied when it was last looked at; 0 if that is not known."""
        self._kills = out_of_memory_kills()
        self._thread = 0
        """Python's identifier of the thread that runs the bodies, in the process."""
        self._left: deque[Run] = deque()
        """What it was sent and has not answered."""
        self._number = 0
        """Number of the delivery that it runs."""
        self._sender: threading.Thread | None = None
        """Sends a large delivery."""
        self._is_sent = False
        """Whether it may begin what it was sent last."""
        self.ended = False
        """Whether it has ended in a body, or must end for it."""
        self.overran = False
        self.cancelled = False
        self.reached: Reached | None = None
        """The bound for which it ends after its last answer."""

    @property
    def current(self) -> Run | None:
        """What it runs."""
        try:
            return self._left[0]
        except IndexError:
            return None

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process.pid

    def stack(self) -> tuple[Frame, ...]:
        """Return the stack of its body, from its other thread or, if that gets no turn, by a signal."""
        stacks = self._process.stacks
        return stacks.ask(lambda: self._send(WriteStack())) or stacks.signal(self.pid, self._thread)

    def _send(self, order: object) -> None:
        with self._sending:
            self._process.orders.send(order)

    def wait_until_ready(self) -> None:
        """Wait until it has loaded the app; see :meth:`Isolation._spawn`."""
        with contextlib.suppress(EOFError, OSError):
            if wait([self._pipe, self._process.status], _LONGEST_START) and self._pipe.poll():
                self._thread = pickle.loads(self._frames.receive())  # noqa: S301 - a child of this worker wrote it
                self._status = self._process.status.fileno()
                for poll, end in ((self._answers, self._pipe), (self._notifications, self._process.permits)):
                    poll.register(end, select.POLLIN)
                    poll.register(self._status, select.POLLIN)
                return
        self.reap()
        raise EOFError(f"a process for tasks could not load the app: it was {self.exit_reason()}")

    def call(self, row: int, runs: Sequence[Run]) -> Answers:
        """Send it *runs*, and yield each with its answer, or with ``None`` if it died in its body or that ran too long.

        What does not begin soon is yielded at once, from the last to the first, with :data:`NOT_BEGUN`.

        Raises:
            _NotBegunError: It ended before it began the first.
        """
        self._left = deque(runs)
        handed_over = time.monotonic()
        limits, first = _Limits(runs[0], handed_over), self._count + 1
        self._number = first
        try:
            self._hand_over(row, runs)
        except _NotBegunError:
            yield from self._give_back(len(runs) - 1)
            raise
        with contextlib.suppress(EOFError):
            while self._left and self.reached is None:
                for answer in self._news():
                    run = self._left.popleft()
                    self._number += 1
                    run.started, run.ended, rest = read_times(answer)
                    yield run, rest
                    limits = _Limits(self.current, run.ended)
                now = time.monotonic()
                if len(self._left) > 1 and now >= handed_over + _TOGETHER:
                    yield from self._give_back(self._take_back())
                if limits.look <= now and self._stops(limits, now):
                    break
        yield from self._end(is_first=self._number == first)

    def _end(self, *, is_first: bool) -> Answers:
        """Yield what it has not answered, since it has ended, or must; *is_first*: it has answered nothing."""
        self.ended = bool(self._left)
        count, stopped = self._process.permits.take_back(), self.overran or self.cancelled
        has_begun = count < len(self._left) and (self._sender is None or self._is_sent)
        # The limit of a delivery has begun when it was sent alone or first, and another process is tried for that.
        yield from self._give_back(min(count, len(self._left) - (stopped or is_first)))
        if self._left and is_first and not has_begun and not stopped:
            raise _NotBegunError
        for run in self._left:
            yield run, None

    def _give_back(self, count: int) -> Answers:
        for _ in range(count):
            yield self._left.pop(), NOT_BEGUN

    def _take_back(self) -> int:
        """Return how many it has not begun, and will not; what it runs next is left to it, as it may be about to."""
        count = self._process.permits.take_back()
        if count == len(self._left):
            with contextlib.suppress(OSError):  # it has ended
                self._process.permits.give([self._number])
                count -= 1
        return count

    def _hand_over(self, row: int, runs: Sequence[Run]) -> None:
        """Send *runs*; a thread does that if they are large, or a stopped process would hold up their limits.

        Raises:
            _NotBegunError: The process has ended.
        """
        data = pack_deliveries(row, self._count + 1, runs)
        numbers = range(self._count + 1, self._count + len(runs) + 1)
        self._count += len(runs)
        self._is_sent, self._sender = False, None

        def send() -> None:
            self._frames.send(data)
            self._process.permits.give(numbers)
            self._is_sent = True

        if len(data) > _BUFFERED:
            self._sender = threading.Thread(target=_quietly, args=(send,), name="queuekit-delivery", daemon=True)
            self._sender.start()
            return
        try:
            send()
        except OSError as error:
            raise _NotBegunError from error

    def _news(self) -> list[bytes]:
        """Wait for at most a tick, and return the answers that are there.

        Raises:
            EOFError: It has ended. A child that the body left behind may keep the pipe open.
        """
        if len(self._left) == 1 or self._frames.has_part:
            return self._read(_TICK)
        if any(number != self._status for number, _ in self._notifications.poll(_TOGETHER * 1_000)):
            self._process.permits.clear()
        return self._read(0.0)  # also answers of which it has not notified

    def _read(self, pause: float) -> list[bytes]:
        found = list[bytes]()
        while ready := self._answers.poll(pause * 1_000):
            try:
                found += self._read_some(ready)
            except EOFError:
                if not found:
                    raise
                break  # the next call tells the end
            if len(found) >= len(self._left):
                break
            pause = 0.0
        return found

    def _read_some(self, ready: Sequence[tuple[int, int]]) -> list[bytes]:
        if all(number == self._status for number, _ in ready):
            raise EOFError
        return self._frames.read()

    def _stops(self, limits: _Limits, now: float) -> bool:
        """Return whether its body must end; tell it to stop if it need not end yet."""
        run, limits.look = limits.run, now + _TICK
        if run is None:
            return False
        if self._ends(run, overran=now >= limits.hard):
            return True
        with contextlib.suppress(OSError):  # it has ended
            if run.context.cancelled and not limits.told:
                limits.told = True
                self._send(CancelBody(self._number))
            if now >= limits.soft:
                limits.soft = math.inf
                self._send(Interrupt(self._number))
        return False

    def _ends(self, run: Run, *, overran: bool) -> bool:
        """Return whether its body must end; look at its memory if not."""
        if run.cancellation is not None:
            self.cancelled, run.did = True, "killed"
        elif overran:
            self.overran = True
        else:
            self._rss = resident_bytes(self.pid) or self._rss
        return self.cancelled or self.overran

    def kill(self) -> None:
        """Kill it; may be called while another thread waits for it."""
        self._process.kill()

    def reap(self) -> None:
        """Kill it, and wait for its end."""
        self._process.kill()
        self._process.alive(patience=5)
        if self._sender is not None:  # it still knows the number of the pipe
            self._sender.join(_LONGEST_SEND)
        self._process.close()

    def leave(self) -> None:
        """Close the connections to it, which makes it end."""
        self._pipe.close()
        self._process.orders.close()

    def close(self, patience: float = _USUAL_END) -> None:
        """Make it end; kill it if it does not within *patience* seconds."""
        self.leave()
        if self._process.alive(patience=patience):
            self._process.kill()
            self._process.alive(patience=5)
        self._process.close()

    def end(self) -> None:
        """Let it end by itself, with its exit handlers; kill it if it does not."""
        self._process.alive(patience=_LONGEST_END)
        self.close()

    def read(self, answer: bytes, delivery: Delivery) -> Outcome:
        """Return the outcome of *delivery* that it sent.

        Raises:
            _UnreadableError: The outcome holds a value whose class cannot be unpickled.
        """
        try:
            outcome: Outcome | Last = read_outcome(answer, delivery)
            if isinstance(outcome, Last):
                self.reached = outcome.reached
                return self.read(outcome.answer, delivery)
        except BaseException as error:
            raise _UnreadableError from error
        return outcome

    def exit_reason(self) -> str:
        """Return how it ended, in words, with the cause if the system killed it for its memory."""
        words = self._exit_in_words()
        if self._process.code != -signal.SIGKILL:
            return words
        likely = ", likely out of memory" if out_of_memory_kills() > self._kills else ""
        return f"{words}{likely}" + (f": rss {in_bytes(self._rss)}" if self._rss else "")

    def _exit_in_words(self) -> str:
        code = self._process.code
        if code is None or code >= 0:
            return "ended with its fork server" if code is None else f"exited with code {code}"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"


class _Limits:
    """When the body of a run must be looked at, and when it must end, in monotonic seconds.

    Args:
        run: The run; ``None`` if there is none.
        since: When its body began.
    """

    def __init__(self, run: Run | None, since: float) -> None:
        self.run = run
        self.look = since + _TICK
        self.told = False
        """Whether it knows that it was cancelled."""
        self.soft = math.inf if run is None or run.timeout is None else since + run.timeout
        self.hard = self.soft + GRACE if run is None or run.time_limit is None else since + run.time_limit


def _quietly(send: Callable[[], None]) -> None:
    """Call *send*; if the process has ended, its permits tell what it has not begun."""
    with contextlib.suppress(OSError):
        send()


class _UnreadableError(Exception):
    """An outcome cannot be read here."""


class _NotBegunError(OSError):
    """An idle process ended before it received the delivery."""
