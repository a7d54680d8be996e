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


def test_says_how_to_trust_a_server(make_broker: Make, secure: str, tmp_path: Path, queue: str) -> None:
    """The error of a certificate that another authority has signed names the option, and shows no password."""
    other = Authority.make(tmp_path, "other")
    broker = make_broker(url=f"{secure.replace('localhost', 'me:hidden@localhost', 1)}&ca_file={other.file}")

    with pytest.raises(QueuekitError, match="a certificate that is not trusted") as caught:
        broker.send([Envelope(id="m", queue=queue, body=b"")])

    assert "ca_file" in (caught.value.fix or "")
    assert "hidden" not in str(caught.value)


def test_says_that_files_have_no_effect_without_tls(make_broker: Make, authority: Authority) -> None:
    """Who names a CA expects TLS, and has to write ``amqps://``."""
    broker = make_broker(f"ca_file={authority.file}")

    assert [line for line in broker.check() if "ca_file" in line] == [
        "ca_file, cert_file and key_file have no effect without TLS: write amqps://"
    ]
