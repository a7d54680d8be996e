"""Watch the running messages: enforce time limits, look for cancel marks, and record the worker's presence."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from queuekit.backend import Backend, Condition, Record
from queuekit.client.runtime import Runtime
from queuekit.control import Cancelled, Interruption, TaskTimeout
from queuekit.errors import UnavailableError
from queuekit.execution.executor import Executor
from queuekit.execution.outcome import Outcome, Run
from queuekit.execution.time_limit import Guard
from queuekit.logs.errors import log_error
from queuekit.wire.position import graph_of
from queuekit.wire.presence import EVERY, TTL
from queuekit.wire.records import CANCEL_TTL, Cancellation, cancel_key, cancel_mark, read_cancellation, worker_key
from queuekit.wire.stacks import ask_key, token_of
from queuekit.worker.hand_back import LOOK as HAND_BACK
from queuekit.worker.limit import GRACE, LONGEST_PATIENCE

__all__ = ["Watchdog"]

_logger = logging.getLogger("queuekit.worker")
_PATIENCE = 1.0
"""Seconds that the start waits for the first presence record to be written."""
_LOOK = 1.0
"""Seconds between two reads of cancel marks."""
_IDLE_LOOK = 1.9
"""Seconds between two reads of the standing records while nothing runs; it is said to take less than two."""
_QUICK_POLL = 0.1
"""Seconds between two checks while a run with a time limit is in flight and may start at any moment."""


class Watchdog:
    """One thread that wakes once a second while something runs, and otherwise to read the standing records.

    Args:
        runtime: Backend, clock.
        executor: Decides for runs that are given up.
        in_flight: Returns all runs in flight.
        in_threads: Returns those in threads, each with its row.
        give_up: Called with the row of a thread that does not return in time, and its run.
        thread_of: Returns the identifier of the thread of a row.
        is_apart: Returns whether the body of a run is in a process of its own.
        cancel: Cancels the coroutine of a run on its loop; returns whether the run belongs there.
        deliver: Called with the outcome of a run that was given up.
        about: Constant fields of the worker's presence record.
        hand_back: Called at each check with the monotonic time; hands back messages that cannot start soon, and
            returns whether to check again soon.
        facts: Returns further fields of the presence record, each time anew.
        bodies: Returns the runs in threads and on the event loop, including those that were given up.
        replace: Ends this process for a reason, so that its supervisor starts another; ``None`` without a supervisor.
        answer: Called with requests for stacks: the runs that they are about, by token.
        standing: Records to read along with the marks, also while nothing runs, each with what is called with it.
        upkeep: Called after each of these reads.
    """

    def __init__(
        self,
        runtime: Runtime,
        executor: Executor,
        *,
        in_flight: Callable[[], list[Run]],
        in_threads: Callable[[], list[tuple[int, Run]]],
        give_up: Callable[[int, Run], None],
        thread_of: Callable[[int], int],
        is_apart: Callable[[Run], bool],
        cancel: Callable[[Run], bool],
        deliver: Callable[[Outcome], None],
        about: dict[str, Any],
        hand_back: Callable[[float], bool] = lambda _: False,
        facts: Callable[[], Mapping[str, Any]] = dict,
        bodies: Callable[[], list[Run]] = list,
        replace: Callable[[str], None] | None = None,
        answer: Callable[[Mapping[str, Run]], None] = lambda _: None,
        standing: Mapping[str, Callable[[Record | None], None]] | None = None,
        upkeep: Callable[[], None] | None = None,
    ) -> None:
        self._runtime = runtime
        self._executor = executor
        self._in_flight, self._in_threads, self._bodies = in_flight, in_threads, bodies
        self._give_up, self._thread_of = give_up, thread_of
        self._is_apart = is_apart
        self._cancel = cancel
        self._deliver = deliver
        self._about, self._facts = about, facts
        self._hand_back = hand_back
        self._replace = replace
        self._answer = answer
        self._standing, self._upkeep = standing or {}, upkeep
        self._looked = -math.inf
        self._nap = _IDLE_LOOK if self._standing and runtime.backend is not None else EVERY
        self._stopped = threading.Event()
        self._awake = threading.Event()
        self._presented = threading.Event()
        self._next_presence = 0.0
        self.thread = threading.Thread(target=self._loop, name="queuekit-watchdog", daemon=True)

    def start(self) -> None:
        """Start, and wait briefly until the presence record is written, so that commands see this worker."""
        self.thread.start()
        self._presented.wait(_PATIENCE)

    def wake(self) -> None:
        """Wake the thread, since something is in flight."""
        if not self._awake.is_set():
            self._awake.set()

    def report(self) -> None:
        """Write the presence record soon, since what it says has changed."""
        self._next_presence = 0.0
        self._awake.set()

    def stop(self) -> None:
        """Stop, and delete the presence record."""
        self._stopped.set()
        self._awake.set()
        self.thread.join(timeout=5)
        backend = self._runtime.backend
        if backend is not None:
            self._quietly(lambda: backend.delete([worker_key(self._about["name"])]))

    def _loop(self) -> None:
        self._quietly(self._look)
        while not self._stopped.is_set():
            self._quietly(self._present)
            self._presented.set()
            if not self._in_flight():
                self._awake.clear()
                # Check again: a run that arrived before the clear would otherwise be missed.
                if not self._in_flight() and not self._stopped.is_set():
                    self._rest()
                    continue
            self._until_next_look()
            self._quietly(self._look)

    def _rest(self) -> None:
        """Sleep until something runs or is to be reported, or until it is time to read the standing records."""
        # Runs that are shorter than the pause between two reads must not put the next read off.
        due = self._looked + self._nap
        self._awake.wait(max(0.0, due - time.monotonic()))
        if time.monotonic() >= due:
            self._quietly(self._look)

    def _until_next_look(self) -> None:
        """Enforce time limits until it is time to read marks again."""
        clock = self._runtime.clock
        look, limits = clock.monotonic() + _LOOK, 0.0
        while not self._stopped.is_set():
            now = clock.monotonic()
            if now >= limits:
                limits = self.enforce(now)
            pause = min(look, limits, now + HAND_BACK if self._hand_back(now) else look) - clock.monotonic()
            if self._stopped.wait(max(0.005, pause)) or clock.monotonic() >= look:
                return

    def enforce(self, now: float) -> float:
        """End the runs that exceed their time limit; return the monotonic time of the next check."""
        limited = any(run.limit is not None and run.started is None for run in self._in_flight())
        nearest = now + (_QUICK_POLL if limited else _LOOK)
        ends = [self._limit(row, run, now) for row, run in self._in_threads()]
        return min([nearest, *ends, *(self._end(run, now) for run in self._bodies() if run.time_limit is not None)])

    def _end(self, run: Run, now: float) -> float:
        """End the process of a body that exceeds its hard limit; return when to check it again.

        Without a supervisor nothing would replace the process: the outcome is decided, and the body goes on.
        """
        if run.time_limit is None or run.started is None or run.ends_process or self._is_apart(run):
            return math.inf
        if now < run.started + run.time_limit:
            return run.started + run.time_limit
        why = f"{run.message.task} {run.message.id} ran longer than its time limit of {run.time_limit:g} s"
        run.ends_process = why
        if run.claim():
            run.context.cancel()
            self._deliver(
                self._executor.raised(run, TaskTimeout(f"ran longer than {run.time_limit:g} s and was ended"))
            )
        elif self._replace is not None:  # its outcome was decided at its timeout
            self._replace(why)
        return math.inf

    def _limit(self, row: int, run: Run, now: float) -> float:
        """Interrupt a run that exceeds its time limit, and finally give it up; return when to check it again."""
        guard = run.guard
        if guard is None or run.started is None:
            return math.inf
        deadline = math.inf if run.timeout is None else run.started + run.timeout
        if now < deadline:
            return min(deadline, self._insist(run, guard, now))
        if now >= guard.again:
            run.context.cancel(lambda: self._fire(guard, now, TaskTimeout))
        if now >= deadline + GRACE:
            self._leave(row, run)
        return guard.again

    def _leave(self, row: int, run: Run) -> None:
        """Decide the outcome unless it is already decided; in any case the thread is lost."""
        self._give_up(row, run)
        if run.claim():
            error = TaskTimeout(
                f"ran longer than {run.timeout:g} s and does not stop; its thread is lost until it ends"
            )
            self._deliver(self._executor.raised(run, error))

    def _insist(self, run: Run, guard: Guard, now: float) -> float:
        """Interrupt a body again that goes on after its message was cancelled; return when to do so next."""
        if run.cancellation is None:
            return math.inf
        if now >= guard.again:
            self._fire(guard, now, Cancelled)
        return guard.again

    def _fire(self, guard: Guard, now: float, kind: type[Interruption]) -> bool:
        guard.again = now + min(GRACE * 2.0**guard.fired, LONGEST_PATIENCE)
        return guard.fire(kind)

    def _runs_by_mark(self) -> dict[str, list[Run]]:
        """Return the runs in flight by the marks that would cancel them: one of its own, one of its workflow."""
        runs: dict[str, list[Run]] = {}
        for run in self._in_flight():
            if (run.cancellation is None or not run.cancellation.hard) and not run.context.lost:
                for id in filter(None, (run.message.id, graph_of(run.message.id))):
                    runs.setdefault(cancel_key(id), []).append(run)
        return runs

    def _look(self) -> None:
        """Read the standing records, cancel marks, and requests for stacks of running bodies, in one round trip."""
        self._looked = time.monotonic()
        backend = self._runtime.backend
        runs = self._runs_by_mark()
        if backend is None:
            return
        self._report(backend)
        started = [run for run in self._in_flight() if run.started is not None and not run.decided]
        asked = {ask_key(run.message.id): run for run in started}
        keys = [*self._standing, *runs, *asked]
        marks = backend.get(keys) if keys else {}
        for key, observe in self._standing.items():
            observe(marks.get(key))
        requests = {token_of(marks[key]): run for key, run in asked.items() if key in marks}
        if requests:
            self._answer(requests)
        for key, mark in marks.items():
            for run in runs.get(key, ()):
                self._stop_run(run, read_cancellation(mark))
        if self._upkeep is not None:
            self._upkeep()

    def _stop_run(self, run: Run, wish: Cancellation) -> None:
        """Cancel *run*, whose message has a cancel mark, or kill it."""
        known, run.cancellation = run.cancellation, wish if run.cancellation is None or wish.hard else run.cancellation
        if wish.hard and run.started is not None and not self._is_apart(run) and self._replace is not None:
            self._kill(run, f"{run.message.id} was killed by {wish.by}")
        elif known is None and not self._cancel(run):
            run.context.cancel(lambda: self._raise_in(run))

    def _kill(self, run: Run, why: str) -> None:
        """End the process that runs a body, which is cancelled, as soon as its outcome is written."""
        if run.claim():
            run.context.cancel()
            run.did, run.ends_process = "killed", why
            self._deliver(self._executor.cancelled(run))

    def _raise_in(self, run: Run) -> None:
        """Interrupt the body of *run*, whose message was cancelled, if it runs in a thread."""
        for row, each in self._in_threads():
            if each is run and not self._is_apart(run):
                guard = run.reach(self._thread_of(row))
                if guard is not None and self._fire(guard, self._runtime.clock.monotonic(), Cancelled):
                    run.did = "raised"

    def _report(self, backend: Backend) -> None:
        """Record what was done to cancel bodies that are still running; the outcome records it for the others."""
        marks = []
        for run in self._in_flight():
            wish = run.cancellation
            if wish is not None and run.started is not None and not run.reported and not run.decided:
                run.reported = True
                run.context.cancel()  # of a coroutine that has not seen it by now: its loop is blocked
                wish = attrs.evolve(wish, did=run.did or "asked", worker=self._about["name"])
                marks.append(cancel_mark(run.message.id, ttl=CANCEL_TTL, wish=wish))
        if marks:
            backend.put(marks, condition=Condition.NEWER)

    def _present(self) -> None:
        now = self._runtime.clock.monotonic()
        backend = self._runtime.backend
        if backend is None or now < self._next_presence:
            return
        self._next_presence = now + EVERY
        body = json.dumps({**self._about, **self._facts(), "running": len(self._in_flight())}).encode()
        backend.put([Record(key=worker_key(self._about["name"]), body=body, ttl=TTL)])

    def _quietly(self, call: Callable[[], object]) -> None:
        """Call *call*; ignore a backend that does not answer: the fetcher reports it, the next round tries again."""
        try:
            call()
        except UnavailableError:
            return
        except BaseException:  # noqa: BLE001 - time limits depend on this thread
            log_error(_logger, "unexpected error in the watchdog")
