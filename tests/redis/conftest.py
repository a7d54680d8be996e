"""Servers, clients and names for the tests of the plugin."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from queuekit.urls import EngineURL
from queuekit_redis.backend import RedisBackend
from queuekit_redis.broker import RedisBroker
from queuekit_redis.options import RedisOptions
from queuekit_testing.kit import unique_name
from support.redis_fixtures import redis_cluster, redis_pair, redis_server
from support.redis_servers import RedisServer, shared_url
from support.waiting import UNHURRIED

__all__ = [
    "broker",
    "connect",
    "connect_backend",
    "own",
    "prefix",
    "queue",
    "raw",
    "redis_cluster",
    "redis_pair",
    "redis_server",
]
_PATIENT = {"timeout": UNHURRIED, "connect_timeout": UNHURRIED}


@pytest.fixture
def raw(redis_server: RedisServer) -> Iterator[Any]:
    """Return the client library's own client of a server that nobody else uses."""
    client = redis.Redis(port=redis_server.port)
    yield client
    client.close()


@pytest.fixture
def prefix() -> str:
    """Return a prefix of keys that nobody else uses."""
    return unique_name("t")


@pytest.fixture
def connect(prefix: str) -> Iterator[Callable[..., RedisBroker]]:
    """Return what makes brokers, which are closed in the end; by default of the server that all tests share."""
    made: list[RedisBroker] = []

    def make(url: str | None = None, **options: Any) -> RedisBroker:
        parsed = EngineURL.parse(url or shared_url("valkey"))
        made.append(RedisBroker(parsed, options=RedisOptions(**{"key_prefix": prefix, **_PATIENT, **options})))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def connect_backend(prefix: str) -> Iterator[Callable[..., RedisBackend]]:
    """Return what makes backends, as ``connect`` makes brokers."""
    made: list[RedisBackend] = []

    def make(url: str | None = None, **options: Any) -> RedisBackend:
        parsed = EngineURL.parse(url or shared_url("valkey"))
        made.append(RedisBackend(parsed, options=RedisOptions(**{"key_prefix": prefix, **_PATIENT, **options})))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def broker(connect: Callable[..., RedisBroker]) -> RedisBroker:
    """Return a broker with keys of its own."""
    return connect()


@pytest.fixture
def queue() -> str:
    """Return the name of a queue."""
    return "jobs"


@pytest.fixture
def own(redis_server: RedisServer, connect: Callable[..., RedisBroker]) -> RedisBroker:
    """Return a broker of a server that nobody else uses, which forgets ids at once."""
    return connect(redis_server.url, dedup_window=0)
