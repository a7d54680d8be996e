"""The server's time, without a round trip for each use (QK11).

A reply to ``hello`` has the server's clock in whole milliseconds, read between the request and the reply of this
process. So each reply bounds the difference between that clock and a *steady* one of this machine; several
narrow it to a fraction of a millisecond. The machine's own wall clock is never looked at.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["ServerTime"]

GRAIN = 0.001
"""Seconds that the server's clock is cut down by."""
FRESH = 20.0
"""Seconds after which it is asked again."""
DRIFT = 100e-6
"""Seconds that two clocks may drift apart in one."""
GOOD = 0.0006
"""Width in seconds of bounds that are narrow enough."""
MOST_QUESTIONS = 8


def steady() -> float:
    """Return the seconds of a clock that nobody sets, and that goes on while the machine is suspended, if there is one.

    A monotonic clock may stand still then: what is sent after waking up would be stamped with the past.
    """
    return time.clock_gettime(_STEADY) if _STEADY is not None else time.monotonic()


_STEADY: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class ServerTime:
    """Bounds of the server's time now.

    Args:
        ask: Returns the server's time in seconds, cut to milliseconds; one round trip.
        clock: Returns the seconds of a clock of this machine.
    """

    def __init__(self, ask: Callable[[], float], *, clock: Callable[[], float] = steady) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._low = self._high = 0.0
        self._measured: float | None = None

    def earliest(self) -> float:
        """Return UTC epoch seconds that the server's clock has surely reached."""
        self._refresh()
        return self._clock() + self._low

    def latest(self) -> float:
        """Return UTC epoch seconds that the server's clock has surely not passed."""
        self._refresh()
        now = self._clock()
        return now + self._high + DRIFT * (now - (self._measured or now))

    def forget(self) -> None:
        """Ask anew before the next use: another server may have become the primary."""
        self._measured = None

    def _refresh(self) -> None:
        measured = self._measured
        if measured is not None and self._clock() - measured < FRESH:
            return
        if not self._lock.acquire(blocking=measured is None):
            return  # another thread is at it, and what is known will do meanwhile
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
