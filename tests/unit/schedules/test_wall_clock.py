"""What clocks on the wall show, in every zone and over every kind of shift, against a search minute by minute."""

import functools
import itertools
from bisect import bisect_left
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from cronsim import CronSim
from hypothesis import example, given
from hypothesis import strategies as st

from queuekit.schedules.triggers import Cron

HOUR, DAY = 3_600, 86_400
STEP = 30
"""Seconds between two looks: no clock of the last fifty years has been off a minute of UTC by less."""
ODD_NIGHTS = [
    pytest.param("Europe/Berlin", "2026-03-29", id="an-hour-forward"),
    pytest.param("Europe/Berlin", "2026-10-25", id="an-hour-back"),
    pytest.param("Australia/Lord_Howe", "2026-04-05", id="half-an-hour-back"),
    pytest.param("Australia/Lord_Howe", "2026-10-04", id="half-an-hour-forward"),
    pytest.param("Antarctica/Troll", "2026-03-29", id="two-hours-forward"),
    pytest.param("Antarctica/Casey", "2011-10-28", id="three-hours-forward"),
    pytest.param("Africa/Cairo", "2026-04-24", id="midnight-is-skipped"),
    pytest.param("America/Havana", "2026-11-01", id="back-to-midnight"),
    pytest.param("America/Asuncion", "2024-03-24", id="midnight-comes-twice"),
    pytest.param("America/Nuuk", "2024-03-30", id="skipped-up-to-midnight"),
    pytest.param("Africa/Casablanca", "2026-02-15", id="negative-summer-time"),
    pytest.param("Europe/Dublin", "2026-10-25", id="winter-time-is-the-exception"),
    pytest.param("Pacific/Apia", "2011-12-30", id="a-day-is-skipped"),
    pytest.param("Asia/Pyongyang", "2018-05-05", id="half-an-hour-across-midnight"),
    pytest.param("Asia/Kathmandu", "1986-01-01", id="a-quarter-of-an-hour"),
    pytest.param("Africa/Monrovia", "1972-01-07", id="seconds"),
]
EXPRESSIONS = [
    "30 2 * * *",
    "0 0 * * *",
    "0,30 0 * * *",
    "30 1-3 * * *",
    "0-59/7 0-23 * * *",
    "*/20 2 * * *",
    "*/20 1 * * *",
    "0 * * * *",
    "15 */2 * * *",
]


def shown(zone: ZoneInfo, moment: int) -> datetime:
    """Return what the clock on the wall shows."""
    return datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0)


@functools.lru_cache(maxsize=1)
def seen(zone: ZoneInfo, moments: range) -> list[datetime]:
    """Return what the clock shows at all *moments*."""
    return [shown(zone, moment) for moment in moments]


def searched(when: Cron, start: int, end: int) -> list[float]:
    """Return the ticks from *start* to *end*, found by looking at the clock every half a minute."""
    moments = range(start - 2 * DAY, end, STEP)
    clock = seen(ZoneInfo(when.tz), moments)
    first, last = min(clock), max(clock)
    sims = CronSim(when.expression, first - timedelta(seconds=1))
    times = list(itertools.takewhile(lambda each: each < last, sims))
    if "*" in {when.expression[0], when.expression.split()[1][0]}:
        wanted = set(times)
        found = {moment for moment, each in zip(moments, clock, strict=True) if each in wanted}
    else:
        highest = list(itertools.accumulate(clock, max))
        days = {each.date() for each in clock}
        found = {moments[bisect_left(highest, each)] for each in times if each.date() in days}
    return sorted(float(moment) for moment in found if start <= moment < end)


def ticks(when: Cron, start: int, end: int) -> list[float]:
    """Return the ticks from *start* to *end*."""
    return list(itertools.takewhile(lambda tick: tick < end, when.ticks(start - 1)))


@pytest.mark.parametrize(("zone", "day"), ODD_NIGHTS)
def test_ticks_are_those_of_a_search(zone: str, day: str) -> None:
    """A fixed time comes once a day that there is, when the clock first shows it or more; a passing one when shown."""
    midnight = round(datetime.combine(datetime.fromisoformat(day), time(), ZoneInfo(zone)).timestamp()) // STEP * STEP
    start, end = midnight - DAY, midnight + 2 * DAY
    offsets = {datetime.fromtimestamp(moment, ZoneInfo(zone)).utcoffset() for moment in range(start, end, HOUR)}

    for expression in EXPRESSIONS:
        when = Cron(expression, tz=zone)
        assert ticks(when, start, end) == searched(when, start, end), expression
    assert len(offsets) > 1


def shifts(zone: ZoneInfo, year: int) -> list[int]:
    """Return moments of a year in whose day before the clock was put forward or back."""
    new_year = round(datetime(year, 1, 1, tzinfo=UTC).timestamp())
    days = range(new_year, new_year + 366 * DAY, DAY)
    offsets = [datetime.fromtimestamp(day, zone).utcoffset() for day in days]
    return [day for day, before, after in zip(days[1:], offsets, offsets[1:], strict=False) if before != after]


@given(
    zone=st.sampled_from(sorted(available_timezones())),
    year=st.integers(1975, 2036),
    which=st.integers(0, 3),
    expression=st.sampled_from(EXPRESSIONS),
    asked=st.integers(-2 * DAY, DAY),
)
@example(zone="Australia/Lord_Howe", year=2026, which=0, expression="*/20 2 * * *", asked=-DAY)
@example(zone="Australia/Lord_Howe", year=2026, which=0, expression="*/20 2 * * *", asked=-9 * HOUR)
def test_no_tick_depends_on_the_moment_of_asking(zone: str, year: int, which: int, expression: str, asked: int) -> None:
    """In any zone, near any shift of its clock, whoever asks later is told the same ticks as one who asked before."""
    when = Cron(expression, tz=zone)
    found = shifts(ZoneInfo(zone), year) or [round(datetime(year, 6, 1, tzinfo=UTC).timestamp())]
    near = found[which % len(found)]

    before = ticks(when, near - 3 * DAY, near + 2 * DAY)

    assert before == sorted(set(before))
    assert ticks(when, near + asked + 1, near + 2 * DAY) == [tick for tick in before if tick > near + asked]
    assert when.latest(near - 3 * DAY, near + asked) == max(
        (tick for tick in before if tick <= near + asked), default=None
    )


@pytest.mark.parametrize("moment", [float("-inf"), -1e18, 253_370_764_799.0, 2.6e11, 1e300, float("inf"), float("nan")])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize("expression", ["0 3 * * *", "*/5 * * * *"])
def test_calendar_has_ends(expression: str, zone: str, moment: float) -> None:
    """There are no ticks beyond the years that dates can have, and to ask for them is no error."""
    tick = Cron(expression, tz=zone).next_after(moment)

    assert (tick is None) == (not moment < 0)
