"""Fixtures with Redis servers of their own; a folder's ``conftest.py`` imports those that its tests need."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.redis_fleets import NEVER_DOWN, RedisCluster, RedisPair
from support.redis_servers import RedisServer, need

__all__ = ["redis_cluster", "redis_pair", "redis_server"]


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """Return a Cluster of three."""
    cluster = RedisCluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def redis_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisPair]:
    """Return a primary, a replica and a Sentinel, which no test harms."""
    pair = RedisPair(tmp_path_factory.mktemp("pair"), down_after=NEVER_DOWN)
    try:
        yield pair.start()
    finally:
        pair.stop()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Return a Valkey of the test's own, which it may kill; it keeps an append-only file."""
    folder = tmp_path / "server"
    folder.mkdir()
    server = RedisServer(need("valkey"), folder, arguments=["--save", "", "--appendonly", "yes"])
    try:
        yield server.start()
    finally:
        server.stop()
