"""Apps with tasks, on every engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.calls import ENGINES, Calls, calls_on


@pytest.fixture(params=ENGINES)
def calls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Calls]:
    """The tasks of an app on one engine."""
    made = calls_on(ENGINES[request.param](tmp_path))
    yield made
    made.app.close()
