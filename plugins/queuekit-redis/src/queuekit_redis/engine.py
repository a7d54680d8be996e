"""The server, the names of keys and the identity that broker and backend share."""

from __future__ import annotations

import os

import attrs

from queuekit.urls import EngineURL
from queuekit_redis.failures import Failures
from queuekit_redis.keys import Keys
from queuekit_redis.layout import Layout
from queuekit_redis.options import RedisOptions
from queuekit_redis.server import Server, SingleServer
from queuekit_redis.urls import read_target

__all__ = ["Engine", "nonce", "open_engine"]


@attrs.frozen(kw_only=True)
class Engine:
    """The parts that serve one URL; no connection is open yet."""

    url: EngineURL
    options: RedisOptions
    server: Server
    keys: Keys
    failures: Failures
    id: str | None
    """Equal for a broker and a backend that can commit together."""
    cluster: bool


def open_engine(url: EngineURL, options: RedisOptions | None) -> Engine:
    """Return the engine of *url*."""
    options = options or RedisOptions()
    target = read_target(url, options)
    failures = Failures(url, signs_in=target.password is not None)
    cluster = target.kind == "cluster"
    keys = Keys(options.key_prefix, target.db, cluster)
    layout = Layout(keys.layout, where=f"{url}, prefix {options.key_prefix},")
    if cluster:
        from queuekit_redis.cluster import ClusterServer

        server: Server = ClusterServer(target, options=options, failures=failures, layout=layout)
    else:
        server = SingleServer(target, options=options, failures=failures, layout=layout)
    return Engine(
        url=url,
        options=options,
        server=server,
        keys=keys,
        failures=failures,
        id=None if cluster else f"redis:{target.name}/{options.key_prefix}",
        cluster=cluster,
    )


def nonce() -> bytes:
    """Return eight bytes that no other call gets, in any process or fork."""
    return os.urandom(8)
