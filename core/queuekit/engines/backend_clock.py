"""The result backend's time as a clock, for a broker whose service has no clock."""

from __future__ import annotations

from queuekit.backend import Backend
from queuekit.clock import Clock
from queuekit.errors import UnavailableError
from queuekit.timelimit import time_limit

__all__ = ["BackendClock"]

_ASK_AGAIN = 60.0
"""Seconds between two reads of the backend's clock; the drift of two machines is negligible for so long."""
_LONGEST_ASK = 2.0
"""Seconds that such a read may take."""


class BackendClock:
    """A clock with the backend's time of day, read once a minute; intervals and waits are measured by *clock*.

    Until the backend's time is known, and if the backend has no clock, the time of day is that of *clock*.

    Args:
        clock: The machine's clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._backend: Backend | None = None
        self._reported: float | None = None
        """Last reading of the backend's clock, taken at ``_since`` in monotonic seconds; ``None`` before the first."""
        self._since = 0.0
        self._asked = float("-inf")
        self.monotonic = clock.monotonic
        self.sleep = clock.sleep
        self.wait = clock.wait

    def follow(self, backend: Backend) -> None:
        """Use the time of *backend* from now on."""
        self._backend = backend

    def time(self) -> float:
        """Return UTC epoch seconds."""
        at = self.monotonic()
        if not 0.0 <= at - self._asked < _ASK_AGAIN:
            self._asked = at
            self._ask()
        return self._clock.time() if self._reported is None else self._reported + (self.monotonic() - self._since)

    def _ask(self) -> None:
        """Read the backend's clock; if it does not answer, keep the last reading."""
        if self._backend is None:
            self._asked = float("-inf")
            return
        try:
            with time_limit(_LONGEST_ASK):
                reported = self._backend.now()
        except UnavailableError:
            return
        if reported is not None:
            self._reported, self._since = reported, self.monotonic()
