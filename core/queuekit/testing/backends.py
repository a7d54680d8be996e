"""The suite for result backends."""

from __future__ import annotations

from queuekit.testing.backends_connections import Connections
from queuekit.testing.backends_groups import Groups
from queuekit.testing.backends_records import Records

__all__ = ["BackendConformance"]


class BackendConformance(Records, Groups, Connections):
    """What every result backend must do.

    Subclass it and say how to make a client::

        class TestRedisBackend(BackendConformance):
            def make_backend(self):
                return RedisBackend(EngineURL.parse("redis://localhost/9"))

    Each call makes another client of the same server; override the fixture ``server`` to prepare that, as for
    :class:`~queuekit.testing.brokers.BrokerConformance`.
    """
