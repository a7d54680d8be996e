"""The closing lines of a run: what it proved, for an author's README, and what to look into."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import pytest

from queuekit_testing.marks import ABOVE_LEVEL, KEPT, LEVEL, NEWEST_LEVEL, NOT_DECLARED, NOT_PROVED

__all__ = ["name_of", "pytest_terminal_summary", "reason_of"]

_MODULES = "queuekit_testing/"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many conformance tests passed, how many did not apply, and which an emulator did not prove."""
    stats = {word: _of_kit(reports) for word, reports in terminalreporter.stats.items()}
    if not stats.get("passed") and not stats.get("failed"):
        return
    terminalreporter.write_line(f"queuekit-conformance: {', '.join(_parts(stats))}")
    for report in _unproved(stats):
        terminalreporter.write_line(f"  not proved: {name_of(report)}: {reason_of(report).removeprefix(NOT_PROVED)}")
    for suite, word in _could_declare(stats):
        terminalreporter.write_line(f"  not declared, but its tests pass: {suite}: {word}")
    for suite, names in _could_keep(stats).items():
        terminalreporter.write_line(f"  not in KEEPS, but comes back: {suite}: {', '.join(names)}")
    later = len(_beginning(stats, ABOVE_LEVEL))
    if later:
        terminalreporter.write_line(f"  KIT_LEVEL = {NEWEST_LEVEL} would add {later} tests")


def _parts(stats: dict[str, list[pytest.TestReport]]) -> list[str]:
    """Return the numbers of the closing line, each with its label."""
    undeclared = _beginning(stats, NOT_DECLARED)
    words = {word for report in undeclared for word in reason_of(report).removeprefix(NOT_DECLARED).split(", ")}
    left_out = len(stats.get("skipped", [])) + len(undeclared) - len(_beginning(stats, NOT_DECLARED, "skipped"))
    left_out -= len(_beginning(stats, ABOVE_LEVEL, "skipped")) + len(_beginning(stats, NOT_PROVED, "skipped"))
    failed = len(stats.get("failed", [])) + len(stats.get("error", []))
    parts = [f"{len(stats.get('passed', []))} passed"]
    if failed:
        parts.append(f"{failed} failed")
    if left_out:
        parts.append(f"{left_out} not applicable" + (f" ({', '.join(sorted(words))})" if words else ""))
    if unproved := _unproved(stats):
        parts.append(f"{len(unproved)} not proved (emulator)")
    return [*parts, f"level {' and '.join(map(str, _levels(stats)))}"]


def _levels(stats: dict[str, list[pytest.TestReport]]) -> list[int]:
    """Return the levels of the suites that ran."""
    reports = [report for reports in stats.values() for report in reports]
    return sorted({int(str(value)) for each in reports for name, value in each.user_properties if name == LEVEL})


def _unproved(stats: dict[str, list[pytest.TestReport]]) -> list[pytest.TestReport]:
    return _beginning(stats, NOT_PROVED, "xfailed") + _beginning(stats, NOT_PROVED, "skipped")


def _could_declare(stats: dict[str, list[pytest.TestReport]]) -> list[tuple[str, str]]:
    """Return suite and undeclared capability where all tests passed that need nothing else that is missing."""
    outcomes: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for word in ("xpassed", "xfailed", "skipped"):
        for report in _beginning(stats, NOT_DECLARED, word):
            outcomes[name_of(report).partition("::")[0], reason_of(report).removeprefix(NOT_DECLARED)].add(word)
    return sorted(key for key, found in outcomes.items() if found == {"xpassed"})


def _could_keep(stats: dict[str, list[pytest.TestReport]]) -> dict[str, list[str]]:
    """Return, by serializer suite, the values that came back although its ``KEEPS`` does not name them."""
    kept: defaultdict[str, list[str]] = defaultdict(list)
    for report in stats.get("passed", []):
        names = [str(value) for name, value in report.user_properties if name == KEPT]
        if names:
            kept[name_of(report).partition("::")[0]] += names
    return kept


def _beginning(stats: dict[str, list[pytest.TestReport]], start: str, *words: str) -> list[pytest.TestReport]:
    """Return the reports whose reason begins with *start*, of the outcomes *words* or of all that have a reason."""
    kinds = words or ("skipped", "xfailed", "xpassed")
    return [report for word in kinds for report in stats.get(word, []) if reason_of(report).startswith(start)]


def _of_kit(reports: Iterable[object]) -> list[pytest.TestReport]:
    """Return the reports of tests defined in this package; a subclass inherits them."""
    found = [report for report in reports if isinstance(report, pytest.TestReport)]
    return [report for report in found if _MODULES in (report.location[0] or "").replace("\\", "/")]


def name_of(report: pytest.TestReport) -> str:
    """Return the names of suite and test, joined by ``::``."""
    return report.nodeid.partition("::")[2]


def reason_of(report: pytest.TestReport) -> str:
    """Return why a test was skipped or expected to fail."""
    if hasattr(report, "wasxfail"):
        return str(report.wasxfail)
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
