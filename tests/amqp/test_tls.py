"""TLS: ``amqps://`` with the options of all engines."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queuekit.broker import Ack, Broker
from queuekit.envelope import Envelope
from queuekit.errors import QueuekitError
from support.rabbitmq import need_plugin, shared_address, shared_url
from support.redis_tls import Authority, tls_in_front
from support.waiting import PATIENCE

need_plugin()

Make = Callable[..., Broker]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return who has signed the server's certificate."""
    return Authority.make(tmp_path, "authority")


@pytest.fixture
def secure(authority: Authority) -> Iterator[str]:
    """Return the URL of RabbitMQ behind TLS, without options of TLS."""
    address = shared_address()
    with tls_in_front(int(address.rpartition(":")[2]), authority.sign("localhost")) as port:
        yield shared_url("auto_delete=300").replace(f"amqp://{address}", f"amqps://localhost:{port}")


def test_sends_and_receives_over_tls(make_broker: Make, secure: str, authority: Authority, queue: str) -> None:
    """A body of several TLS records comes back unchanged, and is acknowledged."""
    body = b"\xff\0" * 100_000
    broker = make_broker(url=f"{secure}&ca_file={authority.file}")
    try:
        broker.send([Envelope(id="large", queue=queue, body=body)])
        (delivery,) = broker.receive([queue], limit=1, wait=PATIENCE, lease=PATIENCE)

        assert delivery.envelope.body == body
        assert broker.settle([Ack(delivery)]) == []
    finally:
        broker.close()


def test_refuses_a_server_that_nobody_vouches_for(make_broker: Make, secure: str, queue: str) -> None:
    """A certificate of an unknown authority ends the connection, and the error says so."""
    broker = make_broker(url=secure)

    with pytest.raises(QueuekitError, match="certificate"):
        broker.send([Envelope(id="m", queue=queue, body=b"")])
