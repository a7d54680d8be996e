"""Whoever types a command to install gets what it says: each extra that a text names is one of the project."""

import re
import tomllib

import pytest

from support.venvs import ROOT

NAMED = re.compile(r"(?:\bqueuekit|['\"]\.)\[([a-z, ]+)\]")
INSTALLED = re.compile(r"^(?:\$ )?pip install 'queuekit\[([a-z, ]+)\]'", re.MULTILINE)
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "plugins").glob("*/README.md")]


@pytest.fixture(scope="module")
def extras() -> set[str]:
    """Return the names of all extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return set(project["optional-dependencies"])


def extras_of(text: str, pattern: re.Pattern[str]) -> set[str]:
    """Return the extras that *pattern* finds in *text*."""
    return {name.strip() for found in pattern.findall(text) for name in found.split(",")}


def test_extras_exist(extras: set[str]) -> None:
    """``pip`` only warns of one that does not, and then a command is missing."""
    unknown = {page: extras_of(page.read_text(encoding="utf-8"), NAMED) - extras for page in PAGES}

    assert {page: names for page, names in unknown.items() if names} == {}


def test_what_a_clone_installs_instead_is_said() -> None:
    """An extra that brings a plugin cannot be installed before a release; its page names the folder of the plugin."""

    def missing(text: str) -> set[str]:
        folders = {f"plugins/queuekit-{name}" for name in extras_of(text, INSTALLED)}
        return {folder for folder in folders if (ROOT / folder).is_dir() and f"./{folder}" not in text}

    left_out = {page: missing(page.read_text(encoding="utf-8")) for page in (ROOT / "docs").rglob("*.md")}

    assert {page: folders for page, folders in left_out.items() if folders} == {}
