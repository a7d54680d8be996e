"""``redis://`` against the suites, on Valkey, on the Redis of the system, and on the oldest Redis that is supported."""

from collections.abc import Callable

import pytest

from queuekit.backend import Backend
from queuekit.broker import Broker
from queuekit.testing import BackendConformance, BrokerConformance
from queuekit.urls import EngineURL
from queuekit_redis.backend import RedisBackend
from queuekit_redis.broker import RedisBroker

pytest_plugins = ["queuekit.testing", "support.redis_fixtures"]


class OnRedis:
    """Clients of one leg's server."""

    LEG: str
    SHORT = 0.1

    @pytest.fixture
    def server(self, redis_url: Callable[[str], str]) -> None:
        """Start the leg's server, once for all tests."""
        self.url = redis_url(self.LEG)

    def make_broker(self) -> Broker:
        """Return one more client of the server."""
        return RedisBroker(EngineURL.parse(self.url))

    def make_backend(self) -> Backend:
        """Return a backend of the same server."""
        return RedisBackend(EngineURL.parse(self.url))


class TestValkeyBroker(OnRedis, BrokerConformance):
    """Queues on Valkey."""

    LEG = "valkey"


class TestValkeyBackend(OnRedis, BackendConformance):
    """Records on Valkey."""

    LEG = "valkey"


class TestRedisBroker(OnRedis, BrokerConformance):
    """Queues on the Redis of the system."""

    LEG = "redis"


class TestRedisBackend(OnRedis, BackendConformance):
    """Records on the Redis of the system."""

    LEG = "redis"


class TestOldestRedisBroker(OnRedis, BrokerConformance):
    """Queues on Redis 6.2."""

    LEG = "redis-6.2"


class TestOldestRedisBackend(OnRedis, BackendConformance):
    """Records on Redis 6.2."""

    LEG = "redis-6.2"
