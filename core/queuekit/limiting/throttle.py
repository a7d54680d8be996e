"""A rate limit around a block: in the body of a task, in a web server, in a script."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from queuekit.backend import Backend
from queuekit.clock import Clock
from queuekit.errors import LimitReachedError, OptionError, UnavailableError
from queuekit.ids import check_name
from queuekit.limiting.rates import LimitKey, Rates, Standing, starts
from queuekit.limiting.slot_store import Slots
from queuekit.limits import Limit, Rate
from queuekit.values import frozen
from queuekit.wire.call_options import Duration, seconds

__all__ = ["LimitStore", "RateLimit"]

_STEP = 0.5
"""Seconds between two looks of a thread that waits: an interruption arrives only when Python code runs."""
_ROUNDS, _PAUSE = 8, 0.05
"""How often a block asks for a start for which others contend, and most seconds after the first time; they double."""


@frozen(kw_only=True)
class LimitStore:
    """What limits need from their app.

    Attributes:
        clock: Source of time.
        backend: Returns the backend that stores limits.
        now: Returns UTC epoch seconds on the backend's clock.
        run: Runs a short blocking call for a coroutine.
        declared: Returns the limit that tasks declare under a name.
        slots: Returns the slots of all concurrency limits.
        chance: Returns a random number from 0 to 1.
    """

    clock: Clock
    backend: Callable[[], Backend]
    now: Callable[[], float]
    run: Callable[[Callable[[], Any]], Awaitable[Any]]
    declared: Callable[[str], Limit | None]
    slots: Callable[[], Slots]
    chance: Callable[[], float]


class RateLimit:
    """A rate limit that a block waits for; made by ``app.limit(name)``.

    ``with`` and ``async with`` reserve the next start, and wait for it. Blocks and tasks that name the same limit and
    key share it. Leaving the block does nothing.
    """

    def __init__(self, store: LimitStore, name: str, *, rate: Rate | None, key: object, wait: Duration | None) -> None:
        self.name = check_name(name, what="limit")
        """Its name."""
        if rate is not None and (not isinstance(rate, Rate) or rate.key is not None or rate.name not in {"", name}):
            raise OptionError(f'rate: expected a limit such as Rate("100/m"), without key and name, got {rate!r:.60}')
        self._store, self._rate, self._key = store, rate, "" if key is None else str(key)
        self._wait = seconds(wait, option="wait")

    def __enter__(self) -> Self:
        clock = self._store.clock
        end = clock.monotonic() + self._reserve()
        while (left := end - clock.monotonic()) > 0:
            clock.sleep(min(left, _STEP))
        return self

    async def __aenter__(self) -> Self:
        await asyncio.sleep(await self._store.run(self._reserve))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Do nothing: a start is not given back."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Do nothing: a start is not given back."""

    def _reserve(self) -> float:
        """Reserve the next start, and return the seconds until then.

        Raises:
            LimitReachedError: It is later than ``wait``; nothing was reserved.
            UnavailableError: Others reserved starts at each attempt.
        """
        place = LimitKey(self.name, self._key, self._numbers())
        for number in range(_ROUNDS):
            seconds = self._attempt(place)
            if seconds is not None:
                return seconds
            self._store.clock.sleep(_PAUSE * 2**number * self._store.chance())
        what = f"no start of the limit {self.name!r} is reserved: others reserve theirs at the same time"
        raise UnavailableError(what, fix="Try again in a moment")

    def _attempt(self, place: LimitKey) -> float | None:
        """Return the seconds until the start that is reserved; ``None`` if others have reserved theirs meanwhile."""
        now, waits = self._store.now(), [0.0]

        def count(_: LimitKey, standing: Standing) -> int:
            waits[0] = starts(standing.rate, 1, next_start=standing.next_start, now=now)[0][0] - now
            return int(self._wait is None or waits[0] <= self._wait)

        found = Rates(self._store.backend()).reserve([place], now, count).get(place)
        if found is None:
            return None
        if not found:
            error = LimitReachedError(f"the limit {self.name!r} lets the next block start in {waits[0]:.3g} s")
            error.retry_after = waits[0]
            raise error
        return max(0.0, found[0] - now)

    def _numbers(self) -> Rate:
        """Return the limit: as given, or as tasks declare it."""
        rate = self._rate or self._store.declared(self.name)
        if not isinstance(rate, Rate):
            what = f"no task has a limit {self.name!r}, so its numbers are not known"
            fix = f'Give them:  app.limit("{self.name}", rate=Rate("100/m")), or most=3 for blocks at the same time'
            raise OptionError(what, fix=fix)
        return rate
