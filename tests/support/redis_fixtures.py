"""Fixtures that start Redis servers; a test module names this in ``pytest_plugins``, and imports nothing of it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.redis_fleets import RedisCluster, RedisPair
from support.redis_servers import RedisServer, need


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Return what gives the URL of the server of a leg, which is started at first use and ended with the session."""
    servers: dict[str, RedisServer] = {}
    given = os.environ.get("QUEUEKIT_TEST_REDIS_URL")

    def url(leg: str) -> str:
        if given:
            return given
        if leg not in servers:
            servers[leg] = RedisServer(need(leg), tmp_path_factory.mktemp("server"), arguments=["--save", ""]).start()
        return servers[leg].url

    yield url
    for server in servers.values():
        server.stop()


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
    pair = RedisPair(tmp_path_factory.mktemp("pair"))
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
