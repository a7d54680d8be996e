"""The event loop that runs ``async def`` tasks, in its own thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from queuekit.control import TaskTimeout
from queuekit.execution import children
from queuekit.execution.executor import Executor
from queuekit.execution.outcome import Outcome, Run
from queuekit.forks import renew_in_forks
from queuekit.logs.errors import log_error
from queuekit.wire.stacks import Frame
from queuekit.worker.limit import Limit
from queuekit.worker.run_table import RunTable
from queuekit.worker.stacks import frames_of_task
from queuekit.worker.unwritten_outcomes import UnwrittenOutcomes

__all__ = ["BODY", "LoopPool"]

_logger = logging.getLogger("queuekit.worker")
_LONGEST_END = 2.0
"""Seconds that a stop waits for cancelled coroutines."""
_FIRST_STEPS = 0.005
"""Seconds of first steps of bodies after which the loop serves the bodies that wait for something."""
_NO_BLOCK = 1.0
"""Seconds for which the loop may be blocked before the time limits of waiting coroutines are extended."""


class LoopPool:
    """Runs at most *size* coroutines at once on one loop.

    Args:
        executor: Runs a body and decides.
        size: Most coroutines at once.
        run_table: Records which coroutine runs; uses rows *first_row* to *first_row* + size - 1.
        first_row: First row to use.
        deliver: Called with each outcome.
        unwritten: Decides whether another body may start.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        size: int,
        run_table: RunTable,
        first_row: int,
        deliver: Callable[[Outcome], None],
        unwritten: UnwrittenOutcomes | None = None,
    ) -> None:
        self._executor = executor
        self._run_table = run_table
        self._deliver = deliver
        self._unwritten = unwritten or UnwrittenOutcomes()
        self._held_up = False
        """Whether bodies wait until outcomes are written."""
        self._rows = range(first_row, first_row + size)
        self._free = deque(self._rows)
        self._waiting: deque[Run] = deque()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._starting: dict[int, tuple[Run, int]] = {}
        """Run and row of each task that has not made its first step, by serial; none since Python 3.12."""
        self._limits: dict[int, Limit] = {}
        """The time limits of running bodies, by row."""
        self.running: dict[int, Run] = {}
        """The run of each busy row."""
        self._given_up: dict[int, Run] = {}
        """The last run of each row that was given up; it may have ended since."""
        self.blocker: Run | None = None
        """The run that blocks the loop, while it does."""
        self.asked: float | None = None
        """Monotonic time at which the loop was asked for a sign of life; ``None`` once it answers."""
        self._ending = self._is_starting = False
        self.loop = self._loop = asyncio.new_event_loop()
        self._helpers = ThreadPoolExecutor(thread_name_prefix="queuekit-helper")
        self._loop.set_default_executor(self._helpers)
        renew_in_forks(self)
        self.thread = threading.Thread(target=self._turn, name="queuekit-loop", daemon=True)
        self.thread.start()
        self._unwritten.listeners.append(self._go_on)

    def _go_on(self) -> None:
        """Start waiting bodies after outcomes were written."""
        if self._held_up:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._start_more)

    def _may_begin(self) -> bool:
        """Return whether another body may start; if not, the next write of outcomes checks again."""
        self._held_up = True  # set first, so that outcomes written during the check trigger another one
        self._held_up = self._unwritten.full(len(self._tasks))
        return not self._held_up

    def _turn(self) -> None:
        """Run the loop until :meth:`stop`, even if a task stops it or raises SystemExit."""
        generation = children.forks.generation
        for row in self._rows:
            self._run_table.thread(row, threading.get_native_id(), threading.get_ident())
        while not self._ending:
            try:
                self._loop.run_forever()
            except Exception:  # noqa: BLE001 - an error of the loop itself: errors of callbacks do not end it
                log_error(_logger, "the event loop is broken; a task may have closed its file descriptors")
                return
            except BaseException as error:  # noqa: BLE001 - e.g. SystemExit in a task's own task; other tasks must go on
                if children.forks.generation != generation:
                    children.leave(error)
                log_error(_logger, "code that a task started on the event loop tried to end it")
            if children.forks.generation != generation:
                children.leave(None)

    def renew_in_fork(self) -> None:
        """Stop the copy of the loop in a forked child, so that it runs only the body that forked it."""
        self._loop.stop()

    @property
    def lost(self) -> set[int]:
        """Rows whose run was given up and is still running."""
        return {row for row, run in list(self._given_up.items()) if self.running.get(row) is run}

    def submit(self, runs: Sequence[Run]) -> None:
        """Hand *runs* to the loop, in order."""
        self._waiting.extend(runs)
        self._loop.call_soon_threadsafe(self._start_more)

    @property
    def waiting(self) -> int:
        """How many have not started."""
        return len(self._waiting)

    def take_back(self, keep: int) -> list[Run]:
        """Take back the runs that have not started, except the first *keep*."""
        taken: list[Run] = []
        with contextlib.suppress(IndexError):
            while len(self._waiting) > keep:
                taken.append(self._waiting.pop())
        return taken[::-1]

    def take_waiting(self) -> list[Run]:
        """Take back the runs that have not started."""
        waiting: list[Run] = []
        while self._waiting:
            waiting.append(self._waiting.popleft())
        return waiting

    def stack_of(self, run: Run) -> tuple[Frame, ...]:
        """Return the stack of the body of *run*; empty if it has ended."""
        task = self._tasks.get(run.serial)
        return () if task is None else frames_of_task(task, self.thread.ident or 0)

    def cancel(self, run: Run) -> None:
        """Raise ``CancelledError`` inside the body of *run*, and tell its context."""
        self._loop.call_soon_threadsafe(self._cancel, run)

    def end_bodies(self) -> bool:
        """Cancel the bodies that still run, and give them a moment to end; the loop goes on.

        Returns:
            Whether the loop answers.
        """
        return self.thread.is_alive() and self._call(self._end())

    def stop(self, within: float = _LONGEST_END) -> None:
        """End the loop, and abandon what does not end.

        What bodies and middlewares have left on it is cancelled. Threads that work for them may finish, since what they
        tell belongs to a run.

        Args:
            within: Seconds that these threads may take.
        """
        if not self.thread.is_alive():
            with contextlib.suppress(Exception):  # it is broken
                self._loop.close()
            return
        if self.end_bodies():
            self._call(self._end_others())
        ending = threading.Thread(target=self._helpers.shutdown, name="queuekit-helpers", daemon=True)
        ending.start()
        ending.join(within)
        self._ending = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.thread.join(timeout=_LONGEST_END)
        if not self.thread.is_alive():
            self._loop.close()

    def _call(self, ending: Coroutine[Any, Any, None]) -> bool:
        """Run *ending* on the loop, and return whether it answers; it may be blocked."""
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(ending, self._loop).result(timeout=_LONGEST_END)
            return True
        return False

    def ask(self, now: float) -> float:
        """Ask the loop for a sign of life, and return for how many seconds it has not answered."""
        if self.asked is not None:
            return now - self.asked
        if self._tasks or self._waiting:
            self.asked = now
            self._loop.call_soon_threadsafe(self._answer)
        return 0.0

    def _answer(self) -> None:
        """Extend the time limits of the coroutines that had to wait while the loop was blocked."""
        blocked = time.monotonic() - (self.asked or 0.0)
        if blocked >= _NO_BLOCK:
            for row, limit in list(self._limits.items()):
                run = self.running.get(row)
                if run is not None and run is not self.blocker:
                    end = limit.extend(blocked)
                    self._run_table.limit(row, end if run.time_limit is None else math.inf)
        self.blocker = self.asked = None
        self._start_again()

    def _start_again(self) -> None:
        """Start runs again that were cancelled before their first step, e.g. by a body that cancels all tasks."""
        for serial, (run, row) in list(self._starting.items()):
            if self._tasks[serial].done():
                del self._starting[serial], self._tasks[serial]
                self._free.append(row)
                self._waiting.appendleft(run)
        self._start_more()

    async def _end(self) -> None:
        """Cancel what still runs, and give it a moment to end."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=_LONGEST_END / 2)

    async def _end_others(self) -> None:
        """Cancel the tasks that are no bodies, as ``asyncio.run()`` does at its end, and give them a moment."""
        left = asyncio.all_tasks() - {asyncio.current_task(), *self._tasks.values()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_LONGEST_END / 2)
        await self._loop.shutdown_asyncgens()

    def _cancel(self, run: Run) -> None:
        run.context.cancel()
        if self._cancel_begun(run.serial) and run.cancellation is not None:
            run.did = "raised"

    def _cancel_begun(self, serial: int) -> bool:
        """Cancel a body that was entered; others check their context before they start.

        A task cancelled before its first step never runs at all, so its message would get no outcome.
        """
        task = None if serial in self._starting else self._tasks.get(serial)
        return task is not None and task.cancel()

    def _start_more(self) -> None:
        """Start bodies while there are free rows.

        Where bodies take their first step here, one that ends with it frees its row at once. After some time, the loop
        serves the others.
        """
        if self._is_starting:  # by a body that ended with its first step; the loop below goes on
            return
        self._is_starting = True
        until = time.monotonic() + _FIRST_STEPS
        try:
            while self._free and self._waiting and self._may_begin():
                try:
                    run = self._waiting.popleft()
                except IndexError:
                    return
                self._start(run, self._free.popleft())
                if time.monotonic() >= until:
                    self._loop.call_soon(self._start_more)
                    return
        finally:
            self._is_starting = False

    def _start(self, run: Run, row: int) -> None:
        """Start one body, which makes its first step here if Python can do that."""
        variables = self._executor.variables()
        if sys.version_info >= (3, 12):
            # In a task from the start, so that asyncio.current_task() and what relies on it work in the first step.
            asyncio.Task(self._one(run, row), loop=self._loop, context=variables, eager_start=True)
        else:
            self._starting[run.serial] = (run, row)
            self._tasks[run.serial] = self._loop.create_task(self._one(run, row), context=variables)

    async def _one(self, run: Run, row: int) -> None:
        if sys.version_info >= (3, 12):
            task = asyncio.current_task()
            if task is not None:
                self._tasks[run.serial] = task
        else:
            del self._starting[run.serial]
        self.running[row] = run
        outcome: Outcome | None = None
        try:
            self._run_table.enter(row, run.serial, time.monotonic(), run.limit)
            outcome = await self._outcome(run, row)
        except BaseException as error:  # noqa: BLE001 - one run that cannot start must not end those that follow
            outcome = self._executor.put_back(run, error)
        finally:
            self._run_table.leave(row)
            del self.running[row]
            self._given_up.pop(row, None)
            self._tasks.pop(run.serial, None)
            self._free.append(row)
            self._start_more()
        if outcome is not None and run.claim():
            self._deliver(outcome)

    async def _outcome(self, run: Run, row: int) -> Outcome | None:
        if run.context.lost:
            return None
        early = self._executor.begin(run)
        if early is not None or run.decided:
            return early
        try:
            if run.timeout is None:
                return await self._executor.acall(run)
            return await self._limited(run, row, run.timeout)
        except asyncio.CancelledError:
            return self._ended_from_outside(run)

    async def _limited(self, run: Run, row: int, seconds: float) -> Outcome:
        """Run a body under its time limit, which cancels it."""
        limit = Limit(self._loop, self._tasks[run.serial], run, seconds, give_up=lambda: self.give_up(run))
        self._limits[row] = limit
        try:
            return await self._executor.acall(run)
        except asyncio.CancelledError:
            if not limit.fired or run.context.lost:
                raise
            return self._executor.raised(run, TaskTimeout(f"ran longer than {seconds:g} s"))
        finally:
            limit.close()
            del self._limits[row]

    def give_up(self, run: Run) -> None:
        """Decide the outcome of a body that ignores its time limit, unless it is already decided."""
        self._given_up.update((row, run) for row, other in list(self.running.items()) if other is run)
        if run.claim():
            text = f"ran longer than {run.timeout:g} s and does not stop; its slot is lost until it ends"
            self._deliver(self._executor.raised(run, TaskTimeout(text)))

    def _ended_from_outside(self, run: Run) -> Outcome:
        """Decide for a body that was cancelled: on request, or by other code; without a lease there is no decision."""
        if run.context.lost:
            return Outcome(delivery=run.delivery, settlement=None, status="lost", run=run)
        if not run.context.cancelled:
            return self._executor.raised(run, asyncio.CancelledError("its body was cancelled, its message was not"))
        return self._executor.cancelled(run)


BODY = LoopPool._one.__code__  # pyright: ignore[reportPrivateUsage] # noqa: SLF001 - frames are known by it
"""Code of the coroutine that each body runs in."""
