"""Hand back fetched messages that cannot start soon, because long bodies occupy the slots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from queuekit.execution.outcome import Run
from queuekit.worker.prefetch import HORIZON, Prefetch

__all__ = ["LOOK", "HandBack", "RunPool"]

LOOK = 0.1
"""Seconds between two checks while messages wait for a slot."""
_LONG = 0.2
"""Seconds after which a body has run longer than all prefetched messages were expected to take."""
_SOON = 0.2
"""Seconds within which kept messages should start, at the current rate."""
_MOST_TIMES = 2
"""Most times that a message is handed back: after its third claim it stays."""


class RunPool(Protocol):
    """A pool in which runs wait for a slot."""

    running: dict[int, Run]

    @property
    def waiting(self) -> int:
        """How many have not started."""
        ...

    def take_back(self, keep: int) -> list[Run]:
        """Take back the runs that have not started, except the first *keep*."""
        ...

    def submit(self, runs: Sequence[Run]) -> None:
        """Hand over *runs*."""
        ...


class HandBack:
    """Checks whether waiting runs can start soon.

    Args:
        prefetch: Notified of slots with long bodies, and of hand-backs.
        pools: Returns the pools in which runs wait.
        done: Returns how many runs have ended so far.
        give_back: Called with each run to release, uncounted.
    """

    def __init__(
        self,
        prefetch: Prefetch,
        *,
        pools: Callable[[], Iterable[RunPool]],
        done: Callable[[], int],
        give_back: Callable[[Run], None],
    ) -> None:
        self._prefetch = prefetch
        self._pools = pools
        self._done = done
        self._give_back = give_back
        self._last = (0, 0.0)

    def look(self, now: float) -> bool:
        """Check once, at the monotonic time *now*, and return whether to check again soon."""
        done = self._done()
        before, moment = self._last
        self._last = (done, now)
        rate = (done - before) / max(now - moment, 1e-3)
        occupied = waiting = 0
        for pool in self._pools():
            times = _times(pool.running, now)
            occupied += sum(seconds >= HORIZON for seconds in times)
            waiting += pool.waiting
            if pool.waiting and max(times, default=0.0) >= _LONG:
                self._relieve(pool, keep=int(rate * _SOON), longest=max(times))
        self._prefetch.occupied = occupied
        return bool(waiting or occupied) or self._prefetch.size() > 0

    def _relieve(self, pool: RunPool, *, keep: int, longest: float) -> None:
        """Hand back runs that cannot start soon, except those handed back before too often or acknowledged early."""
        if pool.waiting <= keep:
            return
        runs = pool.take_back(keep)
        staying = [run for run in runs if run.delivery.number > _MOST_TIMES or run.early]
        if staying:
            pool.submit(staying)
        if len(staying) < len(runs):
            self._prefetch.handed_back(longest)
        for run in runs:
            if run.delivery.number <= _MOST_TIMES and not run.early:
                self._give_back(run)


def _times(running: Mapping[int, Run], now: float) -> list[float]:
    """Return how long each body has been running, in seconds."""
    return [now - run.started for run in list(running.values()) if run.started is not None]
