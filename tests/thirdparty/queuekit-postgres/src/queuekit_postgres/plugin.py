"""The plugin: what there is, and who provides it. Imports no client library."""

from __future__ import annotations

from collections.abc import Iterable

from queuekit.backend import BackendCapabilities
from queuekit.broker import Capabilities
from queuekit.hookspecs import BackendSpec, BrokerSpec, hookimpl

queuekit_api = (1, 0)
"""Version of the plugin API that this is written for."""

SCHEMES = ("postgresql", "postgres")


@hookimpl
def queuekit_brokers() -> Iterable[BrokerSpec]:
    """Return the broker."""
    return [
        BrokerSpec(
            schemes=SCHEMES,
            factory="queuekit_postgres.broker:PostgresBroker",
            capabilities=Capabilities(commit=True),
            options="queuekit_postgres.database:PostgresOptions",
            summary="queues on PostgreSQL 12 or later, one row a message",
        )
    ]


@hookimpl
def queuekit_backends() -> Iterable[BackendSpec]:
    """Return the result backend."""
    return [
        BackendSpec(
            schemes=SCHEMES,
            factory="queuekit_postgres.backend:PostgresBackend",
            capabilities=BackendCapabilities(notify=True),
            options="queuekit_postgres.database:PostgresOptions",
            summary="results on PostgreSQL 12 or later, as rows that can be queried",
        )
    ]
