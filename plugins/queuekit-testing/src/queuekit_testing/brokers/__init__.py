"""The suite for brokers."""

from __future__ import annotations

from queuekit_testing.brokers.batches import BatchesTests
from queuekit_testing.brokers.clocks import ClocksTests
from queuekit_testing.brokers.commit import CommitTests
from queuekit_testing.brokers.connections import BrokerConnectionsTests
from queuekit_testing.brokers.cuts import CutsTests
from queuekit_testing.brokers.endurance import EnduranceTests
from queuekit_testing.brokers.lanes import LanesTests
from queuekit_testing.brokers.leases import LeasesTests
from queuekit_testing.brokers.model import ModelledTests
from queuekit_testing.brokers.once import OnceTests
from queuekit_testing.brokers.options import MessageOptionsTests
from queuekit_testing.brokers.order import OrderTests
from queuekit_testing.brokers.payloads import PayloadsTests
from queuekit_testing.brokers.places import PlacesTests
from queuekit_testing.brokers.portable import PortableLeasesTests
from queuekit_testing.brokers.processes import ProcessesTests
from queuekit_testing.brokers.renewals import RenewalsTests
from queuekit_testing.brokers.subscriptions import SubscriptionsTests
from queuekit_testing.brokers.waiting import WaitingTests

__all__ = ["BrokerConformance"]


class BrokerConformance(
    PayloadsTests,
    MessageOptionsTests,
    BatchesTests,
    OrderTests,
    LanesTests,
    LeasesTests,
    PortableLeasesTests,
    RenewalsTests,
    SubscriptionsTests,
    EnduranceTests,
    CutsTests,
    WaitingTests,
    OnceTests,
    PlacesTests,
    CommitTests,
    ClocksTests,
    BrokerConnectionsTests,
    ModelledTests,
    ProcessesTests,
):
    """What every broker must do.

    Subclass it and set the URL of the server; the installed plugin for that URL makes the clients::

        class TestRedisBroker(BrokerConformance):
            url = "redis://localhost/9"

    Or override ``make_broker`` and, if ``capabilities.commit`` is declared, ``make_backend``: each call makes a new
    client of the same server. To start a server, or to use a new file for each test, override the fixture ``server``,
    which runs first, and keep on ``self`` what a client needs::

            @pytest.fixture
            def server(self, tmp_path):
                self.url = f"sqlite:///{tmp_path}/queue.db"

    Tests that start processes pickle ``self`` for them, without attributes that begin with an underscore.
    """
