"""The server's time, without a round trip for each use (QK11).

A reply to ``hello`` contains the server's clock in whole milliseconds, read between the request and the reply. So each
reply bounds the difference between that clock and a *steady* clock of this machine; several replies narrow it to a
fraction of a millisecond. The machine's own wall clock is never used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["ServerTime"]

GRAIN = 0.001
"""Resolution of the server's clock in seconds; it is rounded down."""
FRESH = 20.0
"""Seconds between two measurements."""
DRIFT = 100e-6
"""Seconds by which two clocks may drift apart per second."""
GOOD = 0.0006
"""Width in seconds at which the bounds are narrow enough."""
MOST_QUESTIONS = 8


def steady() -> float:
    """Return the seconds of a clock that cannot be set and that, if available, runs while the machine is suspended.

    A monotonic clock may stop during that time; messages sent afterwards would get a time in the past.
    """
    return time.clock_gettime(_STEADY) if _STEADY is not None else time.monotonic()


_STEADY: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class ServerTime:
    """Bounds of the server's current time.

    Args:
        ask: Returns the server's time in seconds, rounded down to milliseconds; one round trip.
        clock: Returns the seconds of a clock of this machine.
    """

    def __init__(self, ask: Callable[[], float], *, clock: Callable[[], float] = steady) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._low = self._high = 0.0
        self._measured: float | None = None

    def earliest(self) -> float:
        """Return a time in UTC epoch seconds that the server's clock has reached."""
        self._refresh()
        return self._clock() + self._low

    def latest(self) -> float:
        """Return a time in UTC epoch seconds that the server's clock has not passed."""
        self._refresh()
        now = self._clock()
        return now + self._high + DRIFT * (now - (self._measured or now))

    def forget(self) -> None:
        """Measure again before the next use: another server may have become the primary."""
        self._measured = None

    def _refresh(self) -> None:
        measured = self._measured
        if measured is not None and self._clock() - measured < FRESH:
            return
        if not self._lock.acquire(blocking=measured is None):
            return  # another thread is measuring; use the known bounds meanwhile
        try:
            if self._measured is None or self._measured == measured:
                self._low, self._high = self._narrow()
                self._measured = self._clock()
        finally:
            self._lock.release()

    def _narrow(self) -> tuple[float, float]:
        low, high = self._sample()
        for _ in range(MOST_QUESTIONS):
            if high - low <= GOOD:
                break
            new_low, new_high = self._sample()
            if max(low, new_low) > min(high, new_high):
                low, high = new_low, new_high  # the server's clock was set meanwhile
            low, high = max(low, new_low), min(high, new_high)
        return low, high

    def _sample(self) -> tuple[float, float]:
        asked = self._clock()
        said = self._ask()
        replied = self._clock()
        return said - replied, said + GRAIN - asked
