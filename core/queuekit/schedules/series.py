"""Keeps the ticks of cron expressions that were computed last: whoever asks for the next tick asks again after it."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator

from queuekit.forks import renew_in_forks

__all__ = ["Series", "SeriesCache"]

_MOST_KNOWN = 2_000
"""Most ticks to keep of one series."""
_MOST_SERIES = 64
"""Most series to keep."""
_MOST_STEPS = 8
"""Most ticks to compute only to reach the moment that is asked for; beyond that a new series is cheaper."""


class Series:
    """The ticks from a moment on, computed as far as they were needed; any thread may ask.

    Args:
        start: First moment that is covered.
        ticks: The ticks from *start* on, in order.
    """

    def __init__(self, start: int, ticks: Iterator[int]) -> None:
        self._start = start
        self._ticks = ticks
        self._known: list[int] = []
        self._lock = threading.Lock()

    def covers(self, start: int) -> bool:
        """Return whether it is cheaper to go on from here than to begin anew at *start*."""
        known = self._known
        if start < self._start or len(known) > _MOST_KNOWN:
            return False
        if len(known) < 2:  # noqa: PLR2004 - the distance of two ticks is not known yet
            return start <= (known[-1] + 1 if known else self._start)
        return start <= known[-1] + _MOST_STEPS * (known[-1] - known[-2])

    def since(self, start: int) -> Iterator[int]:
        """Yield the ticks at or after *start*, in order."""
        place = bisect_left(self._known, start)
        while (tick := self._at(place)) is not None:
            if tick >= start:
                yield tick
            place += 1

    def _at(self, place: int) -> int | None:
        if place >= len(self._known):
            with self._lock:
                while place >= len(self._known):
                    tick = next(self._ticks, None)
                    if tick is None:
                        return None
                    self._known.append(tick)
        return self._known[place]


class SeriesCache:
    """The series that were used last, by what they are computed from."""

    def __init__(self) -> None:
        self.renew_in_fork()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Begin anew in a forked child: another thread of the parent may have held a lock."""
        self._lock = threading.Lock()
        self._series: OrderedDict[Hashable, Series] = OrderedDict()

    def since(self, key: Hashable, start: int, ticks: Callable[[], Iterator[int]]) -> Iterator[int]:
        """Yield the ticks at or after *start* of the series *key*.

        Args:
            key: What the series is computed from.
            start: First moment.
            ticks: Returns the ticks from *start* on; called if the series that is kept does not cover *start*.
        """
        with self._lock:
            series = self._series.get(key)
            if series is None or not series.covers(start):
                series = self._series[key] = Series(start, ticks())
                if len(self._series) > _MOST_SERIES:
                    self._series.popitem(last=False)
            self._series.move_to_end(key)
        return series.since(start)
