"""Looks after what runs: time limits, cancel marks, and the worker's own presence."""

from __future__ import annotations

import json
import logging
import math
import threading
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
from queuekit.wire.records import CANCEL_TTL, cancel_key, cancel_mark, read_cancellation, worker_key
from queuekit.worker.hand_back import LOOK as HAND_BACK
from queuekit.worker.limit import GRACE, LONGEST_PATIENCE

__all__ = ["Watchdog"]

_logger = logging.getLogger("queuekit.worker")
_PATIENCE = 1.0
"""Seconds that the start waits for the first sign of life to be written."""
_LOOK = 1.0
"""Seconds between two looks for cancel marks."""
_QUICK_POLL = 0.1
"""Seconds between two looks while a run with a time limit is in flight and may begin at any moment."""


class Watchdog:
    """One thread that wakes once a second while something runs, and every ten while nothing does.

    Args:
        runtime: Backend, clock.
        executor: Decides for runs that are given up.
        in_flight: Returns all runs in flight.
        in_threads: Returns those in threads, each with its row.
        give_up: Called with the row of a thread that does not come back in time, and its run.
        thread_of: Returns the identifier of the thread of a row.
        is_apart: Returns whether the body of a run is in a process of its own.
        cancel: Called with each run to be cancelled.
        deliver: Takes the outcome of a run that was given up.
        about: What the worker says of itself.
        hand_back: Called at each look with monotonic seconds; hands back what cannot begin soon, and returns whether to
            look again soon.
        tell: Returns what it says besides, each time anew.
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
        cancel: Callable[[Run], None],
        deliver: Callable[[Outcome], None],
        about: dict[str, Any],
        hand_back: Callable[[float], bool] = lambda _: False,
        tell: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._runtime = runtime
        self._executor = executor
        self._in_flight = in_flight
        self._in_threads = in_threads
        self._give_up = give_up
        self._thread_of = thread_of
        self._is_apart = is_apart
        self._cancel = cancel
        self._deliver = deliver
        self._about = about
        self._hand_back = hand_back
        self._facts = tell
        self._stopped = threading.Event()
        self._awake = threading.Event()
        self._presented = threading.Event()
        self._next_presence = 0.0
        self.thread = threading.Thread(target=self._loop, name="queuekit-watchdog", daemon=True)

    def start(self) -> None:
        """Begin; who asks now who works knows of this one, unless the backend takes long."""
        self.thread.start()
        self._presented.wait(_PATIENCE)

    def wake(self) -> None:
        """Say that something is in flight."""
        if not self._awake.is_set():
            self._awake.set()

    def stop(self) -> None:
        """End, and take the presence record away."""
        self._stopped.set()
        self._awake.set()
        self.thread.join(timeout=5)
        backend = self._runtime.backend
        if backend is not None:
            self._quietly(lambda: backend.delete([worker_key(self._about["name"])]))

    def _loop(self) -> None:
        while not self._stopped.is_set():
            self._quietly(self._present)
            self._presented.set()
            if not self._in_flight():
                self._awake.clear()
                # What came between the look and the clear would be slept through.
                if not self._in_flight() and not self._stopped.is_set():
                    self._awake.wait(EVERY)
                    continue
            self._until_next_look()
            self._quietly(self._look_for_marks)

    def _until_next_look(self) -> None:
        """Enforce time limits as they come until it is time to look for marks again."""
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
        """End the runs that are over their time and return when to look again, in monotonic seconds."""
        limited = any(run.timeout is not None and run.started is None for run in self._in_flight())
        nearest = now + (_QUICK_POLL if limited else _LOOK)
        return min([nearest, *(self._limit(row, run, now) for row, run in self._in_threads())])

    def _limit(self, row: int, run: Run, now: float) -> float:
        """End one run if it is over its time, in the end without it; return when to look at it again."""
        guard = run.guard
        if guard is None or run.started is None:
            return math.inf
        deadline = math.inf if run.timeout is None else run.started + run.timeout
        if now < deadline:
            return min(deadline, self._insist(run, guard, now))
        if now >= guard.again:
            run.context.cancel()
            self._fire(guard, now, TaskTimeout)
        if now >= deadline + GRACE:
            self._leave(row, run)
        return guard.again

    def _leave(self, row: int, run: Run) -> None:
        """Decide without the body, unless somebody has; its thread is lost all the same."""
        self._give_up(row, run)
        if run.claim():
            error = TaskTimeout(
                f"ran longer than {run.timeout:g} s and does not stop; its thread is lost until it ends"
            )
            self._deliver(self._executor.raised(run, error))

    def _insist(self, run: Run, guard: Guard, now: float) -> float:
        """Raise again that the message was cancelled in a body that goes on; return when to do so next."""
        if run.cancellation is None:
            return math.inf
        if now >= guard.again:
            self._fire(guard, now, Cancelled)
        return guard.again

    def _fire(self, guard: Guard, now: float, kind: type[Interruption]) -> bool:
        guard.again = now + min(GRACE * 2.0**guard.fired, LONGEST_PATIENCE)
        return guard.fire(kind)

    def _look_for_marks(self) -> None:
        """Find, in one round trip, which of the runs in flight were cancelled."""
        backend = self._runtime.backend
        runs: dict[str, list[Run]] = {}
        for run in self._in_flight():
            if run.cancellation is None and not run.context.lost:
                for id in filter(None, (run.message.id, graph_of(run.message.id))):
                    runs.setdefault(cancel_key(id), []).append(run)
        if backend is None:
            return
        self._report(backend)
        marks = backend.get(list(runs)) if runs else {}
        for key, mark in marks.items():
            for run in runs[key]:
                run.cancellation = read_cancellation(mark)
                self._cancel(run)
                self._raise_in(run)

    def _raise_in(self, run: Run) -> None:
        """Raise in the body of *run* that its message was cancelled, if it runs in a thread."""
        for row, each in self._in_threads():
            if each is run and not self._is_apart(run):
                guard = run.reach(self._thread_of(row))
                if guard is not None and self._fire(guard, self._runtime.clock.monotonic(), Cancelled):
                    run.did = "raised"

    def _report(self, backend: Backend) -> None:
        """Write down what was done about bodies that go on; of those that have ended their outcome tells."""
        marks = []
        for run in self._in_flight():
            wish = run.cancellation
            if wish is not None and run.started is not None and not run.reported and not run.decided:
                run.reported = True
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
        """Do what may wait for the next round if the backend does not answer; the fetcher reports that it is down."""
        try:
            call()
        except UnavailableError:
            return
        except BaseException:  # noqa: BLE001 - it looks after all the others
            log_error(_logger, "the watchdog met an error that it does not know")
