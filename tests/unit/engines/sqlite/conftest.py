"""A file, and a broker on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from queuekit.engines.sqlite import SqliteBroker
from queuekit.urls import EngineURL


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a test may have its database."""
    return tmp_path / "jobs.db"


@pytest.fixture
def broker(path: Path) -> Iterator[SqliteBroker]:
    """Return a broker on that file."""
    made = SqliteBroker(EngineURL.parse(f"sqlite:///{path}"))
    yield made
    made.close()
