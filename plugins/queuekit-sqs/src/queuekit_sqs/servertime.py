"""Estimates the service's clock from its replies.

Their ``Date`` has whole seconds. So our own clock is believed as long as no answer proves it wrong, and otherwise is
corrected by as much as the answers prove: machines whose clocks are right agree to the millisecond, and one that is a
day ahead is off by a second at most (QK11).
"""

from __future__ import annotations

import threading
from email.utils import parsedate_to_datetime

from queuekit.clock import Clock
from queuekit.forks import renew_in_forks

__all__ = ["ServerTime"]

_FORGET = 600.0
"""Seconds after which old evidence is dropped, since clocks drift and are set."""


class ServerTime:
    """Keeps between which bounds the service's clock is ahead of ours."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.renew_in_fork()
        renew_in_forks(self)
        self._last = ""
        self._low, self._high = float("-inf"), float("inf")
        self._since = clock.monotonic()
        self._started = clock.time() - clock.monotonic()

    def renew_in_fork(self) -> None:
        """Begin with a free lock."""
        self._lock = threading.Lock()

    def observe(self, date: str | None, *, sent: float) -> None:
        """Take note of an answer's ``Date``; *sent* is when it was asked, in monotonic seconds."""
        if not date or date == self._last:
            return
        try:
            stamp = parsedate_to_datetime(date).timestamp()
        except (ValueError, TypeError):
            return
        now = self._clock.monotonic()
        own = self._clock.time()
        with self._lock:
            self._last = date
            if now - self._since > _FORGET or self._was_set(own, now):
                self._low, self._high, self._since = float("-inf"), float("inf"), now
            # The answer was dated after it was asked, and before it came.
            self._low = max(self._low, stamp - own)
            self._high = max(self._low, min(self._high, stamp + 1.0 - (own - (now - sent))))

    def now(self) -> float:
        """Return UTC epoch seconds on the service's clock."""
        return self._clock.time() + min(max(0.0, self._low), self._high)

    def _was_set(self, own: float, now: float) -> bool:
        """Return whether our clock was set since the evidence was taken."""
        started, self._started = self._started, own - now
        return abs(started - self._started) > 1.0
