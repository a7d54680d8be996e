"""The suite for brokers."""

from __future__ import annotations

from queuekit_testing.brokers.batches import Batches
from queuekit_testing.brokers.clocks import Clocks
from queuekit_testing.brokers.commit import Commit
from queuekit_testing.brokers.connections import Connections
from queuekit_testing.brokers.leases import Leases
from queuekit_testing.brokers.model import Modelled
from queuekit_testing.brokers.once import Once
from queuekit_testing.brokers.order import Order
from queuekit_testing.brokers.payloads import Payloads
from queuekit_testing.brokers.places import Places
from queuekit_testing.brokers.processes import Processes
from queuekit_testing.brokers.waiting import Waiting

__all__ = ["BrokerConformance"]


class BrokerConformance(
    Payloads, Batches, Order, Leases, Waiting, Once, Places, Commit, Clocks, Connections, Modelled, Processes
):
    """What every broker must do.

    Subclass it and say where the server is; the installed plugin for that URL makes the clients::

        class TestRedisBroker(BrokerConformance):
            url = "redis://localhost/9"

    Or override ``make_broker`` (and, where ``capabilities.commit`` is declared, ``make_backend``), each call of which
    makes another client of the same server. To start a server, or to give each test a
    file of its own, override the fixture ``server``, which comes first, and keep on ``self`` what a client needs::

            @pytest.fixture
            def server(self, tmp_path):
                self.url = f"sqlite:///{tmp_path}/queue.db"

    Tests that start processes send ``self`` there by pickle (without attributes that begin with an underscore).
    """
