"""The closing line: what a run has proved, for an author to put into a README."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from queuekit.testing.kit import NOT_DECLARED, NOT_PROVED

__all__ = ["pytest_terminal_summary"]

_MODULES = "queuekit/testing/"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many conformance tests passed, which did not apply, and which an emulator left unproved."""
    stats = terminalreporter.stats
    passed = _of_kit(stats.get("passed", []))
    failed = _of_kit([*stats.get("failed", []), *stats.get("error", [])])
    skipped = [_reason(report) for report in _of_kit(stats.get("skipped", []))]
    unproved = [report for report in _of_kit(stats.get("xfailed", [])) if report.wasxfail.startswith(NOT_PROVED)]
    if not passed and not failed:
        return
    words = sorted({reason.removeprefix(NOT_DECLARED) for reason in skipped if reason.startswith(NOT_DECLARED)})
    parts = [f"{len(passed)} passed"]
    if failed:
        parts.append(f"{len(failed)} failed")
    if skipped:
        parts.append(f"{len(skipped)} not applicable" + (f" ({', '.join(words)})" if words else ""))
    if unproved:
        parts.append(f"{len(unproved)} not proved (emulator)")
    terminalreporter.write_line(f"queuekit-conformance: {', '.join(parts)}")
    for report in unproved:
        terminalreporter.write_line(f"  not proved: {report.nodeid.partition('::')[2]}: {_text(report)}")


def _of_kit(reports: Iterable[object]) -> list[pytest.TestReport]:
    """Return the reports of tests that are written in this package; a subclass only inherits them."""
    found = [report for report in reports if isinstance(report, pytest.TestReport)]
    return [report for report in found if _MODULES in (report.location[0] or "").replace("\\", "/")]


def _reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def _text(report: pytest.TestReport) -> str:
    return str(report.wasxfail).removeprefix(NOT_PROVED)
