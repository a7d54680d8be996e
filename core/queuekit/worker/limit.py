"""The time limit of a body on the event loop: cancels it, again while it goes on, and gives it up after a moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from queuekit.execution.outcome import Run

if TYPE_CHECKING:
    import asyncio

__all__ = ["GRACE", "LONGEST_PATIENCE", "Limit"]

GRACE = 1.0
"""Seconds that a body may take to see its timeout before it is given up, and told again if it goes on."""
LONGEST_PATIENCE = 60.0
"""Seconds between two times that a body is told which does not stop: each pause is twice the last, up to this."""


class Limit:
    """Begins when it is made, on the loop, and is used there only.

    Args:
        loop: The loop.
        task: What to cancel.
        run: Whose context says that it should stop.
        seconds: How long it may run.
        give_up: Called if it has not stopped within :data:`GRACE` of having been cancelled.
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
        """How many times it has cancelled the body."""
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
        """Let it end *seconds* later, unless it is over, and return when, in the loop's (monotonic) seconds."""
        moment = self._handle.when()
        if self.fired:
            return moment
        self._handle.cancel()
        self._handle = self._loop.call_at(moment + seconds, self._fire)
        return moment + seconds

    def close(self) -> None:
        """Let the body go on, or what comes after it."""
        self._handle.cancel()
