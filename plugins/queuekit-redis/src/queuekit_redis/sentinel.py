"""Find the current primary through the Sentinels."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis import sentinel
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from queuekit_redis.deadlines import LimitedConnection, LimitedSSLConnection
from queuekit_redis.link import Link
from queuekit_redis.options import RedisOptions
from queuekit_redis.urls import Address, Target

__all__ = ["Primary"]

REFRESH_EVERY = 2.0
"""Seconds between two queries of the Sentinels while connections are in use. A replaced primary accepts messages for
many seconds before it steps down, and then loses them."""
SHARE = 10
"""Least pause between two queries, as a multiple of the last one's duration, so that slow Sentinels cost little."""


class Primary:
    """The current primary.

    Args:
        make: Makes a link to an address.
        target: Addresses of the Sentinels, and the name of the service.
        options: Options of the connections.
    """

    def __init__(self, make: Callable[[Address | None], Link], target: Target, options: RedisOptions) -> None:
        self._make = make
        self._service = target.service
        self._tls = options if target.tls else None
        untyped: Any = sentinel.Sentinel
        self._sentinels = untyped(list(target.addresses), sentinel_kwargs=_asking(target, options))
        self._clients: list[Any] = list(self._sentinels.sentinels)
        for client in self._clients:
            pool = client.connection_pool
            pool.connection_class = LimitedSSLConnection if target.tls else LimitedConnection
            for name in ("socket_timeout", "socket_connect_timeout"):
                pool.connection_kwargs.pop(name, None)
            pool.connection_kwargs |= {"usual": options.connect_timeout, "usual_connect": options.connect_timeout}
            pool.connection_kwargs |= {"tls": options} if target.tls else {}
        self._address: Address | None = None
        self._left = False
        """Whether a link may lead to a former primary."""
        self._next_refresh = 0.0

    def link(self) -> Link:
        """Return a link to the primary, which is not open yet."""
        if self._tls is not None:
            self._tls.context()  # here, since the client library would turn its error into one of its own
        return self._make(self._refresh())

    def has_moved(self) -> bool:
        """Return whether the primary has changed since the last call; query the Sentinels from time to time."""
        if self._address is not None and time.monotonic() >= self._next_refresh:
            with suppress(RedisError, OSError):  # open connections work without Sentinels
                self._refresh()
        moved, self._left = self._left, False
        return moved

    def _refresh(self) -> Address:
        """Query the address of the primary, and remember whether it has changed."""
        since = time.monotonic()
        self._next_refresh = since + REFRESH_EVERY  # set it first, so that other threads do not query as well
        try:
            address = self._named()
        finally:
            now = time.monotonic()
            self._next_refresh = now + max(REFRESH_EVERY, SHARE * (now - since))
        self._left = self._left or self._address not in {None, address}
        self._address = address
        return address

    def _named(self) -> Address:
        """Query the Sentinels one by one until one names the primary."""
        problems: list[str] = []
        refusals: list[AuthenticationError] = []
        for client in self._clients:
            try:
                state = client.sentinel_masters().get(self._service)
            except AuthenticationError as error:
                refusals.append(error)
                continue
            except (RedisConnectionError, RedisTimeoutError) as error:
                problems.append(str(error))
                continue
            finally:  # otherwise the connection would outlive the broker
                client.connection_pool.disconnect(inuse_connections=False)
            if state and self._sentinels.check_master_state(state, self._service):
                # next time, query this one first
                self._clients = sorted(self._clients, key=lambda one: one is not client)
                return state["ip"], state["port"]
        if refusals and not problems:
            raise refusals[0]
        problems += map(str, refusals)
        text = f"no Sentinel names a primary of {self._service!r}"
        raise sentinel.MasterNotFoundError("; ".join([text, *problems]))


def _asking(target: Target, options: RedisOptions) -> dict[str, Any]:
    """Return the options of connections to Sentinels."""
    asking: dict[str, Any] = {
        "socket_timeout": options.connect_timeout,
        "socket_connect_timeout": options.connect_timeout,
        "username": options.sentinel_username,
        "password": options.sentinel_password,
        "protocol": 2,
        # The client library would retry an unreachable Sentinel several times before it queries the next.
        "retry": Retry(NoBackoff(), 0),
    }
    if target.tls:
        asking |= {"ssl": True}
    return asking
