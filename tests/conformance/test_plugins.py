"""The plugins that ship, and the one that is always there, against the suite for plugins."""

import importlib.util
import os

import pytest

from queuekit.testing import PluginConformance

pytest_plugins = ["queuekit.testing"]


class TestBuiltin(PluginConformance):
    """Memory, sqlite, JSON and pickle."""

    plugin = "queuekit.plugins.builtin"
    distribution = "queuekit"
    URLS = {"sqlite": "sqlite:////nosuchfolder/queue.db", "memory": "memory://conformance"}  # noqa: RUF012 - a constant


class TestRedis(PluginConformance):
    """queuekit-redis."""

    plugin = "queuekit_redis.plugin"
    URLS = {  # noqa: RUF012 - constants
        "redis+unix": "redis+unix:///nosuchfolder/redis.sock",
        "redis+sentinel": "redis+sentinel://{user}:{password}@127.0.0.1:1/service/0?timeout=0.5",
        "redis+cluster": "redis+cluster://{user}:{password}@127.0.0.1:1?timeout=0.5",
    }


class TestSqs(PluginConformance):
    """queuekit-sqs."""

    plugin = "queuekit_sqs.plugin"
    URLS = {  # noqa: RUF012 - a constant
        "sqs+http": "sqs+http://{user}:{password}@127.0.0.1:1/shop",
        "dynamodb+http": "dynamodb+http://{user}:{password}@127.0.0.1:1/shop",
    }


@pytest.mark.skipif(
    importlib.util.find_spec("queuekit_memcached") is None and "QUEUEKIT_REQUIRE_ENGINES" not in os.environ,
    reason="pip install --no-deps -e plugins/queuekit-memcached",
)
class TestMemcached(PluginConformance):
    """queuekit-memcached."""

    plugin = "queuekit_memcached.plugin"
    URLS = {  # noqa: RUF012 - constants
        "memcache": "memcache://{user}:{password}@127.0.0.1:1?timeout=0.5",
        "memcached": "memcached://{user}:{password}@127.0.0.1:1?timeout=0.5",
        "memcache+tls": "memcache+tls://{user}:{password}@127.0.0.1:1?timeout=0.5",
        "memcache+unix": "memcache+unix:///nosuchfolder/memcached.sock",
    }


class TestMongo(PluginConformance):
    """queuekit-mongo."""

    plugin = "queuekit_mongo.plugin"
    URLS = {"mongodb": "mongodb://{user}:{password}@127.0.0.1:1/shop?timeout=0.5"}  # noqa: RUF012 - a constant


@pytest.mark.skipif(
    importlib.util.find_spec("queuekit_amqp") is None and not os.environ.get("QUEUEKIT_REQUIRE_ENGINES"),
    reason="queuekit-amqp is missing: pip install plugins/queuekit-amqp",
)
class TestAmqp(PluginConformance):
    """queuekit-amqp."""

    plugin = "queuekit_amqp.plugin"
    URLS = {"mongodb": "mongodb://{user}:{password}@127.0.0.1:1/shop?timeout=0.5"}  # noqa: RUF012 - a constant
