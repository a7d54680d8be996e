"""The plugin: its schemes, and the engines that serve them. Imports no client library."""

from __future__ import annotations

from collections.abc import Iterable

from queuekit.hookspecs import BackendSpec, BrokerSpec, hookimpl
from queuekit_redis.capabilities import (
    BACKEND_CAPABILITIES,
    BACKEND_LIMITS,
    CAPABILITIES,
    CLUSTER_CAPABILITIES,
    CLUSTER_SCHEMES,
    LIMITS,
    SCHEMES,
)

queuekit_api = (1, 1)
_OPTIONS = "queuekit_redis.options:RedisOptions"


@hookimpl
def queuekit_brokers() -> Iterable[BrokerSpec]:
    """Return the broker, for one server and for a Cluster."""
    return [
        BrokerSpec(
            schemes=schemes,
            factory="queuekit_redis.broker:RedisBroker",
            capabilities=capabilities,
            limits=LIMITS,
            options=_OPTIONS,
            section="redis",
            summary=f"queues on Redis 6.2 or later and Valkey, {where}",
        )
        for schemes, capabilities, where in (
            (SCHEMES, CAPABILITIES, "one server or Sentinel"),
            (CLUSTER_SCHEMES, CLUSTER_CAPABILITIES, "a Cluster"),
        )
    ]


@hookimpl
def queuekit_backends() -> Iterable[BackendSpec]:
    """Return the result backend."""
    return [
        BackendSpec(
            schemes=(*SCHEMES, *CLUSTER_SCHEMES),
            factory="queuekit_redis.backend:RedisBackend",
            capabilities=BACKEND_CAPABILITIES,
            limits=BACKEND_LIMITS,
            options=_OPTIONS,
            section="redis",
            summary="results on Redis 6.2 or later and Valkey",
        )
    ]
