"""The suite for result backends."""

from __future__ import annotations

from queuekit_testing.backends.connections import BackendConnectionsTests
from queuekit_testing.backends.groups import GroupsTests
from queuekit_testing.backends.lives import LivesTests
from queuekit_testing.backends.names import NamesTests
from queuekit_testing.backends.records import RecordsTests

__all__ = ["BackendConformance"]


class BackendConformance(RecordsTests, NamesTests, LivesTests, GroupsTests, BackendConnectionsTests):
    """What every result backend must do.

    Subclass it and set the URL of the server; the installed plugin for that URL makes the clients::

        class TestRedisBackend(BackendConformance):
            url = "redis://localhost/9"

    Or override ``make_backend``: each call makes a new client of the same server. Override the fixture ``server`` to
    prepare the server, as for :class:`~queuekit_testing.brokers.BrokerConformance`.
    """
