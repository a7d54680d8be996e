"""Schedules tell the same ticks to whoever asks, through nights on which the clocks change as well."""

import itertools
import sys
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from queuekit import cron, every
from queuekit.durations import DurationError
from queuekit.errors import DecodeError, ScheduleError
from queuekit.schedules.triggers import MOST_COUNTED, Cron, Every, When, when_from_dict, when_from_text

BERLIN = ZoneInfo("Europe/Berlin")
SPRING = datetime(2026, 3, 29, tzinfo=BERLIN)
"""Midnight before the clocks go from 02:00 to 03:00."""
AUTUMN = datetime(2026, 10, 25, tzinfo=BERLIN)
"""Midnight before the clocks go from 03:00 back to 02:00."""
NOON = 1_800_000_000.0 - 1_800_000_000 % 86_400 + 43_200


def local(when: When, start: datetime, count: int) -> list[str]:
    """Return the first *count* ticks after *start*, as clocks on the wall show them."""
    ticks = itertools.islice(when.ticks(start.timestamp() - 1), count)
    return [datetime.fromtimestamp(tick, when.zone()).strftime("%d %H:%M%z") for tick in ticks]


# -- every


def test_every_is_aligned_to_the_clock() -> None:
    """Ticks do not depend on when a process was started."""
    when = every("90s")

    ticks = list(itertools.islice(when.ticks(NOON + 1), 3))

    assert ticks == [NOON + 90, NOON + 180, NOON + 270]


def test_offset_moves_all_ticks() -> None:
    """An offset is added to each tick; more than a period of it is one period less."""
    assert every("1h", offset="5m").next_after(NOON) == NOON + 300
    assert every("1h", offset="65m") == every("1h", offset="5m")


@given(
    period=st.integers(100, 10_000_000),
    offset=st.integers(0, 10_000_000),
    moment=st.floats(0, 4e9, allow_nan=False),
)
def test_every_tick_leads_to_the_next(period: int, offset: int, moment: float) -> None:
    """The tick after a tick is one period later, whatever floats do; none is left out and none comes twice."""
    when = every(period / 1000, offset=offset / 1000)

    first = when.next_after(moment)
    assert first is not None
    second = when.next_after(first)

    assert second is not None
    assert moment < first <= moment + when.seconds + 0.001
    assert round((second - first) * 1000) == period
    assert when.latest(moment - 1e9, second) == second
    assert when.latest(first, (first + second) / 2) is None


@pytest.mark.parametrize("period", [0, "99ms"])
def test_every_refuses_what_is_too_often(period: Any) -> None:
    """A period below a tenth of a second is a mistake."""
    with pytest.raises(ScheduleError, match="too often"):
        every(period)


# -- cron: nights on which the clocks change


@pytest.mark.parametrize(
    ("expression", "start", "ticks"),
    [
        pytest.param("30 2 * * *", SPRING, ["29 03:00+0200", "30 02:30+0200"], id="spring-in-the-gap"),
        pytest.param("0,30 2 * * *", SPRING, ["29 03:00+0200", "30 02:00+0200"], id="spring-twice-in-the-gap"),
        pytest.param("30 1-3 * * *", SPRING, ["29 01:30+0100", "29 03:00+0200", "29 03:30+0200"], id="spring-around"),
        pytest.param("0 * * * *", SPRING, ["29 00:00+0100", "29 01:00+0100", "29 03:00+0200"], id="spring-hourly"),
        pytest.param("30 2 * * *", AUTUMN, ["25 02:30+0200", "26 02:30+0100"], id="autumn-once"),
        pytest.param("30 1-3 * * *", AUTUMN, ["25 01:30+0200", "25 02:30+0200", "25 03:30+0100"], id="autumn-around"),
        pytest.param(
            "0 * * * *",
            AUTUMN,
            ["25 00:00+0200", "25 01:00+0200", "25 02:00+0200", "25 02:00+0100", "25 03:00+0100"],
            id="autumn-hourly",
        ),
        pytest.param(
            "*/20 2 * * *",
            AUTUMN,
            ["25 02:00+0200", "25 02:20+0200", "25 02:40+0200", "25 02:00+0100", "25 02:20+0100", "25 02:40+0100"],
            id="autumn-by-elapsed-time",
        ),
    ],
)
def test_clocks_change(expression: str, start: datetime, ticks: list[str]) -> None:
    """A job at a fixed time runs once on both nights; one that goes by elapsed time follows that."""
    assert local(cron(expression, tz="Europe/Berlin"), start, len(ticks)) == ticks


def test_hour_that_comes_again_has_no_second_tick() -> None:
    """Asked from within the second coming of an hour, a job at a fixed time in it is next due tomorrow."""
    again = datetime(2026, 10, 25, 2, 15, tzinfo=BERLIN, fold=1)

    assert local(cron("30 2 * * *", tz="Europe/Berlin"), again, 1) == ["26 02:30+0100"]


EXPRESSIONS = ["30 2 * * *", "0,30 2 * * *", "30 1-3 * * *", "*/20 2 * * *", "0 */2 * * *", "5 0 1 * *", "0 12 * * 7"]


@given(
    expression=st.sampled_from(EXPRESSIONS),
    night=st.sampled_from([SPRING, AUTUMN, datetime(2026, 10, 4, tzinfo=UTC), datetime(2026, 4, 5, tzinfo=UTC)]),
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
    minute=st.integers(-2_000, 2_000),
)
def test_tick_does_not_depend_on_who_asks(expression: str, night: datetime, zone: str, minute: int) -> None:
    """Whoever starts to look later sees the same ticks as one who looked all the time, each later than the last."""
    when = cron(expression, tz=zone)
    start = night.timestamp() - 3 * 86_400
    later = night.timestamp() + minute * 60

    all_ticks = list(itertools.takewhile(lambda tick: tick < start + 40 * 86_400, when.ticks(start)))
    seen_later = list(itertools.takewhile(lambda tick: tick < start + 40 * 86_400, when.ticks(later)))

    assert all_ticks == sorted(set(all_ticks))
    assert seen_later == [tick for tick in all_ticks if tick > later]
    assert when.latest(start, later) == max((tick for tick in all_ticks if tick <= later), default=None)
    assert when.count(start, later) == sum(tick <= later for tick in all_ticks)


@given(
    minute=st.sampled_from(["0", "*/7", "10-20", "3,33"]),
    hour=st.sampled_from(["*", "4", "*/6", "9-17"]),
    day=st.sampled_from(["*", "1", "L", "15"]),
    month=st.sampled_from(["*", "2", "JAN-MAR"]),
    weekday=st.sampled_from(["*", "1-5", "SUN", "5#2"]),
    moment=st.integers(1_700_000_000, 1_900_000_000),
)
def test_tick_is_what_cronsim_says(  # noqa: PLR0917 - hypothesis gives one argument a field
    minute: str, hour: str, day: str, month: str, weekday: str, moment: int
) -> None:
    """In UTC, where no clock changes, nothing stands between an expression and cronsim."""
    expression = f"{minute} {hour} {day} {month} {weekday}"

    expected = list(itertools.islice(CronSim(expression, datetime.fromtimestamp(moment, UTC)), 5))

    assert list(itertools.islice(cron(expression).ticks(moment), 5)) == [tick.timestamp() for tick in expected]


def test_latest_is_found_after_years() -> None:
    """The last tick before now is found without walking through all of them."""
    when = cron("0 0 29 2 *")

    leap = datetime(2024, 2, 29, tzinfo=UTC).timestamp()

    assert when.latest(0.0, datetime(2027, 1, 1, tzinfo=UTC).timestamp()) == leap
    assert when.latest(leap, datetime(2027, 1, 1, tzinfo=UTC).timestamp()) is None


def test_counting_has_an_end() -> None:
    """Of many ticks some are counted, so that nobody waits for the sum of years."""
    assert every("1s").count(0.0, 1e9) == MOST_COUNTED


def test_day_that_never_comes_has_no_tick() -> None:
    """What cannot be within fifty years has no next tick."""
    assert cron("0 0 31 2,4 1").next_after(NOON) is not None  # the day of the month or of the week
    assert Cron("0 0 29 2 1#1").latest(NOON, NOON + 1) is None


# -- writing and reading


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("@hourly", Cron("0 * * * *")),
        ("@daily", Cron("0 0 * * *")),
        ("@midnight", Cron("0 0 * * *")),
        ("@weekly", Cron("0 0 * * 0")),
        ("@monthly", Cron("0 0 1 * *")),
        ("@yearly", Cron("0 0 1 1 *")),
        ("@Annually", Cron("0 0 1 1 *")),
        ("@every 1h30m", Every(5400.0)),
        ("*/5  9-17 * * 1-5", Cron("*/5 9-17 * * 1-5")),
    ],
)
def test_cron_reads(text: str, when: When) -> None:
    """Aliases, Machinery's ``@every`` and five fields are read."""
    assert cron(text) == when


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("* * * *", "needs minute, hour"),
        ("0 0 3 * * *", "needs minute, hour"),
        ("61 * * * *", "bad minute"),
        ("0 0 30 2 *", "bad day"),
        ("@dayly", "Did you mean '@daily'"),
        ("@every", "duration"),
    ],
)
def test_cron_refuses(text: str, says: str) -> None:
    """An expression that cannot be is refused where it is written, with what is wrong."""
    with pytest.raises((ScheduleError, DurationError), match=says):
        cron(text)


@pytest.mark.parametrize("tz", ["Europe/Berln", "", "../etc/passwd"])
def test_unknown_time_zone_is_refused(tz: str) -> None:
    """A time zone that this machine does not know is refused at once."""
    with pytest.raises(ScheduleError, match="unknown time zone"):
        cron("* * * * *", tz=tz)


@pytest.mark.parametrize("when", [every("90s"), every("1d", offset="3h"), cron("0 3 * * 1", tz=BERLIN)], ids=str)
def test_round_trips(when: When) -> None:
    """What is stored of a schedule comes back as it was."""
    assert when_from_dict(when.to_dict()) == when


@pytest.mark.parametrize("data", [{}, {"every": "x"}, {"cron": "* * * * *"}, {"lunar": 1}])
def test_reading_refuses_what_it_does_not_know(data: dict[str, Any]) -> None:
    """Records of a later release are no schedule here."""
    with pytest.raises(DecodeError, match="not a schedule"):
        when_from_dict(data)


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("30s", Every(30.0)),
        ("every 1h30m", Every(5400.0)),
        ("0 3 * * *", Cron("0 3 * * *", tz="Europe/Berlin")),
        ("@daily", Cron("0 0 * * *", tz="Europe/Berlin")),
    ],
)
def test_reads_what_people_write(text: str, when: When) -> None:
    """On the command line a duration is a pace, and several words are a cron expression."""
    assert when_from_text(text, tz="Europe/Berlin") == when


@pytest.mark.parametrize(
    ("when", "words", "text"),
    [
        (every("90s"), "Every 1m30s", "every 1m30s"),
        (every("1h", offset="5m"), "Every 1h + 5m", "every 1h + 5m"),
        (cron("*/5 9-17 * * 1-5"), "Every fifth minute from 09:00 through 17:59 on Monday through Friday", None),
        (cron("0 3 * * *", tz=BERLIN), "At 03:00 every day, Europe/Berlin", "0 3 * * * (Europe/Berlin)"),
    ],
)
def test_says_it_in_words(when: When, words: str, text: str | None) -> None:
    """A person reads words, and what was written."""
    assert when.words() == words
    assert str(when) == (text or "*/5 9-17 * * 1-5")


def test_without_cronsim_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cron expression needs the extra; a pace does not, and neither does a listing."""
    for module in ("cronsim", "cronsim.explain"):
        monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ScheduleError, match=r"queuekit\[cron\]"):
        cron("* * * * *")
    assert Cron("0 3 * * *").words() == "0 3 * * *"
    assert every("30s").next_after(NOON) == NOON + 30
