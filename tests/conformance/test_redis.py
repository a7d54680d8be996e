"""``redis://`` against the suites, on Valkey, on the Redis of the system, and on the oldest Redis that is supported."""

from collections.abc import Mapping
from contextlib import closing
from typing import ClassVar

import pytest
import redis

from queuekit.backend import Backend
from queuekit.broker import Broker
from queuekit.envelope import Unique
from queuekit.testing import BackendConformance, BrokerConformance
from queuekit.urls import EngineURL
from queuekit_redis.backend import RedisBackend
from queuekit_redis.broker import RedisBroker
from queuekit_redis.options import RedisOptions
from queuekit_testing.kit import unique_name
from support.redis_fleets import RedisCluster, RedisPair
from support.redis_servers import shared_url
from support.waiting import UNHURRIED

pytest_plugins = ["queuekit.testing"]


class OnRedis:
    """Clients of one leg's server."""

    LEG: str
    OPTIONS = RedisOptions(timeout=UNHURRIED, connect_timeout=UNHURRIED)
    SHORT = 0.1

    @pytest.fixture
    def server(self) -> None:
        """Start the leg's server, once for all tests."""
        self.url = shared_url(self.LEG)

    def against(self) -> Mapping[str, str]:
        """Return the versions of server and client library."""
        host, _, port = EngineURL.parse(self.url).hosts[0].rpartition(":")
        with closing(redis.Redis(host, int(port))) as client:
            about = client.info("server")
        server = "Valkey" if "valkey_version" in about else "Redis"
        return {server: about[f"{server.lower()}_version"], "redis-py": redis.__version__}

    def make_broker(self) -> Broker:
        """Return one more client of the server."""
        return RedisBroker(EngineURL.parse(self.url), options=self.OPTIONS)

    def make_backend(self) -> Backend:
        """Return a backend of the same server."""
        return RedisBackend(EngineURL.parse(self.url), options=self.OPTIONS)


class TestValkeyBroker(OnRedis, BrokerConformance):
    """Queues on Valkey."""

    HOARD: ClassVar = 800
    LEG = "valkey"


class TestValkeyBackend(OnRedis, BackendConformance):
    """Records on Valkey."""

    LEG = "valkey"


@pytest.mark.full
class TestRedisBroker(OnRedis, BrokerConformance):
    """Queues on the Redis of the system."""

    LEG = "redis"


@pytest.mark.full
class TestRedisBackend(OnRedis, BackendConformance):
    """Records on the Redis of the system."""

    LEG = "redis"


class OnCluster(OnRedis):
    """Clients of a Cluster."""

    @pytest.fixture
    def server(self, redis_cluster: RedisCluster) -> None:
        """Start the Cluster, once for all tests."""
        self.url = redis_cluster.url


@pytest.mark.full
class TestClusterBroker(OnCluster, BrokerConformance):
    """Queues on a Cluster."""

    def test_returns_the_holder_of_a_unique_key(self, broker: Broker, queue: str) -> None:
        """A second message with the key is not sent; on a Cluster that is so within a queue, which is one slot."""
        unique = Unique(key=unique_name("key"))
        first, second = self.keyed(queue, unique), self.keyed(queue, unique)

        ids = [broker.send([first]), broker.send([second])]

        assert ids == [[first.id], [first.id]]
        assert self.look(broker, queue) == [first.id]


@pytest.mark.full
class TestClusterBackend(OnCluster, BackendConformance):
    """Records on a Cluster."""


class OnSentinel(OnRedis):
    """Clients of the primary that a Sentinel names."""

    @pytest.fixture
    def server(self, redis_pair: RedisPair) -> None:
        """Start the servers, once for all tests."""
        self.url = redis_pair.url


@pytest.mark.full
class TestSentinelBroker(OnSentinel, BrokerConformance):
    """Queues on a primary."""


@pytest.mark.full
class TestSentinelBackend(OnSentinel, BackendConformance):
    """Records on a primary."""


@pytest.mark.full
class TestOldestRedisBroker(OnRedis, BrokerConformance):
    """Queues on Redis 6.2."""

    LEG = "redis-6.2"


@pytest.mark.full
class TestOldestRedisBackend(OnRedis, BackendConformance):
    """Records on Redis 6.2."""

    LEG = "redis-6.2"
