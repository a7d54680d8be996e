"""Which server is the primary now: the Sentinels know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis import sentinel

from queuekit_redis.link import Link
from queuekit_redis.options import RedisOptions
from queuekit_redis.urls import Address, Target

__all__ = ["following"]


def following(make: Callable[[Address | None], Link], target: Target, options: RedisOptions) -> Callable[[], Link]:
    """Return what makes a link to whichever server is the primary at that moment."""
    asking: dict[str, Any] = {
        "socket_timeout": options.connect_timeout,
        "socket_connect_timeout": options.connect_timeout,
        "username": options.sentinel_username,
        "password": options.sentinel_password,
        "protocol": 2,
    }
    if target.tls:
        asking |= {"ssl": True, "ssl_cert_reqs": options.ssl_cert_reqs}
        asking |= {"ssl_ca_certs": str(options.ssl_ca_certs)} if options.ssl_ca_certs else {}
    untyped: Any = sentinel.Sentinel
    sentinels = untyped(list(target.addresses), sentinel_kwargs=asking)

    def make_for_primary() -> Link:
        host, port = sentinels.discover_master(target.service)
        return make((host, port))

    return make_for_primary
