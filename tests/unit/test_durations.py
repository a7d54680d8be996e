"""Durations: what people may write, what they mean in seconds, and how seconds are written back."""

from datetime import timedelta
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit import durations
from queuekit.durations import DurationError


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        pytest.param(90, 90.0, id="whole"),
        pytest.param(1.5, 1.5, id="fraction"),
        pytest.param(0, 0.0, id="nothing"),
        pytest.param("90", 90.0, id="text"),
        pytest.param(" 1.5 ", 1.5, id="spaces"),
        pytest.param("500ms", 0.5, id="milliseconds"),
        pytest.param("30s", 30.0, id="seconds"),
        pytest.param("5m", 300.0, id="minutes"),
        pytest.param("1h30m", 5400.0, id="two-units"),
        pytest.param("2d 12h", 216_000.0, id="spaced-units"),
        pytest.param("1w1d1h1m1s1ms", 694_861.001, id="all-units"),
        pytest.param("1.5h", 5400.0, id="fraction-of-unit"),
        pytest.param(timedelta(minutes=2, milliseconds=250), 120.25, id="timedelta"),
    ],
)
def test_reads_what_people_write(written: float | str | timedelta, seconds: float) -> None:
    """Numbers, text with and without units and timedeltas are all seconds."""
    assert durations.parse(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written",
    [
        pytest.param("", id="empty"),
        pytest.param("soon", id="word"),
        pytest.param("10x", id="unit"),
        pytest.param("30m1h", id="order"),
        pytest.param("5m5m", id="twice"),
        pytest.param("1h 30", id="number-without-unit"),
        pytest.param("-5s", id="negative-text"),
        pytest.param(-1, id="negative"),
        pytest.param(timedelta(seconds=-1), id="negative-timedelta"),
        pytest.param(float("inf"), id="infinite"),
        pytest.param(float("nan"), id="no-number"),
        pytest.param("9" * 400, id="infinite-text"),
        pytest.param(1.1e11, id="beyond-all-calendars"),
        pytest.param(10**400, id="huge"),
        pytest.param(True, id="bool"),
        pytest.param(None, id="none"),
        pytest.param("٣s", id="other-digits"),
    ],
)
def test_refuses_the_rest(written: object) -> None:
    """What is no duration raises one error, which is also a ValueError and tells what would do."""
    with pytest.raises(DurationError, match=r'expected a duration such as 90, "1h30m" or "500ms", got') as caught:
        durations.parse(cast("float", written))

    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        pytest.param(0, "0s", id="nothing"),
        pytest.param(0.0003, "0.3ms", id="below-a-millisecond"),
        pytest.param(0.5, "500ms", id="milliseconds"),
        pytest.param(0.9999, "1s", id="almost-a-second"),
        pytest.param(1.5, "1.5s", id="fraction"),
        pytest.param(59.9996, "1m", id="almost-a-minute"),
        pytest.param(30, "30s", id="seconds"),
        pytest.param(5400, "1h30m", id="two-units"),
        pytest.param(90_061.25, "1d1h1m1.25s", id="all-units"),
        pytest.param(604_800, "7d", id="week"),
        pytest.param(-5, "-5s", id="negative"),
        pytest.param(float("inf"), "inf", id="infinite"),
    ],
)
def test_writes_seconds_for_people(seconds: float, written: str) -> None:
    """Seconds come out in the greatest units that fit."""
    assert durations.format(seconds) == written


@given(st.floats(min_value=0, max_value=1e9))
def test_reads_what_it_writes(seconds: float) -> None:
    """What is written reads back as the same duration, to the millisecond."""
    written = durations.format(seconds)

    assert durations.parse(written) == pytest.approx(seconds, abs=0.0006)
