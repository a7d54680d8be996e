"""Estimate the service's clock from its replies.

Their ``Date`` header has whole seconds. So the local clock is used as long as no reply proves it wrong; otherwise it is
corrected by as much as the replies prove. Machines with correct clocks agree to the millisecond, and one that is a day
ahead is off by at most a second (QK11).
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
    """Bounds of the difference between the service's clock and the local one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.renew_in_fork()
        renew_in_forks(self)
        self._last = ""
        self._low, self._high = float("-inf"), float("inf")
        self._since = clock.monotonic()
        self._started = clock.time() - clock.monotonic()

    def renew_in_fork(self) -> None:
        """Create a new lock: another thread of the parent may hold the old one."""
        self._lock = threading.Lock()

    def observe(self, date: str | None, *, sent: float) -> None:
        """Record the ``Date`` header of a reply to a request made at the monotonic time *sent*."""
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
            # The reply was dated between the request and its arrival.
            self._low = max(self._low, stamp - own)
            self._high = max(self._low, min(self._high, stamp + 1.0 - (own - (now - sent))))

    def now(self) -> float:
        """Return UTC epoch seconds on the service's clock."""
        return self._clock.time() + min(max(0.0, self._low), self._high)

    def _was_set(self, own: float, now: float) -> bool:
        """Return whether the local clock was set since the last reply."""
        started, self._started = self._started, own - now
        return abs(started - self._started) > 1.0
