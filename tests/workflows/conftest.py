"""Apps with tasks, on every engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.calls import ALONE, ENGINES, MIXED, Calls, calls_on, each_engine

ALWAYS = "redis"
"""The engine with a server on which tests that are marked run each time."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for ``calls`` on every engine; those with servers only in the torture run, unless it is marked.

    What is marked runs on one of them each time, and in `tox -e full` on the others and on a mix of two. Core decides
    alone about the rest, and about variants of one test: those run on SQLite in `tox -e full`.
    """
    if "calls" not in metafunc.fixturenames:
        return
    marked = metafunc.definition.get_closest_marker("each_engine") is not None
    engines = each_engine((ALWAYS,), {*ALONE, *MIXED} - {ALWAYS}) if marked else each_engine(())
    if not marked or metafunc.definition.get_closest_marker("parametrize") is not None:
        engines[engines.index("sqlite")] = pytest.param("sqlite", marks=pytest.mark.full, id="sqlite")
    metafunc.parametrize("calls", engines, indirect=True)


@pytest.fixture
def calls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Calls]:
    """The tasks of an app on one engine."""
    made = calls_on(ENGINES[request.param](tmp_path))
    yield made
    made.app.close()
