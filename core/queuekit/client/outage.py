"""Back-off for a loop whose engine does not answer, and the events that report the outage."""

from __future__ import annotations

from queuekit.client.runtime import Runtime
from queuekit.events import EngineBack, EngineDown

__all__ = ["Outage"]


class Outage:
    """The outages of an engine, as seen by one loop.

    Each failure in a row doubles the pause. Pauses are random, so that not all clients retry at the same time.

    Args:
        runtime: Clock, randomness and events.
        doing: What the loop does, for :class:`~queuekit.events.EngineDown`.
        first: First pause, in seconds.
        longest: Longest pause, in seconds.
    """

    def __init__(self, runtime: Runtime, *, doing: str, first: float, longest: float) -> None:
        self._clock, self._random, self._events = runtime.clock, runtime.random, runtime.events
        self._doing, self._first, self._longest = doing, first, longest
        self._since = 0.0
        self.failures = 0
        """Failures in a row."""
        self.pause = 0.0
        """Last pause in seconds, before jitter; 0 while the engine answers."""

    def failed(self, error: str, *, afresh: bool = False, rest: float | None = None) -> float:
        """Report that the engine did not answer, and return the seconds to pause.

        Args:
            error: The reason, without secrets.
            afresh: Whether to start again with the first pause, since the engine had answered for a while.
            rest: Seconds to pause, if the caller decides.
        """
        if not self.failures:
            self._since = self._clock.monotonic()
        self.failures += 1
        self.pause = self._first if afresh or not self.pause else min(self._longest, self.pause * 2)
        rest = self.pause * (0.5 + self._random.random() / 2) if rest is None else rest
        self._events.emit(EngineDown(doing=self._doing, error=error, retry_in=rest))
        return rest

    def over(self) -> None:
        """Report that the engine answers again, if there was an outage."""
        if self.failures:
            self._events.emit(EngineBack(doing=self._doing, after=self._clock.monotonic() - self._since))
            self.failures, self.pause = 0, 0.0
