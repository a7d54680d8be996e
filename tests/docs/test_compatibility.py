"""The page of what each engine can do is what conformance runs have left; QUEUEKIT_TEST_GOLDEN=write makes it anew."""

import inspect
import os
from collections import defaultdict
from importlib.util import find_spec
from typing import Literal

import attrs
import pytest

from queuekit.plugins.manager import Plugins
from queuekit.testing import BackendConformance, BrokerConformance
from queuekit.urls import EngineURL
from support import compatibility
from support.compatibility import Suite

KITS = {"brokers": BrokerConformance, "backends": BackendConformance}
RUNS = compatibility.suites()
EACH_RUN = pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)


def kit_tests(kit: type) -> dict[str, set[str]]:
    """Return the tests of *kit* by area, as a report lays them out."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name, test in inspect.getmembers(kit, inspect.isfunction):
        if name.startswith("test_"):
            found[test.__module__.rpartition(".")[2]].add(name)
    return dict(found)


def test_page_is_what_the_reports_give() -> None:
    """Its tables and lists are made of the reports beside it."""
    if os.environ.get("QUEUEKIT_TEST_GOLDEN") == "write":
        compatibility.write()

    assert compatibility.PAGE.read_text(encoding="utf-8") == compatibility.page()


@EACH_RUN
def test_report_has_the_tests_of_the_present_kit(run: Suite) -> None:
    """All of them and no other; where this fails, `tox -e compatibility` makes the reports anew."""
    listed = {area: set(run.tests(area=area)) for area in run.areas}

    assert listed == kit_tests(KITS[run.of])


@EACH_RUN
def test_report_tells_of_no_failure(run: Suite) -> None:
    """What ships has passed what it declares."""
    assert not run.tests("failed")


@EACH_RUN
def test_report_has_what_the_engine_declares_now(run: Suite) -> None:
    """A capability that was added or taken away since is a reason to run the suites again."""
    if run.scheme == "memcache" and find_spec("queuekit_memcached") is None:
        pytest.skip("pip install --no-deps -e plugins/queuekit-memcached")
    side: Literal["broker", "backend"] = "broker" if run.of == "brokers" else "backend"

    spec = Plugins(environ={}).offer(side, EngineURL.parse(f"{run.scheme}://")).spec

    assert set(run.capabilities) == {name for name, can in attrs.asdict(spec.capabilities).items() if can}
