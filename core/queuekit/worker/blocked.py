"""Find and report the coroutine that blocks the event loop."""

from __future__ import annotations

import math
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType

from queuekit.context import Context, of_context
from queuekit.events import Events, LoopBlocked
from queuekit.execution.outcome import Run
from queuekit.worker.async_pool import BODY, LoopPool
from queuekit.worker.run_table import RunTable

__all__ = ["BlockedLoop"]

_BLOCKED = 2.0
"""Seconds without a sign of life after which the loop counts as blocked."""
_HUNG = 15
"""Checks in a row, one per second, after which code that blocks the loop and belongs to no run counts as hung."""
_GRACE = 2.0
"""Seconds that a blocking run may exceed its time limit: it may be about to end."""


class BlockedLoop:
    """Checks a worker's event loop once a second.

    Args:
        worker: Name of the worker, for the log.
        events: Receives one event for each blocking run.
        run_table: Suspends the time limits of waiting runs, so that their leases are still renewed.
        pool: Returns the loop's pool, if there is one.
        on_overdue: Called with a run that blocks the loop past its time limit; returns why the worker cannot go on.
        on_hung: Called with the name of a task, if known, whose leftover code blocks the loop; returns why the worker
            cannot go on.
    """

    def __init__(
        self,
        *,
        worker: str,
        events: Events,
        run_table: RunTable,
        pool: Callable[[], LoopPool | None],
        on_overdue: Callable[[Run], str],
        on_hung: Callable[[str], str],
    ) -> None:
        self._worker = worker
        self._events = events
        self._run_table = run_table
        self._pool = pool
        self._on_overdue = on_overdue
        self._on_hung = on_hung
        self._reported: tuple[float, Run | None] | None = None
        self._looks = 0
        """How many checks in a row found the same blocker."""
        self._limit = math.inf

    def check(self) -> str:
        """Check the loop once; return why the worker cannot go on, or an empty text."""
        pool = self._pool()
        if pool is None:
            return ""
        now = time.monotonic()
        blocked, asked = pool.ask(now), pool.asked
        if blocked < _BLOCKED or asked is None:
            return ""
        frame = _frame_of(pool.thread)
        context = _context_of(frame)
        run = _run_of(pool, context)
        self._looks += 1
        if self._reported != (asked, run):
            self._reported, self._looks = (asked, run), 1
            self._report(pool, run, context, blocked, frame)
        if run is not None:
            return self._on_overdue(run) if now >= self._limit + _GRACE else ""
        return self._on_hung(_name(context)) if self._hung(pool) else ""

    def _hung(self, pool: LoopPool) -> bool:
        """Return whether code that belongs to no run has blocked the loop for long, and no run is starting."""
        return self._looks >= _HUNG and all(run.started is not None for run in list(pool.running.values()))

    def _report(
        self, pool: LoopPool, run: Run | None, context: Context | None, blocked: float, frame: FrameType | None
    ) -> None:
        """Report what blocks the loop, and suspend the time limits of the runs that wait."""
        pool.blocker = run
        self._limit = math.inf
        for row, other in list(pool.running.items()):
            if other is not run:
                self._run_table.limit(row, math.inf)
            elif other.limit is not None and other.started is not None:
                self._limit = other.started + other.limit
                self._run_table.limit(row, self._limit)
        event = LoopBlocked(
            worker=self._worker,
            seconds=blocked,
            id="" if context is None else context.id,
            task="" if context is None else context.task,
            waiting=sum(other is not run for other in list(pool.running.values())) + pool.waiting,
            stack=_stack(frame),
        )
        self._events.emit(event)


def _frame_of(thread: threading.Thread) -> FrameType | None:
    return sys._current_frames().get(thread.ident or 0)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _run_of(pool: LoopPool, context: Context | None) -> Run | None:
    return next((run for run in list(pool.running.values()) if run.context is context), None)


def _name(context: Context | None) -> str:
    return "" if context is None else f"{context.task} {context.id}"


def _context_of(frame: FrameType | None) -> Context | None:
    """Return the task context of the loop's innermost body or callback.

    A body in its first step may run inside the callback of another.
    """
    while frame is not None:
        if frame.f_code is BODY:
            run = frame.f_locals.get("run")
            return None if run is None else run.context
        if frame.f_code.co_name == "_run" and frame.f_globals.get("__name__") == "asyncio.events":
            variables = getattr(frame.f_locals.get("self"), "_context", None)
            return None if variables is None else of_context(variables)
        frame = frame.f_back
    return None


def _stack(frame: FrameType | None) -> str:
    """Return the stack of the loop's thread without the frames of asyncio and queuekit."""
    if frame is None:
        return ""
    lines = traceback.StackSummary.extract(
        (each for each in reversed(list(traceback.walk_stack(frame))) if not _is_ours(each[0])), lookup_lines=True
    )
    return "".join(lines.format())


def _is_ours(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name.startswith(("queuekit.", "asyncio.")) or name == "threading"
