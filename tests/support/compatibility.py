"""The page of what each engine can do, made of the reports that its conformance runs have left in docs/conformance."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from queuekit.backend import BackendCapabilities
from queuekit.broker import Capabilities
from support.venvs import ROOT

FOLDER = ROOT / "docs" / "conformance"
PAGE = ROOT / "docs" / "compatibility.md"
FILES = ("memory", "sqlite", "redis", "sqs", "mongodb", "memcached", "rabbitmq")
SIDES = {"brokers": ("Brokers", Capabilities), "backends": ("Result backends", BackendCapabilities)}
COUNTED = ("passed", "rewritten")
TOLD = ("failed", "not proved", "rewritten")
"""Outcomes that the page tells test by test."""


@attrs.frozen(kw_only=True)
class Suite:
    """One run of a suite against one engine."""

    name: str
    of: str
    """``"brokers"`` or ``"backends"``."""
    scheme: str
    against: dict[str, str]
    """Server and client library with their versions, the server first."""
    capabilities: tuple[str, ...]
    areas: dict[str, dict[str, list[str]]]
    """Area -> outcome -> names of tests."""
    reasons: dict[str, str]

    @property
    def title(self) -> str:
        """What it ran on, for a person."""
        server = next((f" {name} {version}" for name, version in self.against.items()), "")
        return f"`{self.scheme.removesuffix('+http')}://`{server}"

    def tests(self, *outcomes: str, area: str = "") -> list[str]:
        """Return the tests that came out so, of all outcomes if none is named; in one area or in all."""
        found = [pair for name, words in self.areas.items() if area in ("", name) for pair in words.items()]
        return [test for word, tests in found if word in outcomes or not outcomes for test in tests]

    def share(self, area: str = "") -> str:
        """Return how many tests passed, and of how many if not all did."""
        passed, whole = len(self.tests(*COUNTED, area=area)), len(self.tests(area=area))
        return str(passed) if passed == whole else f"{passed} of {whole}"


def suites() -> list[Suite]:
    """Return all runs, in the order of the page."""
    found: list[Suite] = []
    for name in FILES:
        report: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        fields = [field.name for field in attrs.fields(Suite)]
        rows = [{"name": suite, **row} for suite, row in report["suites"].items()]
        found += sorted(
            (Suite(**{key: value for key, value in row.items() if key in fields}) for row in rows),
            key=lambda suite: (suite.scheme, suite.name),
        )
    return found


def page() -> str:
    """Return the page: its head as it is, and below it what the reports say."""
    head = PAGE.read_text(encoding="utf-8").partition("\n## ")[0].rstrip("\n")
    runs = suites()
    parts = [head]
    for of, (title, kind) in SIDES.items():
        parts += [f"## {title}", _table([run for run in runs if run.of == of], kind)]
    told = [line for run in runs for line in _told(run)]
    return "\n\n".join([*parts, "## Test by test", "\n".join(told)]) + "\n"


def _table(runs: list[Suite], kind: type) -> str:
    """Return what was declared and what passed, an engine a column."""
    areas = sorted({area for run in runs for area in run.areas})
    rows = [["", *(run.title for run in runs)], ["---"] * (1 + len(runs))]
    rows += [
        [f"`{field.name}`", *("yes" if field.name in run.capabilities else "-" for run in runs)]
        for field in attrs.fields(kind)
    ]
    rows += [[f"tests of {area}", *(run.share(area) for run in runs)] for area in areas]
    rows.append(["all tests", *(run.share() for run in runs)])
    rows.append(["client library", *(", ".join(_clients(run)) or "-" for run in runs)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _clients(run: Suite) -> list[str]:
    return [f"{name} {version}" for name, version in list(run.against.items())[1:]]


def _told(run: Suite) -> Iterable[str]:
    """Yield a line for each test that did not simply pass or not apply."""
    for outcome in TOLD:
        for test in run.tests(outcome):
            why = run.reasons.get(test) or "a test of our own in its place, since less is promised there"
            yield f"- {run.title}, {outcome}: `{test}`: {why}"


def write() -> None:
    """Write the page."""
    Path(PAGE).write_text(page(), encoding="utf-8")
