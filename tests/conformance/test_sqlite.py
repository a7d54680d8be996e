"""``sqlite:///FILE`` against the suites, imported as anybody's plugin would import them."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from queuekit.backend import Backend
from queuekit.broker import Broker
from queuekit.engines.sqlite import SqliteBackend, SqliteBroker
from queuekit.testing import BackendConformance, BrokerConformance
from queuekit.urls import EngineURL

pytest_plugins = ["queuekit.testing"]


class TestSqliteBroker(BrokerConformance):
    """Queues in one file, for each test a new one."""

    HOARD: ClassVar = 800
    url: EngineURL

    @pytest.fixture
    def server(self, tmp_path: Path) -> None:
        """Choose the file."""
        self.url = EngineURL.parse(f"sqlite:///{tmp_path}/queue.db")

    def against(self) -> Mapping[str, str]:
        """Return the version of the library."""
        return {"SQLite": sqlite3.sqlite_version}

    def make_broker(self) -> Broker:
        """Return one more client of the file."""
        return SqliteBroker(self.url)

    def make_backend(self) -> Backend:
        """Return a backend of the same file."""
        return SqliteBackend(self.url)


class TestSqliteBackend(BackendConformance):
    """Records in one file, for each test a new one."""

    url: EngineURL

    @pytest.fixture
    def server(self, tmp_path: Path) -> None:
        """Choose the file."""
        self.url = EngineURL.parse(f"sqlite:///{tmp_path}/results.db")

    def against(self) -> Mapping[str, str]:
        """Return the version of the library."""
        return {"SQLite": sqlite3.sqlite_version}

    def make_backend(self) -> Backend:
        """Return one more client of the file."""
        return SqliteBackend(self.url)
