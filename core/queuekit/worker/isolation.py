"""Bodies in processes of their own: for suspects of a crash (QK6), and for tasks that must be killable.

The processes are forked by a small server that has imported the app and runs no threads, so one costs some ten
milliseconds. A body's process ends when its worker does: it listens on a pipe that only the worker holds.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait

from queuekit.broker import Delivery, Release
from queuekit.client.runtime import Runtime
from queuekit.control import Snooze, TaskTimeout
from queuekit.errors import UnavailableError
from queuekit.execution.executor import Executor
from queuekit.execution.outcome import Outcome, Run
from queuekit.ids import worker_name
from queuekit.wire.records import entered_mark
from queuekit.worker.app_ref import AppRef
from queuekit.worker.forkserver import Forked, ForkServer, Plan
from queuekit.worker.isolated import Idle, not_carried
from queuekit.worker.isolation_gate import IsolationGate
from queuekit.worker.suspect_processes import SuspectProcesses

__all__ = ["Isolation", "server_for_suspects"]

_TICK = 0.1
"""Seconds between two looks at a body's time limit and cancel mark."""
_LONGEST_START = 60.0
"""Seconds that a process may take to load the app."""
_PATIENCE = 2.0
"""Seconds that a suspect waits in its thread for company to leave, before it is put off: most bodies are short."""
_LONGEST_PUT_OFF = 60.0
_IDLE = 10.0
"""Seconds after which a process for suspects ends that no other followed."""


class Isolation:
    """Runs bodies in child processes.

    Args:
        runtime: For the marks of suspects.
        executor: Decides for those that never came back.
        ref: How a child finds the app.
        worker: Name of the worker.
        always: Whether all tasks run so (``pool = "process"``), each thread keeping its process.
        server: Forks, if it was started before.
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
    ) -> None:
        self._runtime = runtime
        self._executor = executor
        self._most = runtime.config.worker.max_deliveries
        self.always = always
        idle = None if always else _IDLE
        self._server = server or ForkServer(Plan(ref=ref, worker=worker, modules=_modules(), idle=idle))
        self._gate = IsolationGate()
        self._suspects: SuspectProcesses[_BodyProcess] | None = None
        self._kept: dict[int, _BodyProcess] = {}
        self._busy: dict[int, tuple[_BodyProcess, Run]] = {}
        self._closed = False

    def serve_suspects(self, submit: Callable[[Sequence[Run]], None], *, most: int) -> None:
        """Have suspects that need another process wait outside the threads; *submit* hands them over again."""
        if not self.always:
            self._suspects = SuspectProcesses(self._spawn, submit=submit, most=most)

    @property
    def waiting(self) -> int:
        """How many suspects wait for a process outside the threads."""
        return 0 if self._suspects is None else self._suspects.waiting

    def may_begin(self, run: Run) -> bool:
        """Return whether a thread may call *run* now; if not, it is submitted again."""
        return self._suspects is None or self._suspects.may_begin(run)

    def forget(self, run: Run) -> None:
        """Hear that *run*, which may begin, will not."""
        if self._suspects is not None:
            self._suspects.forget(run)

    def take_waiting(self) -> list[Run]:
        """Take back the suspects that wait outside the threads."""
        return [] if self._suspects is None else self._suspects.take_waiting()

    def call(self, row: int, run: Run) -> Outcome:
        """Run the body of *run* in another process and decide; blocks the calling thread."""
        run.started = run.ended = self._runtime.clock.monotonic()
        if not run.suspect:
            return self._run(row, run)
        exclusive = run.unseen and run.known_crashes + 1 >= self._most
        if not self._gate.enter(exclusive=exclusive, patience=_PATIENCE):
            self.forget(run)
            return self._executor.raised(run, Snooze(_put_off(run.delivery)))
        try:
            return self._run(row, run)
        finally:
            self._gate.leave(exclusive=exclusive)

    def close(self) -> None:
        """End all processes: those that are kept, and at once those that are busy, which is no fault of their tasks."""
        self._closed = True
        free = [] if self._suspects is None else self._suspects.close()
        for process in [*free, *self._kept.values()]:
            process.close()
        self._kept.clear()
        busy = list(self._busy.values())
        for child, _ in busy:
            child.kill()
        self._server.close()
        self._unmark([run for _, run in busy])

    def _run(self, row: int, run: Run) -> Outcome:
        """Run it in the process that it was given, or that the thread has kept, or in a new one.

        What has crashed before gets a process of its own in any case, so that what another body left behind in a kept
        one can be blamed on it once at most.
        """
        if self._suspects is not None:
            kept = self._suspects.take(run)
        else:
            kept = None if run.known_crashes else self._kept.pop(row, None)
        if kept is not None:
            with contextlib.suppress(_NotBegunError):
                return self._call(kept, row, run)
        return self._call(self._spawn(), row, run)

    def _call(self, child: _BodyProcess, row: int, run: Run) -> Outcome:
        if run.suspect:
            self._mark(run, seen=False)
        self._busy[row] = (child, run)
        if self._closed:
            child.kill()
        try:
            outcome = child.call(run)
        except _NotBegunError:
            child.reap()
            raise
        except _UnreadableError as error:
            outcome = self._executor.decide.failed(run, not_carried(run, error.__cause__ or error))
        finally:
            run.ended = self._runtime.clock.monotonic()
            del self._busy[row]
        if outcome is None:
            child.reap()
            outcome = self._without_answer(child, run)
        else:
            self._keep(child, row, run)
        if isinstance(outcome.settlement, Release) and not outcome.settlement.counted:
            self._unmark([run])
        outcome.run = run
        return outcome

    def _keep(self, child: _BodyProcess, row: int, run: Run) -> None:
        """Keep a process that has answered for others, unless it is to have run this body alone."""
        if run.known_crashes or self._closed:
            child.close()
        elif self._suspects is not None:
            self._suspects.give_back(child)
        else:
            self._kept[row] = child

    def _without_answer(self, child: _BodyProcess, run: Run) -> Outcome:
        """Decide for a body that was killed with its worker, overran its time, or took its process down."""
        if self._closed:
            return self._executor.decide.handed_back(run)
        if child.cancelled:
            return self._executor.cancelled(run)
        if child.overran:
            error = TaskTimeout(f"ran longer than {run.timeout:g} s and was killed")
            return self._executor.raised(run, error)
        crashes = run.known_crashes + 1
        if crashes >= self._most:
            return self._executor.crashed(run, crashes, child.exit_reason())
        self._mark(run, seen=True)
        settlement = Release(run.delivery, delay=min(30.0, 0.5 * 2.0**crashes), counted=True)
        return Outcome(delivery=run.delivery, settlement=settlement, status="crashed")

    def _mark(self, run: Run, *, seen: bool) -> None:
        """Leave the mark that makes a crash known: before the body of a suspect, and again when it was seen."""
        if self._runtime.backend is not None:
            self._runtime.backend.put([entered_mark(run.delivery, seen=seen)])

    def _unmark(self, runs: list[Run]) -> None:
        """Take the marks of bodies away that ended without a crash and whose messages come again."""
        keys = [entered_mark(run.delivery).key for run in runs if run.suspect]
        if keys and self._runtime.backend is not None:
            with contextlib.suppress(UnavailableError):
                self._runtime.backend.delete(keys)

    def _spawn(self) -> _BodyProcess:
        """Return a process that is ready to run a body.

        Raises:
            OSError: There can be no more processes.
            EOFError: It ended before it was ready: the app cannot be loaded.
        """
        child = _BodyProcess(self._server.fork())
        child.wait_until_ready()
        return child


def server_for_suspects(ref: AppRef) -> ForkServer | None:
    """Return a server that begins to import the app at once; ``None`` if it cannot be started now.

    A worker that takes the place of one that has crashed will soon need it: what that has run is suspect.
    """
    server = ForkServer(Plan(ref=ref, worker=worker_name(), modules=_modules(), idle=_IDLE))
    try:
        server.start()
    except OSError:
        return None
    return server


def _modules() -> tuple[str, ...]:
    """Return what the server is to import, so that its children need not: what this process has of queuekit."""
    return tuple(name for name in list(sys.modules) if name.partition(".")[0].startswith("queuekit"))


def _put_off(delivery: Delivery) -> float:
    """Return after how many seconds a suspect asks again for a moment without company; longer each time."""
    return min(_LONGEST_PUT_OFF, 0.5 * 2.0 ** min(delivery.number - delivery.crashes, 10))


class _BodyProcess:
    """One process, as its worker sees it."""

    def __init__(self, process: Forked) -> None:
        self._process = process
        self._pipe = process.pipe
        self.overran = False
        self.cancelled = False

    def wait_until_ready(self) -> None:
        """Return when it has loaded the app; see :meth:`Isolation._spawn`."""
        with contextlib.suppress(EOFError, OSError):
            if wait([self._pipe, self._process.status], _LONGEST_START) and self._pipe.poll():
                self._pipe.recv()
                return
        self.reap()
        raise EOFError(f"a process for tasks could not load the app: it was {self.exit_reason()}")

    def call(self, run: Run) -> Outcome | None:
        """Return the outcome, or ``None`` if the process died or ran too long.

        Raises:
            _NotBegunError: It had ended before it was told what to run.
        """
        deadline = None if run.timeout is None else time.monotonic() + run.timeout
        told = False
        try:
            self._pipe.send(run.delivery)
        except OSError as error:
            raise _NotBegunError from error
        try:
            while not wait([self._pipe, self._process.status], _TICK):
                if run.cancellation is not None:
                    self.cancelled = True
                    run.did = "killed"
                    return None
                if run.context.cancelled and not told:
                    self._pipe.send(None)
                    told = True
                if deadline is not None and time.monotonic() >= deadline:
                    self.overran = True
                    return None
            # After its death the pipe may stay open in a child that the body has left behind.
            answer = self._pipe.recv_bytes() if self._pipe.poll() else None
        except (EOFError, OSError):
            return None
        return None if answer is None else _read(answer)

    def kill(self) -> None:
        """End it at once; from another thread than the one that waits for it."""
        self._process.kill()

    def reap(self) -> None:
        """End it at once, and wait for that."""
        self._process.kill()
        self._process.alive(patience=5)
        self._process.close()

    def close(self) -> None:
        """Let it end: it does when the pipe closes."""
        self._pipe.close()
        if self._process.alive(patience=0.5):
            self._process.kill()
            self._process.alive(patience=5)
        self._process.close()

    def exit_reason(self) -> str:
        """Return how it ended, in words."""
        code = self._process.code
        if code is None or code >= 0:
            return "ended with its fork server" if code is None else f"exited with code {code}"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"


def _read(answer: bytes) -> Outcome:
    """Return the outcome that a process has sent.

    Raises:
        _NotBegunError: It had ended before it was told what to run.
        _UnreadableError: It holds a value of a class that does not let itself be copied.
    """
    try:
        outcome: Outcome | Idle = pickle.loads(answer)  # noqa: S301 - both ends are ours
    except BaseException as error:
        raise _UnreadableError from error
    if isinstance(outcome, Idle):
        raise _NotBegunError
    return outcome


class _UnreadableError(Exception):
    """An outcome cannot be read here."""


class _NotBegunError(OSError):
    """A process had ended, having had nothing to do, before it was told what to run."""
