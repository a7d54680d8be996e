"""The plugin: its schemes, and the engines that serve them. Imports no client library."""

from __future__ import annotations

from collections.abc import Iterable

from queuekit.hookspecs import BackendSpec, BrokerSpec, hookimpl
from queuekit_mongo.capabilities import BACKEND_CAPABILITIES, BACKEND_LIMITS, CAPABILITIES, LIMITS, SCHEMES

queuekit_api = (1, 1)
_OPTIONS = "queuekit_mongo.options:MongoOptions"


@hookimpl
def queuekit_brokers() -> Iterable[BrokerSpec]:
    """Return the broker."""
    return [
        BrokerSpec(
            schemes=SCHEMES,
            factory="queuekit_mongo.broker:MongoBroker",
            capabilities=CAPABILITIES,
            limits=LIMITS,
            options=_OPTIONS,
            section="mongo",
            summary="queues on MongoDB 4.4 or later, one document per message",
        )
    ]


@hookimpl
def queuekit_backends() -> Iterable[BackendSpec]:
    """Return the result backend."""
    return [
        BackendSpec(
            schemes=SCHEMES,
            factory="queuekit_mongo.backend:MongoBackend",
            capabilities=BACKEND_CAPABILITIES,
            limits=BACKEND_LIMITS,
            options=_OPTIONS,
            section="mongo",
            summary="results on MongoDB 4.4 or later, as documents that can be queried",
        )
    ]
