"""Apps with tasks, on every engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.calls import ALONE, ENGINES, MIXED, Calls, calls_on, each_engine


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for ``calls`` on every engine; those with servers only in the torture run, unless it is marked.

    What is marked runs on a mix of two of them in `tox -e full`.
    """
    if "calls" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker("each_engine") is not None
        metafunc.parametrize("calls", each_engine(*((ALONE, MIXED) if marked else ((),))), indirect=True)


@pytest.fixture
def calls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Calls]:
    """The tasks of an app on one engine."""
    made = calls_on(ENGINES[request.param](tmp_path))
    yield made
    made.app.close()
