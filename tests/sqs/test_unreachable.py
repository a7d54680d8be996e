"""A server that is not there: an error in time, and the client works when it has come back."""

import time

import pytest

from queuekit.broker import Ack
from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit.urls import EngineURL
from queuekit_sqs.backend import DynamoBackend
from queuekit_sqs.broker import SqsBroker
from support.aws_clients import sqs_broker
from support.aws_proxy import AwsProxy
from support.server_process import free_port
from support.waiting import PATIENCE


def test_nobody_there_is_one_clear_error() -> None:
    """Neither broker nor backend holds up who asks for longer than it takes to be refused."""
    address = f"127.0.0.1:{free_port()}"
    begin = time.monotonic()

    with pytest.raises(UnavailableError, match="sqs:GetQueueUrl on x-q failed"):
        SqsBroker(EngineURL.parse(f"sqs+http://{address}/x")).send([Envelope(id="a", queue="q", body=b"")])
    with pytest.raises(UnavailableError, match="dynamodb:BatchGetItem on x-records failed"):
        DynamoBackend(EngineURL.parse(f"dynamodb+http://{address}/x")).get(["result:a"])

    assert time.monotonic() - begin < PATIENCE


def test_a_receive_says_what_its_long_poll_has_met(proxy: AwsProxy) -> None:
    """What goes wrong with a long poll is raised by the receive that waits for it, and the next one works."""
    broker = sqs_broker(proxy.sqs("unreachable"))
    broker.receive(["q"], limit=1, wait=0, lease=30)
    proxy.throttle(2.0, "ReceiveMessage")

    with pytest.raises(UnavailableError, match="RequestThrottled"):
        broker.receive(["q"], limit=1, wait=5.0, lease=30)
    proxy.throttled.clear()
    broker.send([Envelope(id="a", queue="q", body=b"body")])
    (delivery,) = broker.receive(["q"], limit=1, wait=10.0, lease=30)

    assert broker.settle([Ack(delivery)]) == []
    broker.close()
