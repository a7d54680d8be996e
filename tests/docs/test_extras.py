"""Whoever types a command to install gets what it says: each extra that a text names is one of the project."""

import re
import tomllib
from pathlib import Path

import pytest

from support.venvs import ROOT

NAMED = re.compile(r"(?:\bqueuekit|['\"]\.)\[([a-z, ]+)\]")
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "plugins").glob("*/README.md")]


@pytest.fixture(scope="module")
def extras() -> set[str]:
    """Return the names of all extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return set(project["optional-dependencies"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_extras_exist(page: Path, extras: set[str]) -> None:
    """``pip`` only warns of one that does not, and then a command is missing."""
    named = {name.strip() for found in NAMED.findall(page.read_text(encoding="utf-8")) for name in found.split(",")}

    assert named <= extras
