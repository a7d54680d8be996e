"""The walks through the code lead past files that exist, and past none of them twice."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "internals.md").read_text(encoding="utf-8")
WALKS: dict[str, str] = dict(re.findall(r"^## (One [^\n]+)\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL))
FILE = re.compile(r"\[`(?P<shown>[^`]+)`\]\((?P<target>\.\./[^)]+)\)")
OBJECTS = re.compile(r"^[ |`-]*(?P<names>[a-z_/]+(?:(?:, | -> )[a-z_/]+)*)  ", re.MULTILINE)
LONGEST = 60
"""Lines of a page."""


def test_there_are_five_walks() -> None:
    """One message, one chord member, one schedule tick, one expired lease, one choice of a plugin."""
    assert [title.split()[-1] for title in WALKS] == ["message", "member", "tick", "lease", "plugin"]


@pytest.mark.parametrize("title", WALKS)
def test_walk_leads_past_files_that_exist(title: str) -> None:
    """Each file is there, none is visited twice, and the text shows the end of the path that it links to."""
    found = [(match["shown"], match["target"]) for match in FILE.finditer(WALKS[title])]
    targets = [target for _, target in found]

    assert len(found) >= 5, "files are written as links to their paths"
    assert [target for target in targets if not (ROOT / "docs" / target).is_file()] == []
    assert sorted(targets) == sorted(set(targets))
    assert [pair for pair in found if not pair[1].endswith(f"/{pair[0]}")] == []


@pytest.mark.parametrize("title", WALKS)
def test_walk_is_at_most_a_page(title: str) -> None:
    """Whoever follows it sees all of it."""
    assert len(WALKS[title].splitlines()) <= LONGEST


def test_diagram_shows_modules_that_exist() -> None:
    """Each name of the diagram of a worker's objects is a module of the worker, or of the room that it names."""
    diagram = PAGE.partition("## The objects of a worker")[2].partition("```text")[2].partition("```")[0]
    names = [name for match in OBJECTS.finditer(diagram) for name in re.split(", | -> ", match["names"])]
    core = ROOT / "core" / "queuekit"

    missing = [
        name for name in names if not ((core / "worker" / f"{name}.py").is_file() or (core / f"{name}.py").is_file())
    ]

    assert len(names) >= 10
    assert missing == []
