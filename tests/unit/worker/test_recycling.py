"""When a process has done enough; that it is replaced is in tests/integration."""

import math
from typing import Any

import pytest

from queuekit.config.settings import WorkerConfig
from queuekit.worker import memory
from queuekit.worker.memory import own_memory
from queuekit.worker.recycling import Bounds, Reached, Usage


@pytest.mark.parametrize(
    ("settings", "bounds"),
    [
        pytest.param({}, Bounds(), id="none"),
        pytest.param({"max_tasks": 1000}, Bounds(tasks=950), id="tasks"),
        pytest.param({"max_tasks": 9}, Bounds(tasks=9), id="few-tasks"),
        pytest.param({"max_age": 100.0}, Bounds(age=95.0), id="age"),
        pytest.param({"max_rss": "1GB"}, Bounds(rss=10**9), id="rss"),
    ],
)
def test_spreads_what_would_end_together(settings: dict[str, Any], bounds: Bounds) -> None:
    """By up to a tenth, and never beyond the setting."""
    assert Bounds.of(WorkerConfig(**settings), lambda: 0.5) == bounds


@pytest.mark.parametrize(
    ("usage", "age", "reached"),
    [
        pytest.param(Usage(9, 100), 9.9, None, id="none"),
        pytest.param(Usage(10, 0), 0.0, Reached("tasks", 10, 10), id="tasks"),
        pytest.param(Usage(0, 101), 0.0, Reached("rss", 101, 100), id="rss"),
        pytest.param(Usage(0, 0), 10.0, Reached("age", 10.0, 10), id="age"),
    ],
)
def test_tells_which_bound_is_reached(usage: Usage, age: float, reached: Reached | None) -> None:
    """With what has reached it."""
    assert Bounds(tasks=10, rss=100, age=10).reached(usage, age=age) == reached


def test_nothing_is_ever_too_much_without_a_bound() -> None:
    """Nor is anything measured for it."""
    bounds = Bounds()

    assert (bounds.reached(Usage(10**12, 10**15), age=1e9), bounds.measured) == (None, False)
    assert not Bounds(age=1.0).measured
    assert Bounds(rss=1.0).measured


def test_takes_the_most_memory_where_the_present_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on systems without /proc."""
    now = own_memory()
    monkeypatch.setattr(memory, "resident_bytes", lambda: None)

    assert 0.5 * now < own_memory() < math.inf
