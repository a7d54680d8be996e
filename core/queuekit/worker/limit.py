"""The time limit of a body on the event loop: cancels it repeatedly, and gives it up after a grace period."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from queuekit.execution.outcome import Run

if TYPE_CHECKING:
    import asyncio

__all__ = ["GRACE", "LONGEST_PATIENCE", "Limit"]

GRACE = 1.0
"""Seconds after its timeout before a body is given up, and before it is interrupted again."""
LONGEST_PATIENCE = 60.0
"""Most seconds between two interruptions of a body that does not stop; each pause is twice the last."""


class Limit:
    """Starts when it is created. Use it on its loop only.

    Args:
        loop: The loop.
        task: The asyncio task to cancel.
        run: The run; its context is marked as cancelled.
        seconds: How long the body may run.
        give_up: Called if the body has not stopped within :data:`GRACE` after its cancellation.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        task: asyncio.Task[None],
        run: Run,
        seconds: float,
        *,
        give_up: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._task = task
        self._run = run
        self._give_up = give_up
        self.fired = 0
        """How many times it cancelled the body."""
        self._handle = loop.call_later(seconds, self._fire)

    def _fire(self) -> None:
        pause = min(GRACE * 2.0**self.fired, LONGEST_PATIENCE)
        self.fired += 1
        self._run.context.cancel()
        self._task.cancel()
        self._handle = self._loop.call_later(pause, self._fire)
        if self.fired > 1:
            self._give_up()

    def extend(self, seconds: float) -> float:
        """Extend the limit by *seconds*, unless it is over; return its end on the loop's monotonic clock."""
        moment = self._handle.when()
        if self.fired:
            return moment
        self._handle.cancel()
        self._handle = self._loop.call_at(moment + seconds, self._fire)
        return moment + seconds

    def close(self) -> None:
        """Remove the limit."""
        self._handle.cancel()
