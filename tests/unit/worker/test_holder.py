"""Which thread may hold the interpreter of a silent process."""

import os
import threading
from pathlib import Path

import pytest

from queuekit.worker.holder import Activity, activities, may_hold
from queuekit.worker.run_table import RunTable

HOLDER, WAITING, ASLEEP = 1, 2, 3
BEFORE = {thread: Activity(100, 1_000) for thread in (HOLDER, WAITING, ASLEEP)}


@pytest.mark.parametrize(
    ("ticks", "holders"),
    [pytest.param(50, {HOLDER}, id="computes"), pytest.param(0, {HOLDER, ASLEEP}, id="sleeps-and-holds-it")],
)
def test_who_waits_for_it_does_not_hold_it(ticks: int, holders: set[int]) -> None:
    """It wakes again and again to ask for it; whoever computes meanwhile has it."""
    now = {HOLDER: Activity(100 + ticks, 1_000), WAITING: Activity(101, 1_200), ASLEEP: Activity(100, 1_001)}

    assert may_hold(BEFORE, now, [HOLDER, WAITING, ASLEEP]) == holders


def test_who_is_not_known_may_hold_it() -> None:
    """Where the system tells nothing, all may."""
    assert may_hold({}, {}, [1, 2]) == {1, 2}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system does not tell what threads do")
def test_asks_the_system() -> None:
    """Of threads that are there."""
    own = threading.get_native_id()

    found = activities(os.getpid(), [own, 0])

    assert set(found) == {own}
    assert found[own].ticks >= 0


def test_a_row_tells_its_thread() -> None:
    """Told once, for all that the thread runs."""
    slots = RunTable(2)
    slots.thread(1, 4711)

    for serial in (7, 8):
        slots.enter(1, serial, 1.0)
        assert slots.entered()[serial].thread == 4711
