"""The clock of a test: it stands still until the test, or what the test runs, moves it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from queuekit.clock import VirtualClock

__all__ = ["StandingClock", "WouldWaitError"]


class WouldWaitError(RuntimeError):
    """A test waits for a result, but only the test itself could run the task."""


class StandingClock(VirtualClock):
    """Virtual time of one test. A sleep moves it; the test's own thread never waits on it.

    Args:
        start: Initial time in UTC epoch seconds; default: now, in whole seconds.
    """

    def __init__(self, start: int | None = None) -> None:
        super().__init__(int(time.time()) if start is None else start)
        self._owner = threading.get_ident()
        self.followers: list[Callable[[float], object]] = []
        """Called with the time after each move."""

    def advance(self, seconds: float) -> None:
        """Move the time forward by *seconds*."""
        super().advance(seconds)
        for follow in self.followers:
            follow(self.time())

    def sleep(self, seconds: float) -> None:
        """Move the time by *seconds*."""
        self.advance(max(0.0, seconds))

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait as a virtual clock does, in another thread than the test's.

        Raises:
            WouldWaitError: The test's own thread would wait, so nothing could end the wait.
        """
        if threading.get_ident() == self._owner:
            raise WouldWaitError(
                "the test waits for a result that is not there: call queue.run() before result.get(), and read "
                "a result before the clock passes results_expire"
            )
        return super().wait(condition, timeout)
