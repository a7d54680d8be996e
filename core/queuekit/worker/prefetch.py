"""How many messages to hold beyond the running ones: about 100 ms of work, and none for long tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["Prefetch"]

HORIZON = 0.1
"""Seconds of work to hold ready."""
FAIR_HORIZON = 0.01
"""Seconds of work to hold ready where lanes take turns or slots are held: what is fetched has had its turn."""
FAIR_MOST = 100
"""... and most messages to hold ready there: however short the bodies, a worker spends about 0.1 ms on a message."""
MOST_BYTES = 500_000
"""Bytes of bodies to hold ready: hundreds of small messages, or a few large ones."""
LITTLE_BYTES = 250_000
"""Bytes of a batch up to which it is accepted without counting the held bytes."""
_WEIGHT = 0.2


class Prefetch:
    """Keeps a moving average of the run time of each task name; an unknown task counts as long.

    Args:
        concurrency: Most tasks that run at once.
        most: Most messages to hold ready.
    """

    def __init__(self, *, concurrency: int, most: int) -> None:
        self._concurrency = concurrency
        self._most = most
        self._averages: dict[str, float] = {}
        self._seen: frozenset[str] = frozenset()
        self._body_bytes = 1.0
        self.occupied = 0
        """Slots of bodies that have already run for longer than :data:`HORIZON`."""
        self.fair = False
        """Whether the messages of the last batch have lanes, or may hold slots of concurrency limits."""
        self._cautious = False
        self.mean = 0.0
        """Moving average of the run time of all runs, in seconds."""

    def weigh(self, sizes: Sequence[int]) -> None:
        """Record the bytes of the bodies in the last batch."""
        self._body_bytes = max(1.0, sum(sizes) / len(sizes))

    def fitting(self, sizes: Sequence[int], *, held: int, free: int) -> int:
        """Return how many of a batch's bodies may be held as well, from the first on.

        Args:
            sizes: Bytes of the bodies of a batch.
            held: Bytes of the bodies already held.
            free: How many to accept in any case, since they start at once.
        """
        for count, size in enumerate(sizes):
            held += size
            if held > MOST_BYTES and count >= free:
                # The returned messages would be fetched again at once: assume that all are as large as the largest.
                self.weigh([max(sizes)])
                return count
        return len(sizes)

    def saw(self, names: Iterable[str]) -> None:
        """Record the tasks of the last batch: the next is likely to have the same."""
        self._seen = frozenset(names)

    def observe(self, name: str, seconds: float) -> None:
        """Record the run time of one run."""
        self.mean += _WEIGHT * (seconds - self.mean)
        if self._cautious:
            self._cautious = self.mean >= HORIZON
        old = self._averages.get(name)
        self._averages[name] = seconds if old is None else old + _WEIGHT * (seconds - old)

    def average(self, name: str) -> float | None:
        """Return the average run time of a task, in seconds; ``None`` if it is not known."""
        return self._averages.get(name)

    def handed_back(self, seconds: float) -> None:
        """Hold nothing ready until runs are short on average again.

        Messages were handed back because a body that had run for *seconds* kept them from starting.
        """
        self._cautious, self.mean = True, max(seconds, self.mean, HORIZON)

    def size(self) -> int:
        """Return how many messages to hold beyond the free slots."""
        if self._cautious:
            return 0
        averages = [self._averages.get(name) for name in self._seen]
        known = [average for average in averages if average is not None]
        if not known or len(known) < len(averages):
            return 0
        longest = max(*known, 1e-6)
        most = min(self._most, int(MOST_BYTES / self._body_bytes), FAIR_MOST if self.fair else self._most)
        places, horizon = max(0, self._concurrency - self.occupied), FAIR_HORIZON if self.fair else HORIZON
        return 0 if longest >= horizon else min(most, int(places * horizon / longest))
