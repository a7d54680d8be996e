"""What users get: the wheels of all distributions here, and the README's command to install in a bare environment."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from support.venvs import ROOT, wheel_of

PROJECTS = [ROOT, *(path.parent for path in sorted((ROOT / "plugins").glob("*/pyproject.toml")))]
BRINGS = ("attr", "click", "pluggy", "queuekit")
"""How the names of all begin that ``pip install queuekit`` puts among the installed packages."""
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
OURS = re.compile(
    r"https://(?:github\.com/queuekit/queuekit/blob|raw\.githubusercontent\.com/queuekit/queuekit)/main/([^#]+)"
)
LARGEST_INSTALL = 2_300_000
"""Bytes of queuekit and all that it brings, without caches of compiled code."""

environments = pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name if path != ROOT else "queuekit")


def metadata_of(project: Path) -> dict[str, Any]:
    """Return the ``[project]`` table."""
    table: dict[str, Any] = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


@environments
def test_wheel_can_be_published(project: Path) -> None:
    """It has its one package, type marker and licence, owns no file of another, and asks for nothing by address.

    That of core also has the program, which must not import the package to answer a probe.
    """
    metadata = metadata_of(project)
    package = metadata["name"].replace("-", "_")
    info = f"{package}-{metadata['version']}.dist-info"

    with zipfile.ZipFile(wheel_of(project)) as wheel:
        names, written = wheel.namelist(), wheel.read(f"{info}/METADATA").decode()

    programs = {"queuekit_start"} if package == "queuekit" else set()
    assert {name.partition("/")[0] for name in names} == {package, info} | programs
    assert {f"{package}/py.typed", f"{info}/licenses/LICENSE"} <= set(names)
    assert "License-Expression: MIT" in written
    assert not re.findall(r"^Requires-Dist: .*@.*", written, re.MULTILINE)


@environments
def test_links_work_on_the_page_of_an_index(project: Path) -> None:
    """The description has links with a host only, and those into the repository name files that are there."""
    metadata = metadata_of(project)
    info = f"{metadata['name'].replace('-', '_')}-{metadata['version']}.dist-info"
    with zipfile.ZipFile(wheel_of(project)) as wheel:
        description = wheel.read(f"{info}/METADATA").decode().partition("\n\n")[2]

    links = LINK.findall(description)

    assert not [link for link in links if not link.startswith(("https://", "#"))]
    assert not [path for link in links for path in OURS.findall(link) if not (ROOT / path).exists()]
    assert project != ROOT or any(OURS.match(link) for link in links)


@environments
def test_licence_is_the_same_everywhere(project: Path) -> None:
    """Each distribution carries a copy of one licence."""
    assert (project / "LICENSE").read_text(encoding="utf-8") == (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_source_archive_holds_core_and_its_tests(tmp_path: Path) -> None:
    """The source archive of queuekit leaves the plugins of engines out."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    (path,) = tmp_path.iterdir()
    with tarfile.open(path) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]

    top = {name.split("/")[0] for name in names}
    assert top >= {"CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "core", "docs", "pyproject.toml", "tests"}
    assert {name.split("/")[1] for name in names if name.startswith("plugins/")} == {"queuekit-testing"}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a folder with what a fresh clone has of the package."""
    shutil.copytree(ROOT / "core", tmp_path / "core", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def bare() -> dict[str, str]:
    """Return the environment of a user who knows nothing of tests."""
    hidden = ("COV", "PYTEST", "PYTHON", "QUEUEKIT", "TOX", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(hidden)} | {"NO_COLOR": "1"}


@pytest.fixture
def _index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where pip can download nothing, unless everything is required."""
    if os.environ.get("QUEUEKIT_REQUIRE_ENGINES"):
        return
    folder = tmp_path_factory.mktemp("download")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "pluggy"]
    asked = subprocess.run(command, check=False, capture_output=True, text=True)
    if asked.returncode:
        pytest.skip("pip reaches no package index")


def readme_command() -> str:
    """Return the command with which the README installs queuekit."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^\$ (?P<command>python3 -m venv .+)$", readme, re.MULTILINE)
    assert found
    return found["command"]


def packages_of(listing: str) -> set[str]:
    """Return the names in what ``pip list --format json`` printed, but for pip's own."""
    return {entry["name"] for entry in json.loads(listing)} - {"pip", "setuptools", "wheel"}


def size_of(packages: Path) -> int:
    """Return the bytes that queuekit and its dependencies have installed below *packages*, without compiled code."""
    files = [file for start in BRINGS for file in packages.glob(f"{start}*/**/*") if "__pycache__" not in file.parts]
    return sum(file.stat().st_size for file in files if file.is_file())


@pytest.mark.full
@pytest.mark.network
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("_index")
def test_readme_command_installs_little_and_runs(clone: Path, bare: dict[str, str]) -> None:
    """In a fresh environment the README's command to install works, and brings three small distributions."""
    subprocess.run(["bash", "-c", readme_command()], cwd=clone, env=bare, check=True)

    pip = [".venv/bin/pip", "list", "--format", "json", "--disable-pip-version-check"]
    listing = subprocess.run(pip, cwd=clone, env=bare, check=True, capture_output=True, text=True).stdout
    (packages,) = (clone / ".venv" / "lib").glob("python*/site-packages")
    assert packages_of(listing) == {"attrs", "click", "pluggy", "queuekit"}
    assert 0 < size_of(packages) <= LARGEST_INSTALL
