"""The event loop that runs ``async def`` tasks, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from queuekit.control import TaskTimeout
from queuekit.execute import Executor
from queuekit.outcome import Outcome, Run
from queuekit.worker.slots import Slots

__all__ = ["LoopPool"]

_LONGEST_END = 2.0
"""Seconds that a stop waits for coroutines that were cancelled."""


class LoopPool:
    """At most *size* coroutines at once on one loop.

    Args:
        executor: Runs a body and decides.
        size: Most coroutines at once.
        slots: Where each says what it runs; rows *first_row* to *first_row* + size - 1.
        first_row: Where its rows begin.
        deliver: Takes each outcome.
    """

    def __init__(
        self, executor: Executor, *, size: int, slots: Slots, first_row: int, deliver: Callable[[Outcome], None]
    ) -> None:
        self._executor = executor
        self._slots = slots
        self._deliver = deliver
        self._free = deque(range(first_row, first_row + size))
        self._waiting: deque[Run] = deque()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._begun: set[int] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="queuekit-loop", daemon=True)
        self._thread.start()

    def submit(self, runs: Sequence[Run]) -> None:
        """Hand *runs* to the loop, in order."""
        self._waiting.extend(runs)
        self._loop.call_soon_threadsafe(self._start_more)

    def take_waiting(self) -> list[Run]:
        """Take back what has not begun."""
        waiting: list[Run] = []
        while self._waiting:
            waiting.append(self._waiting.popleft())
        return waiting

    def cancel(self, run: Run) -> None:
        """Raise ``CancelledError`` inside the body of *run*."""
        self._loop.call_soon_threadsafe(self._cancel, run.serial)

    def stop(self) -> None:
        """End the loop; whatever still runs on it is cancelled, and abandoned if it does not end."""
        ending = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        with contextlib.suppress(TimeoutError):
            ending.result(timeout=_LONGEST_END)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=_LONGEST_END)
        if not self._thread.is_alive():
            self._loop.close()

    async def _end(self) -> None:
        """Give what still runs a moment to see that it is cancelled."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=_LONGEST_END / 2)

    def _cancel(self, serial: int) -> None:
        """Cancel a body that was entered; one that was not will see by its context that it must not begin.

        A task cancelled before its first step never runs at all, so nobody would hear of its message again.
        """
        if serial in self._begun:
            self._tasks[serial].cancel()

    def _start_more(self) -> None:
        while self._free and self._waiting:
            try:
                run = self._waiting.popleft()
            except IndexError:
                return
            coroutine = self._one(run, self._free.popleft())
            task = self._loop.create_task(coroutine, context=self._executor.variables())
            self._tasks[run.serial] = task

    async def _one(self, run: Run, row: int) -> None:
        self._begun.add(run.serial)
        self._slots.enter(row, run.serial, time.monotonic())
        outcome: Outcome | None = None
        try:
            outcome = await self._outcome(run)
        except BaseException as error:  # noqa: BLE001 - one run that cannot begin must not end all that would follow here
            outcome = self._executor.put_back(run, error)
        finally:
            self._slots.leave(row)
            self._begun.discard(run.serial)
            self._tasks.pop(run.serial, None)
            self._free.append(row)
            self._start_more()
        if outcome is not None and run.claim():
            self._deliver(outcome)

    async def _outcome(self, run: Run) -> Outcome | None:
        if run.context.lost:
            return None
        early = self._executor.begin(run)
        if early is not None:
            return early
        limit = asyncio.timeout(run.timeout)
        try:
            async with limit:
                return await self._executor.acall(run)
        except TimeoutError:
            return self._executor.raised(run, TaskTimeout(f"ran longer than {run.timeout:g} s"))
        except asyncio.CancelledError:
            return self._ended_from_outside(run)

    def _ended_from_outside(self, run: Run) -> Outcome:
        """Decide for a body that was cancelled: on purpose, or by itself; without a lease nothing is left to decide."""
        if run.context.lost:
            return Outcome(delivery=run.delivery, settlement=None, word="lost", run=run)
        if not run.context.cancelled:
            return self._executor.raised(run, asyncio.CancelledError("its body was cancelled, its message was not"))
        return self._executor.cancelled(run)
