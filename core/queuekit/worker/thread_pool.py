"""The threads that run ``def`` tasks."""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from queuekit.execution.executor import Executor
from queuekit.execution.outcome import Outcome, Run
from queuekit.worker.run_table import RunTable
from queuekit.worker.unwritten_outcomes import UnwrittenOutcomes

if TYPE_CHECKING:
    from queuekit.worker.isolation import Isolation

__all__ = ["ThreadPool"]

_logger = logging.getLogger("queuekit.worker")
_WORK = 0.005
"""Seconds of work up to which bodies go to a process together."""
_LEAST = 0.0001
"""Seconds that a body counts as at least: so long does a process take for it."""
_MOST_TOGETHER = 31
"""Most bodies that go to a process with another one."""


class ThreadPool:
    """Up to *size* threads, started on demand.

    Args:
        executor: Runs a body and decides.
        size: Most threads.
        run_table: Records what each thread runs, in rows 0 to size - 1.
        isolation: Runs suspects, and with ``pool = "process"`` all tasks, in processes of their own; or ``None``.
        deliver: Called with each outcome.
        unwritten: Decides whether another body may start.
        seconds_of: Returns the average run time of a task's bodies; ``None`` if it is not known.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        size: int,
        run_table: RunTable,
        isolation: Isolation | None,
        deliver: Callable[[Outcome], None],
        unwritten: UnwrittenOutcomes | None = None,
        seconds_of: Callable[[str], float | None] = lambda _: None,
    ) -> None:
        self._executor = executor
        self._size = size
        self._run_table = run_table
        self._isolation = isolation
        self._deliver = deliver
        self._unwritten = unwritten or UnwrittenOutcomes()
        self._seconds_of = seconds_of
        self._inbox: deque[Run] = deque()
        """The runs that have not started. They belong to no thread, so any can take them, or they can be taken back."""
        self._calls: queue.SimpleQueue[bool] = queue.SimpleQueue()
        """Wakes idle threads, and says whether they go on: one call for a thread, not for each run of a batch."""
        self._taking = threading.Lock()
        self._closed = False
        self._lacks_thread = False
        """Whether the system has refused the last thread."""
        self.threads: list[threading.Thread] = []
        self.running: dict[int, Run] = {}
        """The run of each busy thread, by row."""
        self._given_up: dict[int, Run] = {}
        """The last run of each row that was given up; it may have ended since."""
        if isolation is not None:
            isolation.serve_suspects(self.submit, most=size)

    def thread_of(self, row: int) -> int:
        """Return the identifier of the thread of *row*."""
        return self.threads[row].ident or 0

    @property
    def lost(self) -> set[int]:
        """Rows of threads whose run was given up and is still running."""
        return {row for row, run in list(self._given_up.items()) if self.running.get(row) is run}

    @property
    def holds_resources(self) -> bool:
        """Whether a body that was asked to stop, and has not been given up, has resources open."""
        given_up = self.lost
        running = list(self.running.items())
        return any(run.resources is not None and row not in given_up for row, run in running)

    def give_up(self, row: int, run: Run) -> None:
        """Count the thread of *row* as lost until *run*, which may have already ended, ends."""
        self._given_up[row] = run

    def submit(self, runs: Sequence[Run]) -> None:
        """Hand *runs* to the threads, in order; those that come after the pool was closed go back to their queues."""
        self._inbox.extend(runs)
        if self._closed:
            self._hand_back()
            return
        self._wake(len(runs))
        if len(self.threads) < self._size:
            self._start_threads(len(runs))

    def _hand_back(self) -> None:
        for run in self._take_all():
            self._forget(run)
            if run.claim():
                self._deliver(self._executor.decide.handed_back(run))

    def _wake(self, runs: int) -> None:
        """Wake as many threads as *runs* need; a call that no thread has answered yet counts."""
        for _ in range(min(runs, self._size - self._calls.qsize())):
            self._calls.put(True)  # noqa: FBT003 - the content of a queue

    def _start_threads(self, most: int) -> None:
        """Start up to *most* threads; where the system allows none, put the runs back, or they would wait forever.

        A later batch tries again.
        """
        with self._taking:
            refusal = self._refusal(most)
            waiting = [] if refusal is None or self.threads else self._take_all()
        for run in waiting:
            self._forget(run)
            outcome = self._executor.put_back(run, OSError(str(refusal)))
            if run.claim():
                self._deliver(outcome)

    def _refusal(self, most: int) -> RuntimeError | None:
        """Start up to *most* threads, and return why not all could be started."""
        for _ in range(min(most, self._size - len(self.threads))):
            row = len(self.threads)
            thread = threading.Thread(target=self._work, args=(row,), name=f"queuekit-run-{row}", daemon=True)
            self.threads.append(thread)
            try:
                thread.start()
            except RuntimeError as error:  # of a limit of the system
                self.threads.pop()
                if not self._lacks_thread:
                    _logger.warning("cannot start more than %d of %d threads: %s", row, self._size, error)
                self._lacks_thread = True
                return error
            self._lacks_thread = False
        return None

    @property
    def waiting(self) -> int:
        """How many have not started."""
        return len(self._inbox)

    @property
    def apart(self) -> int:
        """How many suspects wait for a process of their own, outside the threads."""
        return self._isolation.waiting if self._isolation is not None else 0

    def take_back(self, keep: int) -> list[Run]:
        """Take back the runs that have not started, except the first *keep*."""
        with self._taking:
            taken: list[Run] = []
            with contextlib.suppress(IndexError):
                while len(self._inbox) > keep and not self._closed:
                    taken.append(self._inbox.pop())
        for run in taken:
            self._forget(run)
        return taken[::-1]

    def take_waiting(self) -> list[Run]:
        """Take back the runs that have not started, and let each thread end after its current run."""
        with self._taking:
            self._closed = True
            waiting = self._take_all()
            if self._isolation is not None:
                waiting += self._isolation.take_waiting()
            for _ in self.threads:
                self._calls.put(False)  # noqa: FBT003 - as above
            return waiting

    def _take_all(self) -> list[Run]:
        taken: list[Run] = []
        with contextlib.suppress(IndexError):
            while True:
                taken.append(self._inbox.popleft())
        return taken

    def _work(self, row: int) -> None:
        self._run_table.thread(row, threading.get_native_id(), threading.get_ident())
        while self._calls.get():
            self._work_off(row)

    def _work_off(self, row: int) -> None:
        """Run what waits, until nothing does or the pool closes."""
        take, full, running = self._inbox.popleft, self._unwritten.full, self.running
        while not self._closed:
            try:
                run = take()
            except IndexError:
                return
            try:
                if full(len(running)):
                    self._unwritten.wait(lambda: len(running))
                outcome = self._one(row, run)
            except BaseException as error:  # noqa: BLE001 - one run that cannot start must not end this thread
                self._forget(run)
                outcome = self._executor.put_back(run, error)
            if outcome is not None and run.claim():
                self._deliver(outcome)

    def _forget(self, run: Run) -> None:
        if run.suspect and self._isolation is not None:
            self._isolation.forget(run)

    def _begin(self, run: Run, *, apart: bool, announce: bool = True) -> tuple[bool, Outcome | None]:
        """Return whether its body may start, and its outcome if that is already known."""
        if run.context.lost:
            return False, None
        early = self._executor.begin(run, apart=apart, announce=announce)
        return early is None and not run.decided, early

    def _one(self, row: int, run: Run) -> Outcome | None:
        """Run one message; ``None`` if its lease was lost, its outcome is decided, or delivered, or it waits."""
        isolation = self._isolation
        if isolation is not None and not isolation.wants(run):
            isolation = None
        if isolation is not None and not run.context.lost and not isolation.may_begin(run):
            return None
        begins, early = self._begin(run, apart=isolation is not None)
        if not begins:
            self._forget(run)
            return early
        self.running[row] = run
        self._run_table.enter(row, run.serial, time.monotonic(), run.limit)
        try:
            if isolation is None:
                return self._executor.call(run)
            self._apart(isolation, row, run)
            return None
        finally:
            self._run_table.leave(row)
            del self.running[row]
            if self._given_up:
                self._given_up.pop(row, None)

    def _apart(self, isolation: Isolation, row: int, first: Run) -> None:
        """Run *first* in a process, and with it what waits behind it and is quick."""
        runs, ended = [first, *self._quick_ones(isolation, first)], 0
        try:
            for run, outcome in isolation.call(row, tuple(runs)):
                if outcome is None:
                    self._put_first([runs.pop()])
                    continue
                if run.claim():
                    self._deliver(outcome)
                ended += 1
                if ended < len(runs):
                    self.running[row] = runs[ended]
                    runs[ended].started = run.ended
                    self._executor.announce(runs[ended])
        finally:
            self._put_first(runs[max(1, ended) :])

    def _quick_ones(self, isolation: Isolation, first: Run) -> list[Run]:
        """Take runs behind *first* that go to its process with it: a few milliseconds of work, and a fair share."""
        found = list[Run]()
        most, work = min(_MOST_TOGETHER, len(self._inbox) // self._size), self._work_of(isolation, first)
        while len(found) < most and work < _WORK:
            try:
                run = self._inbox.popleft()
            except IndexError:
                break
            work += self._work_of(isolation, run)
            if work >= _WORK:
                self._put_first([run])
                break
            begins, early = self._begin(run, apart=True, announce=False)
            if begins:
                found.append(run)
            elif early is not None and run.claim():
                self._deliver(early)
        return found

    def _work_of(self, isolation: Isolation, run: Run) -> float:
        """Return the seconds that a body is expected to take; infinite if it must go to a process by itself."""
        shares = isolation.wants(run) and isolation.shares(run)
        seconds = self._seconds_of(run.message.task) if shares else None
        return math.inf if seconds is None else max(seconds, _LEAST)

    def _put_first(self, runs: Sequence[Run]) -> None:
        """Let *runs*, which have not begun, be the next."""
        if not runs:
            return
        for run in runs:
            run.started = None
        self._inbox.extendleft(reversed(runs))
        if self._closed:
            self._hand_back()
        else:
            self._wake(len(runs))
