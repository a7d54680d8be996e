"""The results of a run as a file that an author can publish: each test's outcome, and what it ran against."""

from __future__ import annotations

import json
import platform
import re
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from queuekit_testing.choice import QUICK
from queuekit_testing.marks import ABOUT, ABOVE_LEVEL, AREA, LEVEL, NOT_DECLARED, NOT_PROVED, REPORT
from queuekit_testing.summary import name_of, reason_of

__all__ = ["pytest_addoption", "pytest_sessionfinish"]

_WORST_FIRST = ("failed", "not proved", "passed", "rewritten", "not declared", "not applicable", "above level")
_SKIPS = {NOT_PROVED: "not proved", NOT_DECLARED: "not declared", ABOVE_LEVEL: "above level"}
_LIST = re.compile(r"\[\s+([^][]*?)\s+\]")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options: the file to write, and to leave the slow tests out."""
    words = "write the outcome of each conformance test to FILE, as JSON"
    group = parser.getgroup("queuekit")
    group.addoption(REPORT, metavar="FILE", default=None, help=words)
    group.addoption(QUICK, action="store_true", default=False, help="leave out the slow conformance tests")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the file if the option names one. Under pytest-xdist only the controller does, which has all results."""
    path = session.config.getoption(REPORT, None)
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if path and reporter and not hasattr(session.config, "workerinput"):
        _write(Path(path), reporter.stats)


def _write(path: Path, stats: dict[str, list[Any]]) -> None:
    """Write the outcomes of the suites' tests from *stats* of pytest's terminal reporter."""
    suites: defaultdict[str, dict[str, Any]] = defaultdict(lambda: {"tests": {}, "reasons": {}})
    for word, reports in stats.items():
        for report in reports:
            told = dict(report.user_properties) if isinstance(report, pytest.TestReport) else {}
            if AREA in told:
                suite, test = name_of(report).split("[")[0].split("::", 1)
                _note(suites[suite], told, test, _outcome(word, report, told))
                _give_reason(suites[suite], test, report)
    found = {name: _laid_out(suite) for name, suite in sorted(suites.items())}
    whole = {"queuekit": version("queuekit"), "python": platform.python_version(), "suites": found}
    text = _LIST.sub(lambda match: f"[{' '.join(match[1].split())}]", json.dumps(whole, indent=1))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def _note(suite: dict[str, Any], told: dict[str, Any], test: str, outcome: str) -> None:
    """Record the outcome of *test*; a test with parameters has the worst of theirs."""
    suite["level"] = told[LEVEL]
    suite["of"], _, area = told[AREA]["module"].partition(".")
    suite.update(told.get(ABOUT, {}))
    known = suite["tests"].setdefault(area or suite["of"], {})
    known[test] = min(outcome, known.get(test, outcome), key=_WORST_FIRST.index)


def _outcome(word: str, report: pytest.TestReport, told: dict[str, Any]) -> str:
    if word == "passed":
        return "rewritten" if told[AREA]["rewritten"] else "passed"
    if word in {"failed", "error"}:
        return "failed"
    return next((name for start, name in _SKIPS.items() if reason_of(report).startswith(start)), "not applicable")


def _give_reason(suite: dict[str, Any], test: str, report: pytest.TestReport) -> None:
    """Record why a test proves nothing here."""
    if report.skipped or hasattr(report, "wasxfail"):
        text = reason_of(report)
        suite["reasons"][test] = next((text.removeprefix(start) for start in _SKIPS if text.startswith(start)), text)


def _laid_out(suite: dict[str, Any]) -> dict[str, Any]:
    """Return *suite* with its tests by area and outcome."""
    areas = {}
    for area, outcomes in sorted(suite.pop("tests").items()):
        names = {word: sorted(test for test, found in outcomes.items() if found == word) for word in _WORST_FIRST}
        areas[area] = {word: found for word, found in names.items() if found}
    return {**suite, "reasons": dict(sorted(suite.pop("reasons").items())), "areas": areas}
