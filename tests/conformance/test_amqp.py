"""``amqp://`` against the suite, on a real RabbitMQ."""

import socket
from collections.abc import Mapping
from importlib.metadata import version
from typing import ClassVar

import pytest

from queuekit.broker import Broker
from queuekit.testing import BrokerConformance
from queuekit.urls import EngineURL
from queuekit_testing.brokers.leases import LeasesTests
from queuekit_testing.brokers.subscriptions import SubscriptionsTests
from queuekit_testing.engines import new_backend, new_broker
from queuekit_testing.kit import unique_name
from support.rabbitmq import need_plugin, shared_address, shared_url

need_plugin()
pytest_plugins = ["queuekit.testing"]


class TestRabbitMQInShort(LeasesTests, SubscriptionsTests):
    """What can go wrong most easily, with marks and priorities in a result backend as an app keeps them."""

    url: EngineURL

    @pytest.fixture
    def server(self) -> None:
        """Choose the server and the backend."""
        self.url = EngineURL.parse(shared_url("auto_delete=300"))
        self.records = EngineURL.parse(f"memory://{unique_name('records')}")

    def make_broker(self) -> Broker:
        """Return one more client of both."""
        broker = new_broker(self.url)
        broker.share(new_backend(self.records))
        return broker


@pytest.mark.full
class TestRabbitMQ(BrokerConformance):
    """Quorum queues, which RabbitMQ deletes when nobody has used them for a while."""

    EXAMPLES = 4
    CLAIMS: ClassVar = 60
    HOARD: ClassVar = 800
    NOT_PROMISED: ClassVar = {
        "fifo": "what goes back from one consumer may come after what another has prefetched",
        "dead_letters": "core keeps them as records",
    }

    @property
    def short(self) -> float:
        """Seconds of a lease or delay that is meant to end: a busy server passes delayed messages on late."""
        return 1.0

    def against(self) -> Mapping[str, str]:
        """Return the versions of server and client library."""
        host, _, port = shared_address().partition(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            start = connection.recv(4_096)
        found = start.partition(b"version")[2][1:]
        return {"RabbitMQ": found[4 : 4 + found[3]].decode(), "pika": version("pika")}

    @pytest.fixture
    def server(self) -> None:
        """Choose the server."""
        self.url = shared_url("auto_delete=300")
