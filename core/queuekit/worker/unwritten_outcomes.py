"""Bounds the outcomes that are decided and not written: their bodies would run again if the worker died now."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

__all__ = ["UnwrittenOutcomes"]

_WORK = 0.1
"""Seconds of work whose outcomes may wait to be written, if that is more than two round trips write."""
_SHORT = 0.02
"""Seconds from which on a body is worth more than a place that waits: there may be no more outcomes than places."""
_DECAY = 0.8


class UnwrittenOutcomes:
    """How many outcomes may wait, by the pace of bodies and of the engine.

    No lock is taken, and nobody waits, as long as the engine keeps up.

    Args:
        places: Bodies that run at once.
        pace: Returns the average seconds that a body takes.
    """

    def __init__(self, places: int = sys.maxsize, *, pace: Callable[[], float] = lambda: 0.0) -> None:
        self._places = places
        self._pace = pace
        self._most: float = places
        self._strict = False
        """Whether an outcome that waits takes a place, since it may wait for longer than a body takes."""
        self._slowest = 0.0
        """Seconds of the slowest of the last round trips."""
        self._waiters = 0
        self._changed = threading.Condition()
        self.waiting: Callable[[], int] = lambda: 0
        """Returns how many outcomes nobody has begun to write."""
        self.writing = 0
        """How many are being written."""
        self.listeners: list[Callable[[], None]] = []
        """Called after each round trip."""

    def full(self, busy: int) -> bool:
        """Return whether no other body may begin now, while *busy* of them run."""
        count = self.waiting() + self.writing
        return count > 0 and (count + busy if self._strict else count) >= self._most

    def wait(self, busy: Callable[[], int]) -> None:
        """Block until another body may begin."""
        with self._changed:
            self._waiters += 1
            while self.full(busy()):
                self._changed.wait(1.0)
            self._waiters -= 1

    def wrote(self, count: int, seconds: float) -> None:
        """Take note of a round trip that wrote *count* outcomes in *seconds*."""
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
