"""Whoever types a command to install gets what it says: each extra that a text names is one of the project."""

import re
import tomllib
from pathlib import Path

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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_extras_exist(page: Path, extras: set[str]) -> None:
    """``pip`` only warns of one that does not, and then a command is missing."""
    named = {name.strip() for found in NAMED.findall(page.read_text(encoding="utf-8")) for name in found.split(",")}

    assert named <= extras


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_what_a_clone_installs_instead_is_said(page: Path) -> None:
    """An extra that brings a plugin cannot be installed before a release; its page names the folder of the plugin."""
    text = page.read_text(encoding="utf-8")
    extras = {name.strip() for found in INSTALLED.findall(text) for name in found.split(",")}
    folders = {f"./plugins/queuekit-{name}" for name in extras if (ROOT / "plugins" / f"queuekit-{name}").is_dir()}

    assert not {folder for folder in folders if folder not in text}
