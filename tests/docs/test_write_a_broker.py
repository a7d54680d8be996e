"""The tutorial for authors of a broker ends as it says: with a distribution whose conformance run is green."""

import io
import os
import re
import shutil
import subprocess
import tokenize
from pathlib import Path

import pytest

from queuekit_testing.scaffold import PluginNames, write_plugin
from support.venvs import KIT, ROOT, Venv, author_environment, build_wheel

PAGE = ROOT / "docs" / "write-a-broker.md"
CLOSING = re.compile(r"^queuekit-conformance: \d+ passed, \d+ not applicable", re.MULTILINE)
COLLECTED = re.compile(r"(\d+) (?:passed|skipped|deselected)")
QUICK = "TestPlugin or order or priority"
"""What the everyday run takes of the suites: mostly what waits for no lease to end."""
TOOLS = shutil.which("ruff") and shutil.which("mypy")
MOST_LINES = 150
SMALL = """
from queuekit.testing import BrokerConformance

BrokerConformance.CLAIMS, BrokerConformance.EXAMPLES, BrokerConformance.HOARD = 50, 5, 400
"""
"""Sizes of the suite for one more broker that keeps nothing in memory: the whole of it takes a quarter of the time."""
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def files() -> dict[str, str]:
    """Return what the page writes, by path in the distribution."""
    text = PAGE.read_text(encoding="utf-8")
    return dict(re.findall(r"^```python\n# queuekit-files/(\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def lines_of_code(source: str) -> int:
    """Return how many lines hold code: not those of comments, docstrings and blanks."""
    text = re.sub(r'^\s*""".*?"""$', "", source, flags=re.MULTILINE | re.DOTALL)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = [token for token in tokens if token.type not in LAYOUT]
    return len({number for token in code for number in range(token.start[0], token.end[0] + 1)})


@pytest.fixture
def author(tmp_path: Path) -> Venv:
    """Return an environment with core, the tools of an author, and the distribution of the page."""
    made, folder = author_environment(tmp_path / "venv"), tmp_path / "queuekit-files"
    write_plugin(PluginNames.of("files"), "broker", folder)
    for path, text in files().items():
        (folder / path).write_text(text, encoding="utf-8")
    with (folder / "tests" / "conftest.py").open("a", encoding="utf-8") as file:
        file.write(SMALL)
    made.install(build_wheel(folder, folder / "dist"))
    return made


def test_plugin_is_as_short_as_promised() -> None:
    """The code of the plugin is under 150 lines, all told."""
    assert set(files()) == {"src/queuekit_files/plugin.py", "src/queuekit_files/broker.py", "tests/test_conformance.py"}
    assert sum(lines_of_code(text) for path, text in files().items() if path.startswith("src/")) < MOST_LINES


def test_passes_what_does_not_wait(tmp_path: Path, author: Venv) -> None:
    """What the page writes is a plugin whose messages come as they went; the page shows how many tests there are."""
    folder = tmp_path / "queuekit-files"
    done = author.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", QUICK, folder=folder)

    assert done.returncode == 0, done.stdout[-4000:]
    shown, found = CLOSING.search(PAGE.read_text(encoding="utf-8")), COLLECTED.findall(done.stdout.splitlines()[-1])
    assert shown is not None
    assert sum(map(int, found)) == sum(map(int, re.findall(r"\d+", shown[0]))), done.stdout[-4000:]


@pytest.mark.full
def test_ends_with_a_green_conformance_run(tmp_path: Path, author: Venv) -> None:
    """What the page writes into a new distribution, installed from its wheel, passes the suites."""
    done = author.run("-m", "pytest", "-q", "-p", "no:cacheprovider", folder=tmp_path / "queuekit-files")

    assert done.returncode == 0, done.stdout[-4000:]
    told, shown = (CLOSING.search(text) for text in (done.stdout, PAGE.read_text(encoding="utf-8")))
    assert told is not None
    assert shown is not None
    assert told[0] == shown[0]


@pytest.mark.skipif(not TOOLS, reason="needs ruff and mypy: run by `tox -e types`")
@pytest.mark.parametrize("command", ["ruff check .", "ruff format --check .", "mypy --no-incremental"])
def test_is_clean(tmp_path: Path, command: str) -> None:
    """What the page writes passes the checks that the new distribution has for it."""
    write_plugin(PluginNames.of("files"), "broker", tmp_path)
    for path, text in files().items():
        (tmp_path / path).write_text(text, encoding="utf-8")
    environ = {**os.environ, "MYPYPATH": f"{ROOT / 'core'}:{KIT / 'src'}", "RUFF_NO_CACHE": "true"}

    done = subprocess.run(command.split(), cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
