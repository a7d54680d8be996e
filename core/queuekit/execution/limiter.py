"""Decide which messages of a batch may start now, by the rate limits of their tasks.

The others get a time of their own, and come back then: as their next hop, so that nothing counts as an attempt or a
crash. A message that has waited for its turn starts without another look at its limits, unless a task has slowed them
down meanwhile. One that has missed its turn, because no worker ran or the task was paused, gets another: else all that
missed theirs would start together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from queuekit.backend import Backend
from queuekit.broker import Release, Replace
from queuekit.client.runtime import Runtime
from queuekit.execution.outcome import Outcome, Run
from queuekit.limiting.rates import LimitKey, Rates, Standing, has_turn, with_turn

__all__ = ["Limiter"]

_CONTENDED = 1.0
"""Seconds, on average, until a message comes back for which no start could be reserved."""
_MISSED = 10.0
"""Seconds after its turn at which a message needs another one. Shorter, a busy worker would put off too many."""


@attrs.define
class _Wish:
    """A message that limits apply to."""

    run: Run
    places: tuple[LimitKey, ...]
    turn: float | None
    """Its reserved start, if it has one that it has not missed."""
    found: list[float] = attrs.field(factory=list)
    contended: bool = False


class Limiter:
    """Applies limits for one worker. Limits cost two round trips for each batch that holds limited messages.

    Args:
        runtime: Clock and limits of the broker.
        backend: Stores what is reserved.
    """

    def __init__(self, runtime: Runtime, backend: Backend) -> None:
        self._rates = Rates(backend)
        self._longest_delay = runtime.broker.limits.max_delay
        self._monotonic: Callable[[], float] = runtime.clock.monotonic
        self._chance = runtime.random.random

    def apply(self, runs: Sequence[Run]) -> tuple[list[Run], list[Outcome]]:
        """Return the runs that may start now, and the outcomes of the others.

        Raises:
            UnavailableError: The backend does not answer.
        """
        first = runs[0]
        now = first.delivery.claimed_at + self._monotonic() - first.received
        wishes = {run.serial: wish for run in runs if (wish := _wish(run, now)) is not None}
        if not wishes:
            return list(runs), []
        self._reserve(list(wishes.values()), now)
        late = {serial: outcome for serial, wish in wishes.items() if (outcome := self._late(wish, now)) is not None}
        return [run for run in runs if run.serial not in late], list(late.values())

    def _reserve(self, wishes: Sequence[_Wish], now: float) -> None:
        """Reserve starts for those that have none, and for those whose turn a task has put off."""
        waiting: dict[LimitKey, list[_Wish]] = {}
        for wish in sorted(wishes, key=lambda wish: wish.turn is None):  # those that had a turn come first
            for place in wish.places:
                waiting.setdefault(place, []).append(wish)

        def count(place: LimitKey, standing: Standing) -> int:
            return sum(_needs(wish, standing, now) for wish in waiting[place])

        reserved = self._rates.reserve(waiting, now, count)
        for place, some in waiting.items():
            times = reserved.get(place)
            for wish in some if times is None else some[len(some) - len(times) :]:
                wish.contended = wish.contended or times is None
            for wish, time in zip(some[len(some) - len(times or ()) :], times or (), strict=True):
                wish.found.append(time)

    def _late(self, wish: _Wish, now: float) -> Outcome | None:
        """Return the outcome of a message that may not start now."""
        delivery = wish.run.delivery
        if wish.contended:
            delay = _CONTENDED * (0.5 + self._chance())
            return Outcome(delivery=delivery, settlement=Release(delivery, delay=delay), status="held")
        turn = max(wish.found, default=now)
        if turn <= now:
            return None
        delay = 0.0 if self._longest_delay is None else min(turn - now, self._longest_delay)
        envelope = with_turn(delivery.envelope, turn, delay)
        return Outcome(delivery=delivery, settlement=Replace(delivery, envelope), status="held")


def _wish(run: Run, now: float) -> _Wish | None:
    """Return what *run* needs; ``None`` if no limit applies. A message that may have crashed has had its start."""
    limits, envelope = run.task.defaults.limits, run.delivery.envelope
    if not limits or run.delivery.crashes:
        return None
    keys = run.limit_keys
    named = [(limit.name or run.task.name, limit) for limit in limits]
    places = tuple(LimitKey(name, keys[name], limit) for name, limit in named if name in keys)
    turn = envelope.not_before if has_turn(envelope) else None
    turn = None if turn is None or turn < now - _MISSED else turn
    return _Wish(run, places, turn) if places else None


def _needs(wish: _Wish, standing: Standing, now: float) -> bool:
    return wish.turn is None or standing.until > now
