"""Bound the outcomes that are decided but not written: if the worker died, their bodies would run again."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

__all__ = ["UnwrittenOutcomes"]

_WORK = 0.1
"""Seconds of work whose outcomes may be unwritten, if that is more than two round trips write."""
_SHORT = 0.02
"""Average run time, in seconds, from which on the unwritten outcomes are limited to the number of slots."""
_DECAY = 0.8


class UnwrittenOutcomes:
    """Decides how many outcomes may be unwritten, from the run time of bodies and the speed of the engine.

    As long as the engine keeps up, this takes no lock and blocks no thread.

    Args:
        places: Most bodies that run at once.
        pace: Returns the average run time of a body, in seconds.
    """

    def __init__(self, places: int = sys.maxsize, *, pace: Callable[[], float] = lambda: 0.0) -> None:
        self._places = places
        self._pace = pace
        self._most: float = places
        self._strict = False
        """Whether an unwritten outcome occupies a slot, because it may wait for longer than a body runs."""
        self._slowest = 0.0
        """Seconds of the slowest recent round trip."""
        self._waiters = 0
        self._changed = threading.Condition()
        self.waiting: Callable[[], int] = lambda: 0
        """Returns how many outcomes wait to be written."""
        self.writing = 0
        """How many outcomes are being written."""
        self.listeners: list[Callable[[], None]] = []
        """Called after each round trip."""

    def full(self, busy: int) -> bool:
        """Return whether no other body may start while *busy* bodies run."""
        count = self.waiting() + self.writing
        return count > 0 and (count + busy if self._strict else count) >= self._most

    def wait(self, busy: Callable[[], int]) -> None:
        """Block until another body may start."""
        with self._changed:
            self._waiters += 1
            while self.full(busy()):
                self._changed.wait(1.0)
            self._waiters -= 1

    def wrote(self, count: int, seconds: float) -> None:
        """Record a round trip that wrote *count* outcomes in *seconds*."""
        self.writing = 0
        self._slowest = max(seconds, _DECAY * self._slowest)
        pace = self._pace()
        if pace >= _SHORT:
            self._most, self._strict = self._places, 2 * self._slowest >= pace
        else:
            most = max(self._places, 2 * count, _WORK * count / max(seconds, 1e-6))
            self._most, self._strict = max(most, _DECAY * self._most), False
        if self._waiters:
            with self._changed:
                self._changed.notify_all()
        for listener in self.listeners:
            listener()
