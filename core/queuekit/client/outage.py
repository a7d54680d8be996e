"""An engine that does not answer: how long a loop rests before it asks again, and what it tells of that."""

from __future__ import annotations

from queuekit.client.runtime import Runtime
from queuekit.events import EngineBack, EngineDown

__all__ = ["Outage"]


class Outage:
    """What one loop knows of an engine that does not answer; it may pass and come again.

    Each failure in a row doubles the pause. Who pauses spreads that by chance, so that not all come back at once.

    Args:
        runtime: Clock, chance, and those who are told.
        doing: What the loop does, for :class:`~queuekit.events.EngineDown`.
        first: Seconds of the first pause.
        longest: Seconds of the longest.
    """

    def __init__(self, runtime: Runtime, *, doing: str, first: float, longest: float) -> None:
        self._clock, self._random, self._events = runtime.clock, runtime.random, runtime.events
        self._doing, self._first, self._longest = doing, first, longest
        self._since = 0.0
        self.failures = 0
        """Failures in a row."""
        self.pause = 0.0
        """Seconds of the last pause, before chance; 0 while the engine answers."""

    def failed(self, error: str, *, afresh: bool = False, rest: float | None = None) -> float:
        """Tell that the engine did not answer, and return the seconds to rest.

        Args:
            error: Why, without secrets.
            afresh: Whether the pauses begin anew: it had answered for a while.
            rest: Seconds to rest, where they are not for this to decide.
        """
        if not self.failures:
            self._since = self._clock.monotonic()
        self.failures += 1
        self.pause = self._first if afresh or not self.pause else min(self._longest, self.pause * 2)
        rest = self.pause * (0.5 + self._random.random() / 2) if rest is None else rest
        self._events.emit(EngineDown(doing=self._doing, error=error, retry_in=rest))
        return rest

    def over(self) -> None:
        """Tell that the engine answers again, if it did not."""
        if self.failures:
            self._events.emit(EngineBack(doing=self._doing, after=self._clock.monotonic() - self._since))
            self.failures, self.pause = 0, 0.0
