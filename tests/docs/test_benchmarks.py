"""The page of benchmarks and the README's table are what the results give; `compare.py --report` makes them anew."""

import os
import re
from typing import Any

import pytest

from support import benchmarks
from support.venvs import ROOT

LINK = re.compile(r"https://github\.com/queuekit/queuekit/(?:blob|tree)/main/(?P<path>[^)#\s]+)")


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """Return the committed results."""
    if os.environ.get("QUEUEKIT_TEST_GOLDEN") == "write":
        benchmarks.write()
    return benchmarks.load()


def test_page_is_what_the_results_give(results: dict[str, Any]) -> None:
    """Nobody has edited the page, and nobody has measured without making it anew."""
    assert benchmarks.PAGE.read_text(encoding="utf-8") == benchmarks.page(results)


def test_table_of_the_readme_is_what_the_results_give(results: dict[str, Any]) -> None:
    """Each figure of the README is one of the page."""
    text = benchmarks.README.read_text(encoding="utf-8")

    assert text == benchmarks.readme(results, text)
    assert benchmarks.TABLE.search(text)


def test_results_are_of_every_peer_and_row(results: dict[str, Any]) -> None:
    """No row is left out because it was lost: only what a queue cannot do is missing."""
    missing = {
        (row.key, peer)
        for row in benchmarks.ROWS
        for peer in benchmarks.NAMES
        if not results["figures"].get(row.key, {}).get(peer)
    }

    assert missing == {(key, "procrastinate") for key in ("single stored", "many stored", "drain stored")}


def test_results_tell_how_they_were_made(results: dict[str, Any]) -> None:
    """A reader can repeat the run: the machine, the commands, the settings and all versions are there."""
    assert all(results[key] for key in ("date", "commit", "command", "machine", "servers"))
    for name, peer in results["peers"].items():
        assert all(peer[key] for key in ("worker", "settings", "versions", "counts")), name


def test_links_into_the_repository_lead_somewhere(results: dict[str, Any]) -> None:
    """The page links to scripts and results by their address, since they are no pages."""
    paths = [match["path"] for match in LINK.finditer(benchmarks.page(results))]

    assert paths
    assert not [path for path in paths if not (ROOT / path).exists()]
