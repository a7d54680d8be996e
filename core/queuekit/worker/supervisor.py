"""The parent of worker processes: starts them, renews their leases, restarts dead ones, passes on signals.

It runs no user code except importing the app, so no task can keep it from renewing leases: a task that holds the GIL
for minutes keeps its lease. It survives a task that kills its process: it hands back the messages of a dead process at
once, and only those whose bodies had been entered become suspects (QK6, QK7).
"""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import attrs

from queuekit.app import Queuekit
from queuekit.broker import Delivery, Release
from queuekit.client.outage import Outage
from queuekit.client.requirements import require
from queuekit.config.settings import WorkerConfig
from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit.events import EngineDown, QueuesUnserved, WorkerCrashed, WorkerGaveUp, WorkerRecycled, WorkerStarted
from queuekit.execution import children
from queuekit.operations.admin import Admin
from queuekit.values import define
from queuekit.wire.records import entered_mark, unconfirmed, worker_key
from queuekit.worker.app_ref import AppRef
from queuekit.worker.draining import DRAINED, LEAST_STOP
from queuekit.worker.health_server import HealthServer
from queuekit.worker.lease_renewer import LeaseRenewer
from queuekit.worker.lease_table import HeldLease, LeaseTable
from queuekit.worker.prefork import ForkedProcess, Prefork
from queuekit.worker.probes import Probes, ProcessFacts, Still
from queuekit.worker.protocol import Crashed, Drains, Lost, Ready, Recycle, Replacement, Serves, Start, Stop
from queuekit.worker.recycling import Bounds, Reached
from queuekit.worker.run_table import RunTable
from queuekit.worker.service_manager import ServiceManager
from queuekit.worker.silence import LOOK, Silence
from queuekit.worker.silent_answers import SilentAnswers
from queuekit.worker.stacks import StackFile, stack_memory
from queuekit.worker.watch import DEAF

__all__ = ["WAIT_FOR", "Supervisor"]

_QUICK_DEATH = 5.0
"""Seconds after its start within which the death of a process counts as a failed start."""
ONE_SIGNAL = 1.0
"""Seconds after a signal within which further signals count as the same request."""
_TRIES = 5
_LONGEST_PAUSE = 30.0
_NAMED = 5
"""Most messages that a line about the end of a process names."""
_ENDED_AS_TOLD = (0, DRAINED, -signal.SIGTERM)
_OVERTIME = 5.0
"""Seconds past its time limit for which the lease of a body is still renewed."""
_BEFORE = 1.0
"""Seconds before the end of a stop at which the remaining processes are killed."""
_LAST = 0.5
"""Least seconds to hand back the messages of a killed process, and between two checks of an engine that is down."""
_LONGEST_CLOSE = 1.0
"""Most seconds that a stop waits for connections to close; nothing depends on them any more."""
WAIT_FOR = 30.0
"""Default seconds to wait at the start for engines that do not answer."""
_FIRST_PAUSE, _LONGEST_ENGINE_PAUSE = 0.2, 2.0


@define
class _Child:
    """One worker process."""

    number: int
    process: subprocess.Popen[bytes] | ForkedProcess
    pipe: Connection
    run_table: RunTable
    leases: LeaseTable
    renewer: LeaseRenewer | None
    """``None`` where only the process that claimed can renew."""
    answers: SilentAnswers
    started: float
    ready: bool = False
    overdue: bool = False
    """Whether the supervisor killed it because it did not end in time."""
    blamed: list[int] | None = None
    """Serials of the bodies for which the supervisor killed it as silent; ``None`` if it did not."""
    replaced: str = ""
    """Why the supervisor killed it although nothing but one body was at fault; empty if it did not."""
    drains: bool = False
    """Whether an operator drains it, so that no other follows, however it ends."""
    bounds: Bounds = Bounds()
    reached: Reached | None = None
    """The bound for which it is replaced as soon as its replacement takes messages."""
    recycled: bool = False
    """Whether its replacement has taken its number."""
    name: str = ""
    still: Still = attrs.field(factory=Still)
    """Seconds without a heartbeat, also of a process that a signal has stopped."""
    longest_silence: float = math.inf
    """Seconds; see :class:`~queuekit.worker.silence.Silence`."""
    silence: Silence = attrs.field(
        default=attrs.Factory(
            lambda self: Silence(self.run_table, self.process.pid, longest=self.longest_silence), takes_self=True
        )
    )


class Supervisor:
    """Runs an app's worker processes until told to stop.

    Args:
        app: The app, already imported, so that its errors appear before any process starts.
        ref: Reference by which the processes load it.
        burst: Whether to end when the queues are empty.
        name: Prefix of the names of its processes; default: the host's name.
        wait_for: Seconds to wait at the start for engines that do not answer.
        manager: The service manager to notify, if there is one.
        prefork: Processes that are already there; others are started.
    """

    def __init__(
        self,
        app: Queuekit,
        ref: AppRef,
        *,
        burst: bool = False,
        name: str | None = None,
        wait_for: float = WAIT_FOR,
        manager: ServiceManager | None = None,
        prefork: Prefork | None = None,
    ) -> None:
        self.app, self._ref = app, ref
        self._burst, self._name = burst, name
        self._wait_for = wait_for
        self._notifier: socket.socket | None = None
        """What wakes the wait for news."""
        self._settings = app.config.worker
        self._portable = app.runtime.broker.capabilities.portable_leases
        self._children: dict[int, _Child] = {}
        self._restarts: dict[int, tuple[float, int]] = {}
        """Process number to the time of its restart and its number of quick deaths in a row."""
        self._deaths: dict[int, tuple[int, int]] = {}
        """Process number to its quick deaths in a row, and its starts in a row that failed by themselves."""
        self._recycled_at = -math.inf
        """Monotonic time of the last replacement that took a number."""
        self._drained = 0
        """Processes that ended because an operator drained them."""
        self._signals, self._obeyed = 0, 0
        self._signalled = float("-inf")
        """Monotonic time of the last signal that counted."""
        self._deadline: float | None = None
        self._code = 0
        self._suspects: set[int] = set()
        """Numbers of processes that crashed while they ran bodies, and are not restarted yet."""
        self._next_look = 0.0
        """Monotonic time of the next check for silent processes."""
        self._helpers: list[threading.Thread] = []
        self._manager, self._prefork = manager or ServiceManager({}), prefork or Prefork()
        self._probes = Probes(processes=self._settings.processes, patience=self._settings.stuck_after)
        self._server: HealthServer | None = None

    def run(self) -> int:
        """Work until a signal, or in a burst until the queues are empty.

        Returns:
            0, or 130 after a second signal, or 1 if a process cannot be kept running.

        Raises:
            UnavailableError: An engine did not answer within *wait_for* seconds.
            ConfigError: The port for health probes is in use.
        """
        with self._probed():
            return self._run()

    @contextmanager
    def _probed(self) -> Iterator[None]:
        """Answer health probes, if there is a port for them."""
        port = self._settings.health_port
        if port is None:
            yield
            return
        self._server = HealthServer(port, self._probes.answer)
        try:
            yield
        finally:
            self._server.close()

    def _run(self) -> int:
        require(self.app.runtime, self.app.tasks, self.app.declared)
        self.app.plugins.call("queuekit_worker_boot", raising=True, worker=self)
        with _signals(self._signal) as (wake, self._notifier):
            if self._engines_answer(wake):
                self.app.events.emit(WorkerStarted(lines=self.banner()))
                for number in range(self._settings.processes):
                    self._start(number)
            self._prefork.close()  # the app may want fewer than the config
            self._obey()
            while self._children or self._restarts:
                self._turn(wake)
            self._tick()
        for helper in self._helpers:
            helper.join(self._left())
        # Close in a thread: a call to an engine that does not answer may not be interruptible.
        closing = threading.Thread(target=self.app.close, name="queuekit-close", daemon=True)
        closing.start()
        closing.join(None if self._deadline is None else min(_LONGEST_CLOSE, self._left() or 0.0))
        return self._code

    def _left(self) -> float | None:
        """Return how many seconds are left of a stop; ``None`` without a limit."""
        return None if self._deadline is None else max(_LAST, self._deadline - time.monotonic())

    def stop(self, *, at_once: bool = False) -> None:
        """Stop as after one signal, or with *at_once* as after a second one; may be called from any thread."""
        self._signals += 2 if at_once else 1
        self._ring()

    def _ring(self) -> None:
        if self._notifier is not None:
            with suppress(OSError):  # full: the wait wakes up anyway; or closed: the supervisor has ended
                self._notifier.send(b"\0")

    def _engines_answer(self, wake: socket.socket) -> bool:
        """Wait until broker and backend answer; return false if a signal arrives first.

        Raises:
            UnavailableError: They did not answer in time, or waiting cannot fix the problem.
        """
        deadline = time.monotonic() + self._wait_for
        outage = Outage(self.app.runtime, doing="start", first=_FIRST_PAUSE, longest=_LONGEST_ENGINE_PAUSE)
        while not self._signals:
            self._tick()
            error = self._ask_engines(wake)
            left = deadline - time.monotonic()
            if error is None:
                if not self._signals:  # after a signal, the engines may not have answered
                    outage.over()
                break
            if left <= 0 or not isinstance(error, UnavailableError) or not error.passing:
                raise error
            wait([wake], min(left, outage.failed(error.what)))
        return not self._signals

    def _ask_engines(self, wake: socket.socket) -> BaseException | None:
        """Return the error of an engine; ``None`` if all answered, or a signal arrived first."""
        found: list[BaseException] = []

        def ask() -> None:
            try:
                admin = Admin(self.app)
                admin.ping()
                found_unserved = admin.unserved_by(self._settings.queues)
                if found_unserved:
                    self.app.events.emit(QueuesUnserved(lines=tuple(found_unserved)))
            except BaseException as error:  # noqa: BLE001 - raised again by the waiting thread
                found.append(error)
            self._ring()

        thread = threading.Thread(target=ask, name="queuekit-ping", daemon=True)
        thread.start()
        while thread.is_alive() and not self._signals:
            self._tick()
            if wait([wake], _LAST):
                with suppress(BlockingIOError):
                    wake.recv(100)
        return found[0] if found else None

    def banner(self) -> tuple[str, ...]:
        """Return the lines to log at the start, without passwords."""
        runtime, settings = self.app.runtime, self._settings
        queues = ", ".join(f"{name} x{weight:g}" for name, weight in settings.queues.items())
        tasks = ", ".join(sorted(self.app.tasks)) or "none"
        return (
            f"queuekit worker   {self._ref.target}   pid {os.getpid()}",
            f"broker   {runtime.broker_url}   results {runtime.backend_url or 'none'}",
            f"tasks    {tasks}",
            f"queues   {queues}   {_slots(settings)}",
            *([] if self._server is None else [f"health   {self._server.address}"]),
        )

    # -- main loop

    def _turn(self, wake: socket.socket) -> None:
        """Wait for an event and act on it."""
        pipes = {child.pipe: child for child in self._children.values()}
        ready = wait([*pipes, wake], self._until_next())
        for source in ready:
            if source is wake:
                with suppress(BlockingIOError):
                    wake.recv(100)
                self._obey()
            elif isinstance(source, Connection):
                self._hear(pipes[source])
        self._reap()
        self._start_again()
        self._kill_overdue()
        self._look_after()
        self._tick()

    def _tick(self) -> None:
        """Say to the probes and to the service manager how things are."""
        if self._server is None and not self._manager:
            return
        now, stopping = time.monotonic(), bool(self._signals)
        facts = [
            ProcessFacts(
                name=child.name or f"process {child.number}",
                ready=child.ready and not child.drains and not child.recycled and child.run_table.last_beat > 0,
                silent=child.still.look(child.run_table.last_beat or None, now),
                pulse=child.run_table.pulse,
            )
            for child in self._children.values()
        ]
        drained = self._drained + sum(child.drains and not child.recycled for child in self._children.values())
        self._probes.tick(facts, stopping=stopping, drained=drained)
        alive, _ = self._probes.live()
        self._manager.report(ready=self._probes.started, stopping=stopping, alive=alive)

    def _reap(self) -> None:
        """Clean up after dead processes whose pipes are still open, because programs that they started hold copies."""
        for child in list(self._children.values()):
            if child.process.poll() is not None:
                self._handle_exit(child)

    def _start_again(self) -> None:
        """Restart the processes whose pause after a death is over.

        In a burst, only when what the dead ones held is back in its queue: a new process would find the queue empty,
        and end.
        """
        if self._burst and any(helper.is_alive() for helper in self._helpers):
            return
        for number, (moment, _) in list(self._restarts.items()):
            if time.monotonic() >= moment:
                del self._restarts[number]
                if self._is_wanted(number):
                    self._start(number)

    def _kill_overdue(self) -> None:
        """Kill the processes that have not ended before the deadline of a stop."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            for child in self._children.values():
                child.overdue = True
                child.process.kill()

    def _look_after(self) -> None:
        """Kill silent processes that have hung, or that a body past its time limit blocks."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK
        for child in self._children.values():
            child.silence.look(now)
            child.answers.look(child.silence.seconds, child.name)
            if child.answers.doomed:
                _replace(child, child.answers.doomed)
            blamed = child.silence.suspects(now, child.leases)
            if blamed is None or child.blamed is not None:
                continue
            if _is_stopped(child.process.pid):
                if not child.silence.has_lost_leases:
                    child.silence.forget()
                    continue
                blamed = []  # nothing that it runs has stopped it
            child.blamed = blamed
            child.process.kill()
        self._recycle(now)

    # -- recycling

    def _recycle(self, now: float) -> None:
        """Start the replacement of the oldest process that has reached a bound."""
        if self._signals or self._is_recycling(now):
            return
        for child in sorted(self._children.values(), key=lambda one: one.started):
            if self._may_be_recycled(child):
                child.reached = child.bounds.reached(child.run_table.usage, age=now - child.started)
                if child.reached is not None:
                    self._start(self._beside(child.number))
                    return

    def _is_recycling(self, now: float) -> bool:
        """Return whether a replacement starts, or the process that was replaced last still ends.

        One that does not end in the time of a stop does not keep others from being recycled: its body may never end.
        """
        first = self._settings.processes
        others = [child for child in self._children.values() if child.number >= first]
        if any(number >= first for number in self._restarts) or not all(child.recycled for child in others):
            return True
        return bool(others) and now < self._recycled_at + self._settings.drain

    def _may_be_recycled(self, child: _Child) -> bool:
        """Return whether *child* works in its place, and none that worked there before still does."""
        works = child.number < self._settings.processes and child.ready and not child.drains and child.blamed is None
        return works and self._beside(child.number) not in self._children

    def _beside(self, number: int) -> int:
        """Return the number of a second process in the place of process *number*, and that of the first from this."""
        return (number + self._settings.processes) % (2 * self._settings.processes)

    def _is_wanted(self, number: int) -> bool:
        """Return whether a process is to be started with *number*; a replacement only as long as what it replaces."""
        other = self._children.get(self._beside(number))
        replaces = other is not None and other.reached is not None and not other.drains
        return replaces or number < self._settings.processes

    def _take_place(self, child: _Child) -> None:
        """Give a replacement that takes messages the number of the process that it replaces, and let that one end."""
        if child.number < self._settings.processes:
            return
        old = self._children.get(self._beside(child.number))
        if old is None or self._signals or not self._is_wanted(child.number) or old.reached is None:
            _say(child, Stop("nothing is left for it to replace"))
            return
        child.number, old.number, old.recycled = old.number, child.number, True
        self._children |= {one.number: one for one in (child, old)}
        self._recycled_at = time.monotonic()
        self._deaths.pop(old.number, None)
        _say(old, Recycle(old.reached.reason))
        self.app.events.emit(WorkerRecycled(worker=old.name, replacement=child.name, **attrs.asdict(old.reached)))

    def _until_next(self) -> float | None:
        moments = [moment for moment, _ in self._restarts.values()]
        if self._children:
            moments.append(self._next_look)
        if self._server is not None or self._manager:
            moments.append(time.monotonic() + min(LOOK, self._manager.pause or LOOK))
        if self._deadline is not None:
            moments.append(self._deadline)
        return max(0.01, min(moments) - time.monotonic()) if moments else None

    def _hear(self, child: _Child) -> None:
        try:
            word = child.pipe.recv()
        except (EOFError, OSError):
            self._handle_exit(child)
            return
        if isinstance(word, Ready):
            child.ready, child.name = True, word.name
        elif isinstance(word, Serves):
            self._take_place(child)
        elif isinstance(word, Drains):
            child.drains = True
        elif isinstance(word, Replacement):
            _replace(child, word.reason)

    # -- signals

    def _signal(self, *_: Any) -> None:
        """Count a signal; signals within a second count as one: a terminal and a process manager may both send it."""
        now = time.monotonic()
        if now - self._signalled >= ONE_SIGNAL:
            self._signalled = now
            self._signals += 1

    def _obey(self) -> None:
        """Stop gently at the first signal, at once at the second."""
        if self._signals == self._obeyed:
            return
        self._obeyed = self._signals
        at_once = self._signals > 1
        self._code = 130 if at_once else self._code
        self._restarts.clear()
        grace = 1.0 if at_once else max(self._settings.drain, LEAST_STOP) - _BEFORE
        self._deadline = time.monotonic() + grace
        for child in self._children.values():
            _say(child, Stop("a second signal" if at_once else "a signal", at_once=at_once))

    # -- start and end of processes

    def _start(self, number: int) -> None:
        try:
            child = self._make(number)
        except OSError as error:
            self._again(number, f"cannot start: {error}", ready=False, lived=0.0)
            return
        self._children[number] = child
        child.bounds = Bounds.of(self._settings, self.app.runtime.random.random)
        if child.renewer is not None:
            child.renewer.start()
        log = self.app.config.log
        suspects = number in self._suspects and self._settings.pool != "process" and not self._is_helped(number)
        self._suspects.discard(number)
        _say(child, Start(self._ref, self._burst, child.run_table.count, log.level, log.format, suspects, self._name))

    def _is_helped(self, number: int) -> bool:
        """Return whether another process can already take the suspects of process *number*."""
        return any(child.ready for child in self._children.values() if child.number != number)

    def _make(self, number: int) -> _Child:
        """Return a new process, which waits for its :class:`Start`."""
        rows = 2 * self._settings.concurrency
        size = RunTable.size(rows)
        with ExitStack() as undo:
            stacks = undo.enter_context(closing(StackFile(stack_memory())))
            with _memory(size, least=size) as table, _memory(LeaseTable.SIZE, least=LeaseTable.LEAST) as book:
                run_table = undo.enter_context(closing(RunTable(rows, fileno=table)))
                leases = undo.enter_context(closing(LeaseTable(fileno=book, size=0)))
                files = (table, book, stacks.fileno)
                process, here = self._prefork.start(files) or _spawn(*files)
                pipe = Connection(here.detach())
            undo.pop_all()
        answers = SilentAnswers(
            self.app.runtime,
            pid=process.pid,
            run_table=run_table,
            leases=leases,
            stacks=stacks,
            is_stopped=lambda: _is_stopped(process.pid),
        )
        longest = math.inf if self._portable else self.app.runtime.lease
        child = _Child(
            number, process, pipe, run_table, leases, None, answers, time.monotonic(), longest_silence=longest
        )
        if self._portable:
            child.renewer = LeaseRenewer(
                self.app.runtime,
                leases,
                lease=self.app.runtime.lease,
                on_lost=lambda serials: _say(child, Lost(serials)),
                may_extend=lambda leases: _renewable(child, leases),
            )
        return child

    def _handle_exit(self, child: _Child) -> None:
        """Clean up after a process that ended, and restart it if it was not told to stop."""
        del self._children[child.number]
        code = child.process.wait()
        held = child.leases.held()
        how = _how_it_ended(child, code, held)
        if _entered(child):
            self._suspects.add(child.number)
            for other in self._children.values():
                _say(other, Crashed())
        child.pipe.close()
        # From here on the memory shared with it belongs to the helper.
        died = code not in (0, DRAINED)
        helper = threading.Thread(target=self._clear_up, args=(child, held), kwargs={"died": died}, daemon=True)
        self._helpers = [*(one for one in self._helpers if one.is_alive()), helper]
        helper.start()
        self._judge(child, code, how)

    def _clear_up(self, child: _Child, held: list[HeldLease], *, died: bool) -> None:
        """Hand back the messages of a dead process, and release the memory shared with it."""
        answered = child.answers.close()
        stopped = (child.renewer is None or child.renewer.stop()) and answered
        if held:
            self._hand_back(child, held)
        if died:
            self._take_from_list(child)
        if stopped:  # otherwise another thread may still read the memory
            child.run_table.close()
            child.leases.close()

    def _judge(self, child: _Child, code: int, how: str) -> None:
        """Restart *child* unless the supervisor is stopping; while stopping, record a bad exit."""
        if self._signals:
            if self._signals == 1 and code not in _ENDED_AS_TOLD and not (child.overdue or child.replaced):
                self._code = self._code or 1
        elif child.number >= self._settings.processes:
            self._judge_extra(child, code, how)
        elif code == DRAINED:
            self._drained += 1
        elif child.drains:
            self._drained += 1
            self.app.events.emit(WorkerCrashed(name=child.name, how=how, again_in=None))
        elif code != 0 or not self._burst:
            lived = time.monotonic() - child.started
            self._again(child.number, how, ready=_could_start(child, code), lived=lived, name=child.name)

    def _judge_extra(self, child: _Child, code: int, how: str) -> None:
        """Report a bad end of a process that was recycled, and try again to start a replacement that is wanted.

        In a burst, its replacement may have found the queues empty and ended: another one takes what goes back to them.
        """
        if code in (0, DRAINED):
            return
        place = self._beside(child.number)
        if self._burst and child.recycled and not child.drains and place not in self._children:
            self._again(place, how, ready=True, lived=time.monotonic() - child.started, name=child.name)
            return
        if child.recycled or not self._is_wanted(child.number):
            self.app.events.emit(WorkerCrashed(name=child.name or "a replacement", how=how, again_in=None))
            return
        name = f"the replacement of {self._children[place].name}"
        self._again(child.number, how, ready=child.ready, lived=0.0, name=name)

    def _again(self, number: int, how: str, *, ready: bool, lived: float, name: str = "") -> None:
        """Restart a process after a growing pause; give up, with an event, on one that cannot start."""
        deaths, failed = self._deaths.get(number, (0, 0))
        deaths, failed = 0 if ready and lived > _QUICK_DEATH else deaths + 1, 0 if ready else failed + 1
        self._deaths[number] = deaths, failed
        if failed >= _TRIES and number < self._settings.processes:
            self.app.events.emit(WorkerGaveUp(number=number, how=how, tries=failed))
            self._code = 1
            return
        pause = min(_LONGEST_PAUSE, 0.1 * 2.0**deaths) if deaths > 1 or not ready else 0.0
        self.app.events.emit(WorkerCrashed(name=name or f"process {number}", how=how, again_in=pause))
        self._restarts[number] = (time.monotonic() + pause, deaths)

    def _hand_back(self, child: _Child, held: list[HeldLease]) -> None:
        """Release the messages of a dead process at once; count a crash only if the body had been entered.

        A body in a process of its own did not end the worker: it gets no crash mark. If only the process that claimed
        a message can settle it, its leases end with its connections, and only the marks remain to be written.
        """
        entered = _entered(child)
        deliveries = [(held_lease, _delivery(held_lease)) for held_lease in held]
        releases = [Release(delivery, counted=held_lease.serial in entered) for held_lease, delivery in deliveries]
        broker = self.app.runtime.broker
        try:
            self._mark([pair for pair in deliveries if pair[0].serial in entered])
            size = broker.limits.max_batch
            for first in range(0, len(releases) if self._portable else 0, size):
                broker.settle(releases[first : first + size])
        except UnavailableError as error:
            lease = self.app.runtime.lease
            self.app.events.emit(EngineDown(doing="hand messages back", error=error.what, retry_in=lease))

    def _take_from_list(self, child: _Child) -> None:
        """Delete the presence record of a process that died, which would be listed as working until it expires."""
        backend = self.app.runtime.backend
        if backend is not None and child.name:
            with suppress(UnavailableError):
                backend.delete([worker_key(child.name)])

    def _mark(self, inside: list[tuple[HeldLease, Delivery]]) -> None:
        """Write the marks of bodies that a crash ended, and delete those of bodies in processes of their own.

        A confirmed mark stays: that body had ended its own process before the worker died.
        """
        backend = self.app.runtime.backend
        entered_marks = [entered_mark(delivery) for held_lease, delivery in inside if not held_lease.apart]
        apart_marks = [entered_mark(delivery).key for held_lease, delivery in inside if held_lease.apart]
        if backend is not None and entered_marks:
            backend.put(entered_marks)
        if backend is not None and apart_marks:
            backend.delete(unconfirmed(backend.get(apart_marks)))


@contextmanager
def _memory(size: int, *, least: int) -> Iterator[int]:
    """Yield the descriptor of an unnamed file of *size* bytes, or of *least* bytes if the system allows no more."""
    number = _in_memory(size, least) if sys.platform == "linux" else None
    if number is None:
        with tempfile.TemporaryFile() as file:
            file.write(bytes(least))  # not sparse: on a full disk, access to a hole would kill the process
            file.flush()
            number = os.dup(file.fileno())
    try:
        yield number
    finally:
        os.close(number)


def _in_memory(size: int, least: int) -> int | None:
    """Return the descriptor of a file in memory; ``None`` if the system does not support that."""
    try:
        number = os.memfd_create("queuekit")
    except OSError:
        return None
    try:
        os.ftruncate(number, size)
    except OSError:  # the process has a lower limit on file sizes
        os.ftruncate(number, least)
    return number


def _spawn(*files: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a worker process with the signals of a whole group blocked until it handles them.

    Returns:
        The process, and the supervisor's end of its pipe.
    """
    here, there = socket.socketpair()
    numbers = (there.fileno(), *files)
    command = [sys.executable, "-m", "queuekit.worker.child", *map(str, (*numbers, os.getpid()))]
    with there, ExitStack() as undo:
        undo.enter_context(here)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, children.STOPS)
        try:
            process = subprocess.Popen(  # noqa: S603 - the interpreter that runs this
                command, pass_fds=numbers, stdin=subprocess.DEVNULL
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        undo.pop_all()
    return process, here


def _renewable(child: _Child, leases: list[HeldLease]) -> list[HeldLease]:
    """Return the leases to renew: not those of a stopped process, nor of bodies past their time limit."""
    if _is_stopped(child.process.pid):
        return []
    entered, now = child.run_table.entered(), time.monotonic()
    return [
        held_lease
        for held_lease in leases
        if held_lease.serial not in entered or now < entered[held_lease.serial].limit + _OVERTIME
    ]


def _is_stopped(pid: int) -> bool:
    """Return whether a process is stopped by a signal; false if the system does not report it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:
        return False
    return state in (b"T", b"t")


def _delivery(held_lease: HeldLease) -> Delivery:
    """Return a delivery with the fields that a release and a mark need, but no body."""
    lease = held_lease.lease
    envelope = Envelope(
        id=lease.id, queue=lease.queue, body=b"", generation=held_lease.generation, attempt=held_lease.attempt
    )
    return Delivery(envelope=envelope, token=lease.token, number=lease.number)


def _replace(child: _Child, reason: str) -> None:
    """Kill a process without blaming a body of it; another one starts when it has ended."""
    if child.blamed is None:
        child.replaced, child.blamed = reason, []
        child.process.kill()


def _say(child: _Child, word: object) -> None:
    with suppress(OSError, ValueError):
        child.pipe.send(word)


def _entered(child: _Child) -> Collection[int]:
    """Return the serials of the bodies that may have caused the end of a process."""
    if child.overdue:
        return ()
    return child.run_table.entered() if child.blamed is None else child.blamed


def _could_start(child: _Child, code: int) -> bool:
    """Return whether *child* was ready, or was killed from outside before it could be: its start did not fail."""
    return child.ready or (code in (-signal.SIGKILL, -signal.SIGTERM) and child.blamed is None)


def _how_it_ended(child: _Child, code: int, held: Sequence[HeldLease]) -> str:
    """Return how a process that held *held* ended, in words."""
    if child.replaced:
        return f"was killed: {child.replaced}"
    if child.blamed is None:
        ran = [held_lease.id for held_lease in held if held_lease.serial in _entered(child)]
        return f"{_how(code)}{_while_it_ran(ran)}"
    silent = f"sent no heartbeat for {child.silence.seconds:.0f} s"
    if not child.blamed:
        return f"{silent} and was killed"
    ids = [held_lease.id for held_lease in held if held_lease.serial in child.blamed]
    outlived = child.silence.has_lost_leases
    did = "held the interpreter for longer than its lease" if outlived else "ran past its time limit"
    return f"{silent} while {', '.join(ids) or 'a task'} {did}, and was killed"


def _while_it_ran(ids: Sequence[str]) -> str:
    """Name the messages whose bodies may have ended their process: nothing else in the log does."""
    if not ids:
        return ""
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return f" while it ran {', '.join(ids[:_NAMED])}{more}"


def _how(code: int) -> str:
    """Return an exit code in words."""
    if code == DEAF:
        return "could not go on"
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    return f"killed by {name}" + (", perhaps out of memory" if name == "SIGKILL" else "")


@contextmanager
def _signals(handler: Callable[..., object]) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Call *handler* on the signals that stop a program. These and SIGCHLD wake a wait on the first yielded socket.

    Writing to the second socket wakes it as well.

    Outside the main thread, no signal handler is installed: signals belong to the surrounding program.
    """
    here, there = socket.socketpair()
    for end in (here, there):
        end.setblocking(False)  # noqa: FBT003 - the name of the method says what is true
    with here, there:
        if threading.current_thread() is not threading.main_thread():
            yield here, there
            return
        handlers = {**dict.fromkeys(children.stop_signals(), handler), signal.SIGCHLD: lambda *_: None}
        before = [(number, children.listen(number, each)) for number, each in handlers.items()]
        old = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
        try:
            yield here, there
        finally:
            signal.set_wakeup_fd(old)
            for number, previous in before:
                children.restore(number, previous)


def _slots(settings: WorkerConfig) -> str:
    """Return how many tasks run at a time, and in what, as text."""
    processes, slots = settings.processes, settings.concurrency
    workers = f"{processes} worker process{'es' if processes > 1 else ''}"
    kind = {"thread": "thread", "process": "child process"}[settings.pool]
    plural = "" if slots == 1 else "es" if kind.endswith("s") else "s"
    return f"{workers} x {slots} {kind}{plural}"
