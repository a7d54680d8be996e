"""``sqs://`` against the suite, on two imitations whose faults are not the same ones."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import ClassVar

import pytest

from queuekit.broker import Broker
from queuekit.engines.uniqueness import WithUniqueKeys
from queuekit.testing import BrokerConformance
from queuekit.urls import EngineURL
from queuekit_testing.brokers.once import OnceTests
from support.aws_clients import dynamo_backend, sqs_broker
from support.aws_servers import AwsServer

pytest_plugins = ["queuekit.testing"]


RACY = "at times it hands one message to two receivers"


class SqsConformance(BrokerConformance):
    """What both runs have in common: queues under one prefix."""

    EXAMPLES = 4
    CLAIMS: ClassVar = 40
    HOARD: ClassVar = 400
    NOT_PROMISED: ClassVar = {
        "fifo": "the imitations keep an order that a standard queue does not promise",
        "fenced_ack": "the imitations refuse what SQS may carry out",
    }
    url: EngineURL

    @property
    def short(self) -> float:
        """Seconds of a lease or delay that is meant to end: whole ones, as SQS counts them."""
        return 2.0

    def make_broker(self) -> Broker:
        """Return one more client of the server."""
        return sqs_broker(self.url)


class TestSqsOnMinistack(SqsConformance):
    """Queues in ministack."""

    def against(self) -> Mapping[str, str]:
        """Return the versions of imitation and client library."""
        return {name: version(name) for name in ("ministack", "botocore")}

    @pytest.fixture
    def server(self, ministack_server: AwsServer) -> None:
        """Choose the queues."""
        self.url = EngineURL.parse(ministack_server.sqs("kit"))


@pytest.mark.full
class TestSqsOnMoto(SqsConformance):
    """Queues in moto; its faults in races show now and then only, so those tests are left to the other run."""

    EMULATOR_AT_TIMES: ClassVar = {
        "test_lets_one_win": RACY,
        "test_loses_and_doubles_nothing": RACY,
        "test_sends_a_batch_and_returns_its_ids_in_order": RACY,
        "test_shares_messages_between_processes": RACY,
        "test_shares_one_client_between_threads": RACY,
        "test_takes_its_largest_batch": RACY,
    }

    def against(self) -> Mapping[str, str]:
        """Return the versions of imitation and client library."""
        return {name: version(name) for name in ("moto", "botocore")}

    @pytest.fixture
    def server(self, moto_server: AwsServer) -> None:
        """Choose the queues."""
        self.url = EngineURL.parse(moto_server.sqs("kit"))


@pytest.mark.full
class TestSqsWithUniqueKeys(OnceTests):
    """Queues in ministack, with the unique keys that core adds as records of the backend."""

    url: EngineURL

    @property
    def short(self) -> float:
        """Seconds of a lease or delay that is meant to end."""
        return 2.0

    @pytest.fixture
    def server(self, ministack_server: AwsServer) -> None:
        """Choose the queues, and the table with the keys."""
        self.url = EngineURL.parse(ministack_server.sqs("kit"))
        self.keys = EngineURL.parse(ministack_server.dynamodb("kit"))

    def make_broker(self) -> Broker:
        """Return one more client of both."""
        return WithUniqueKeys(sqs_broker(self.url), dynamo_backend(self.keys))
