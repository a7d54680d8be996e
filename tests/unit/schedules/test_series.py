"""Ticks that are kept: the same as those that are computed anew, whatever is asked for and in which order."""

import random
from collections.abc import Iterator

import pytest

from queuekit.schedules import triggers
from queuekit.schedules.series import SeriesCache
from queuekit.schedules.triggers import Cron

SPRING = 1_774_742_400
"""A day before the clocks of Berlin go forward in 2026."""


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 */6 * * *", "15 1-4 * * 0", "*/7 * * * *", "0 0 29 2 *"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Australia/Lord_Howe"])
def test_ticks_are_those_that_are_computed_anew(expression: str, zone: str) -> None:
    """Forwards one by one, in leaps, and back again, over two changes of the clocks."""
    chance, when = random.Random(7), Cron(expression, tz=zone)
    moments = [SPRING + 3_600 * hour for hour in range(0, 24 * 4, 5)]
    moments += [SPRING + chance.randrange(-(10**7), 3 * 10**7) for _ in range(20)]
    moment: float | None = SPRING
    for _ in range(20):
        moments.append(round(moment or 0))
        moment = when.next_after(moment or 0)

    found = [when.next_after(moment) for moment in moments]

    assert found == [next(map(float, when._computed(moment + 1)), None) for moment in moments]


def test_a_year_of_days_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next tick after a tick takes one step, not a new start."""
    begun: list[int] = []
    computed = Cron._computed

    def counted(self: Cron, start: int) -> Iterator[int]:
        begun.append(start)
        return computed(self, start)

    monkeypatch.setattr(triggers, "_series", SeriesCache())
    monkeypatch.setattr(Cron, "_computed", counted)
    when = Cron("30 2 * * *", tz="Europe/Berlin")
    moment = float(SPRING)
    for _ in range(365):
        following = when.next_after(moment)
        assert following is not None
        assert when.latest(moment, following) == following
        moment = following

    assert len(begun) == 1


def test_a_distant_moment_begins_anew() -> None:
    """Nothing counts through a century to get there."""
    steps: list[int] = []

    def ticks_from(start: int) -> Iterator[int]:
        for tick in range(start, 10**9, 10):
            steps.append(tick)
            yield tick

    cache = SeriesCache()
    for start in (0, 10, 20, 10**8):
        assert next(cache.since("key", start, lambda start=start: ticks_from(start))) == start  # type: ignore[misc]

    assert len(steps) == 4


def test_series_that_are_not_used_are_dropped() -> None:
    """A program that computes many expressions keeps the last ones."""
    cache = SeriesCache()
    for key in range(200):
        next(cache.since(key, 0, lambda: iter([1])))

    assert list(cache._series) == list(range(200 - 64, 200))
