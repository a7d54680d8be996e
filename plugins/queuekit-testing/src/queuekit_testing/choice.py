"""Which tests of the suites run, and in what order: probes first, and with ``--queuekit-quick`` no slow ones."""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

import pytest

from queuekit_testing.marks import NOT_DECLARED, PROBED

__all__ = ["QUICK", "pytest_collection_modifyitems", "pytest_runtest_makereport"]

QUICK = "--queuekit-quick"
"""Option that leaves the slow tests out."""
_PACKAGE = "queuekit_testing."
_SLOW_AREAS = frozenset({"cuts", "endurance", "model", "portable", "processes", "restarts"})
"""Modules of the suites whose tests start processes, send thousands of messages, or run at random."""
_SLOW_TESTS = frozenset(
    {
        "test_is_not_taken_for_its_fork",
        "test_leaves_nothing_behind",
        "test_survives_a_fork",
        "test_takes_its_largest_batch",
        "test_ends_a_wait_from_another_process",
        "test_joins_a_large_group_in_batches",
    }
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the probes of each suite first, and deselect slow tests if the option asks for that."""
    PROBED.clear()
    kit = sys.modules.get("queuekit_testing.kit")  # tests of applications need no suite
    suites: type | tuple[()] = () if kit is None else kit.Conformance
    places: defaultdict[Any, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        places[getattr(item, "cls", None)].append(place)
    for owner, own in places.items():
        # The tests of one suite change places among themselves; all others stay where they are.
        if owner is not None and issubclass(owner, suites):
            for place, item in zip(own, sorted((items[place] for place in own), key=_is_not_probe), strict=True):
                items[place] = item
    if config.getoption(QUICK, default=False):
        slow = [item for item in items if _is_slow(item)]
        items[:] = [item for item in items if not _is_slow(item)]
        config.hook.pytest_deselected(items=slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Note whether the probes of an undeclared capability pass."""
    report: pytest.TestReport = yield
    reason = str(getattr(report, "wasxfail", ""))
    if call.when == "call" and _is_probe(item) and reason.startswith(NOT_DECLARED):
        key = (getattr(item, "cls", type(None)).__qualname__, reason.removeprefix(NOT_DECLARED))
        PROBED[key] = PROBED.get(key, True) and report.outcome == "passed"
    return report


def _is_not_probe(item: pytest.Item) -> bool:
    return not _is_probe(item)


def _is_probe(item: pytest.Item) -> bool:
    return bool(getattr(getattr(item, "function", None), "probe", False))


def _is_slow(item: pytest.Item) -> bool:
    """Return whether *item* is a slow test of the suites."""
    function = getattr(item, "function", None)
    module = str(getattr(function, "__module__", ""))
    name = str(getattr(item, "originalname", item.name))
    return module.startswith(_PACKAGE) and (module.rpartition(".")[2] in _SLOW_AREAS or name in _SLOW_TESTS)
