"""The time of the result backend as a clock, for a broker whose service does not tell the time."""

from __future__ import annotations

from queuekit.backend import Backend
from queuekit.clock import Clock
from queuekit.errors import UnavailableError
from queuekit.timelimit import time_limit

__all__ = ["BackendClock"]

_ASK_AGAIN = 60.0
"""Seconds after which the backend is asked again: so long two machines measure time alike."""
_LONGEST_ASK = 2.0
"""Seconds to wait for its answer."""


class BackendClock:
    """A clock whose time of day is the backend's, asked once a minute; intervals and waits are those of *clock*.

    Until the backend has told the time, and where it does not, the time of day is that of *clock* as well.

    Args:
        clock: The machine's.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._backend: Backend | None = None
        self._reported: float | None = None
        """What the backend has told, and ``_since`` when, in monotonic seconds; ``None`` before that."""
        self._since = 0.0
        self._asked = float("-inf")
        self.monotonic = clock.monotonic
        self.sleep = clock.sleep
        self.wait = clock.wait

    def follow(self, backend: Backend) -> None:
        """Tell the time of *backend* from now on."""
        self._backend = backend

    def time(self) -> float:
        """Return UTC epoch seconds."""
        at = self.monotonic()
        if not 0.0 <= at - self._asked < _ASK_AGAIN:
            self._asked = at
            self._ask()
        return self._clock.time() if self._reported is None else self._reported + (self.monotonic() - self._since)

    def _ask(self) -> None:
        """Ask the backend; while it does not answer, what it has told before is as good."""
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
