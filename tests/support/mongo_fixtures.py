"""Fixtures that start MongoDB; a test module names this in ``pytest_plugins``, and imports nothing of it."""

from collections.abc import Iterator
from pathlib import Path

import pymongo
import pytest

from queuekit.testing.kit import unique_name
from support.mongod import Mongod, ReplicaSet, shared_url


@pytest.fixture(scope="class")
def mongo_url() -> Iterator[str]:
    """Return the URL of a database that nobody else uses, and that is gone after the tests of a class."""
    name = unique_name("queuekit-test")
    url = shared_url(name)
    yield url
    with pymongo.MongoClient[dict[str, object]](url) as client:
        client.drop_database(name)


@pytest.fixture(scope="session")
def lone_mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """Return a server that belongs to no replica set: it has neither transactions nor change streams."""
    server = Mongod(tmp_path_factory.mktemp("lone"), replica_set=None)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def own_set(tmp_path: Path) -> Iterator[ReplicaSet]:
    """Return a replica set of one of the test's own, which it may kill."""
    members = ReplicaSet(tmp_path / "mongo")
    try:
        yield members.start()
    finally:
        members.stop()


@pytest.fixture
def set_of_three(tmp_path: Path) -> Iterator[ReplicaSet]:
    """Return a replica set of three of the test's own."""
    members = ReplicaSet(tmp_path / "mongo", size=3)
    try:
        yield members.start()
    finally:
        members.stop()
