"""What is sent when a scheduler comes late: by policy, and each tick under an id of its own."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit import every
from queuekit.schedules.due import MISFIRES, Due, Misfire, due, tick_id

START = 1_800_000_000.0
MINUTE = every("1m")


def after_outage(seconds: float, misfire: Misfire) -> Due:
    """Return what is due *seconds* after the last tick that was dealt with."""
    return due(MINUTE, after=START, now=START + seconds, misfire=misfire, grace=90.0)


@pytest.mark.parametrize("misfire", MISFIRES)
def test_nothing_is_due_before_the_next_tick(misfire: Misfire) -> None:
    """Until the next tick nothing is sent, and nothing recorded."""
    assert after_outage(59.9, misfire) == Due()


@pytest.mark.parametrize("misfire", MISFIRES)
def test_tick_is_due_at_its_moment(misfire: Misfire) -> None:
    """At its moment a tick is sent."""
    assert after_outage(60.0, misfire) == Due(send=(START + 60,), first=START + 60, upto=START + 60)


@pytest.mark.parametrize("misfire", MISFIRES)
def test_change_of_leader_loses_no_tick(misfire: Misfire) -> None:
    """As long as the first tick is not later than the grace, all are sent, whatever the policy."""
    found = after_outage(150.0, misfire)

    assert found.send == (START + 60, START + 120)
    assert found.missed == 0


@pytest.mark.parametrize(
    ("misfire", "sent", "missed"),
    [("skip", [600], 9), ("once", [600], 9), ("all", list(range(60, 601, 60)), 0)],
)
def test_outage_is_dealt_with_by_policy(misfire: Misfire, sent: list[int], missed: int) -> None:
    """After an outage longer than the grace, one tick or all are sent; the last is only just due."""
    found = after_outage(610.0, misfire)

    assert [tick - START for tick in found.send] == sent
    assert (found.missed, found.first, found.upto) == (missed, START + 60, START + 600)


def test_skip_sends_nothing_late() -> None:
    """Under ``skip`` a tick that is later than the grace is not sent at all; under ``once`` it is."""
    daily = every("1d")
    first = daily.next_after(START)
    assert first is not None
    late = {"after": START, "now": first + 3_600, "grace": 60.0}

    skipped, once = due(daily, misfire="skip", **late), due(daily, misfire="once", **late)

    assert (len(skipped.send), skipped.missed) == (0, 1)
    assert (len(once.send), once.missed) == (1, 0)
    assert skipped.upto == once.upto


def test_all_goes_in_parts() -> None:
    """Thousands of late ticks are sent a hundred at a time, in order, none left out."""
    now, after, seen = START + 15_000, START, 0
    while (found := due(MINUTE, after=after, now=now, misfire="all", grace=60.0)).upto is not None:
        assert len(found.send) <= 100
        seen, after = seen + len(found.send), found.upto

    assert seen == 250


@given(
    misfire=st.sampled_from(MISFIRES),
    pauses=st.lists(st.floats(0.1, 900), min_size=1, max_size=30),
    grace=st.floats(0, 300),
)
def test_each_tick_is_dealt_with_once(misfire: Misfire, pauses: list[float], grace: float) -> None:
    """However late a scheduler comes, each tick is sent once or counted as missed once, in order."""
    now = after = START
    sent: list[float] = []
    missed = 0
    for pause in pauses:
        now += pause
        while (found := due(MINUTE, after=after, now=now, misfire=misfire, grace=grace)).upto is not None:
            sent += found.send
            missed, after = missed + found.missed, found.upto

    assert sent == sorted(set(sent))
    assert len(sent) + missed == MINUTE.count(START, now)
    assert misfire != "all" or missed == 0


def test_id_follows_from_name_and_tick() -> None:
    """Two schedulers that never met send one tick under one id, which is a UUIDv7 of the tick's time."""
    id = tick_id("nightly", START)

    assert id == tick_id("nightly", START)
    assert len({id, tick_id("nightly", START + 0.1), tick_id("hourly", START)}) == 3
    assert uuid.UUID(id).version == 7
    assert uuid.UUID(id).int >> 80 == START * 1000
    assert tick_id("z", START) < tick_id("a", START + 1)
