"""Which server is the primary now: the Sentinels know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis import sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from queuekit_redis.link import Link, tls_options
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
        # The client library would ask one that is gone again and again, before it asks the next.
        "retry": Retry(NoBackoff(), 0),
    }
    if target.tls:
        asking |= {"ssl": True, **tls_options(options)}
    untyped: Any = sentinel.Sentinel
    sentinels = untyped(list(target.addresses), sentinel_kwargs=asking)
    clients: list[Any] = list(sentinels.sentinels)

    def primary() -> Address:
        nonlocal clients
        problems: list[str] = []
        for client in clients:
            try:
                state = client.sentinel_masters().get(target.service)
            except (RedisConnectionError, RedisTimeoutError) as error:
                problems.append(str(error))
                continue
            finally:  # or what is open to it would outlive the broker that asked
                client.connection_pool.disconnect(inuse_connections=False)
            if state and sentinels.check_master_state(state, target.service):
                clients = sorted(clients, key=lambda one: one is not client)  # who knows is asked first
                return state["ip"], state["port"]
        raise sentinel.MasterNotFoundError("; ".join([f"no Sentinel names a primary of {target.service!r}", *problems]))

    return lambda: make(primary())
