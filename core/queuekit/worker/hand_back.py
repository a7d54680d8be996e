"""Hands back what was fetched and cannot begin soon, since long bodies take the places in which it would run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from queuekit.execution.outcome import Run
from queuekit.worker.prefetch import HORIZON, Prefetch

__all__ = ["LOOK", "HandBack", "Pool"]

LOOK = 0.1
"""Seconds between two looks while messages wait for a place."""
_LONG = 0.2
"""Seconds after which a body has taken longer than was expected of all that is held ready."""
_SOON = 0.2
"""Seconds within which what is kept should begin, at the rate of late."""
_MOST_TIMES = 2
"""How many times a message is handed back at most: by its third claim it stays."""


class Pool(Protocol):
    """Where runs wait for a place."""

    running: dict[int, Run]

    @property
    def waiting(self) -> int:
        """How many have not begun."""
        ...

    def take_back(self, keep: int) -> list[Run]:
        """Take back all that have not begun but the first *keep*."""
        ...

    def submit(self, runs: Sequence[Run]) -> None:
        """Hand over *runs*."""
        ...


class HandBack:
    """Looks whether what waits can begin soon.

    Args:
        prefetch: Told how many places are taken for long, and of hand-backs.
        pools: Returns where runs wait.
        done: Returns how many runs have ended so far.
        give_back: Called with each run that goes back, uncounted.
    """

    def __init__(
        self,
        prefetch: Prefetch,
        *,
        pools: Callable[[], Iterable[Pool]],
        done: Callable[[], int],
        give_back: Callable[[Run], None],
    ) -> None:
        self._prefetch = prefetch
        self._pools = pools
        self._done = done
        self._give_back = give_back
        self._last = (0, 0.0)

    def look(self, now: float) -> bool:
        """Look once, at *now*, monotonic seconds, and return whether to do so again soon."""
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

    def _relieve(self, pool: Pool, *, keep: int, longest: float) -> None:
        """Hand back what cannot begin soon, but what was handed back often, or could not come again."""
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
    """Return for how long each body has been running."""
    return [now - run.started for run in list(running.values()) if run.started is not None]
