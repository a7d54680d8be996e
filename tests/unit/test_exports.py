"""What ``from queuekit import ...`` offers: few names, in order, each of them there."""

import ast
from pathlib import Path
from typing import Any

import pytest

import queuekit
from queuekit import Context, Queuekit, Result
from queuekit.workflows.results import ChainResult, ChordResult, GroupResult

MOST_NAMES = 30
APP = Queuekit(broker="memory://")
SOURCE: Any = None
RESULT = "acancel aget ainfo aprogress cancel done duplicate forget get id info merged progress state stored"
OBJECTS: dict[str, tuple[object, str]] = {
    "app": (
        APP,
        (
            "acall acancel ainfo as_completed asend asend_many cancel clock close config configure declared events"
            " forget gate gates info infos lifespan limit limits lock open override"
            " periodic plugins register_type resource resources result runtime schedules send send_many sending"
            " task tasks worker"
        ),
    ),
    "task": (
        APP.task(name="task")(lambda: None),
        "app asend defaults function is_async map name options parameters result s send si starmap",
    ),
    "context": (
        Context(id="1", task="task", queue="default"),
        "attempt cancelled generation headers id lost parent progress queue signature task worker",
    ),
    "result": (Result("1", SOURCE), RESULT),
    "chain": (ChainResult("1", SOURCE), f"{RESULT} links"),
    "chord": (ChordResult("1", SOURCE), f"{RESULT} links members"),
    "group": (
        GroupResult("1", ["2"], SOURCE),
        "acancel acounts aget as_completed cancel counts done forget get id ids stored",
    ),
    "schedules": (APP.schedules, "add all change get pause remove resume run set_aside sign upcoming"),
}
"""What users meet, and the names that they find on it."""


@pytest.mark.parametrize(("one", "names"), OBJECTS.values(), ids=OBJECTS)
def test_shows_what_users_need(one: object, names: str) -> None:
    """The moves of the machinery are behind ``app.runtime``, or private: what is listed here is for users."""
    assert [name for name in dir(one) if not name.startswith("_")] == sorted(names.split())


def test_exports_few_names() -> None:
    """The front door has at most thirty names; the rest is imported from its module."""
    assert 0 < len(queuekit.__all__) <= MOST_NAMES


def test_exports_are_sorted() -> None:
    """The names stand in alphabetical order, each once, so that two changes seldom touch one line."""
    assert list(queuekit.__all__) == sorted(set(queuekit.__all__))


def test_exports_exist() -> None:
    """Each exported name can be had."""
    missing = [name for name in queuekit.__all__ if not hasattr(queuekit, name)]

    assert not missing


def test_exports_all_that_it_imports() -> None:
    """What the front door imports without an underscore is meant for others, so it is exported."""
    tree = ast.parse(Path(queuekit.__file__).read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "__future__"]
    own = [alias for node in nodes if (node.module or "").startswith("queuekit") for alias in node.names]

    names = {alias.asname or alias.name for alias in own}

    assert names <= set(queuekit.__all__)
