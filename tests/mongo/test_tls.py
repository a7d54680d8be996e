"""TLS in front of MongoDB, by the options that all engines share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queuekit.errors import UnavailableError
from queuekit_mongo.broker import MongoBroker
from support.mongod import shared_set
from support.redis_tls import Authority, tls_in_front
from support.waiting import error_of


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return who has signed the server's certificate."""
    return Authority.make(tmp_path, "authority")


@pytest.fixture
def port(authority: Authority) -> Iterator[int]:
    """Return a port that speaks TLS, with a certificate for ``localhost``."""
    with tls_in_front(shared_set().primary.port, authority.sign("localhost")) as port:
        yield port


def url_of(host: str, port: int) -> str:
    """Return the URL of the server behind that port alone."""
    return f"mongodb://{host}:{port}/tls?directConnection=true"


def test_works_over_tls(port: int, authority: Authority, connect: Callable[..., MongoBroker]) -> None:
    """``ca_file`` says whom to trust, and that TLS is spoken; ``verify`` lets a certificate be of another host."""
    trusting = connect(url_of("localhost", port), ca_file=authority.file)
    lenient = connect(url_of("127.0.0.1", port), ca_file=authority.file, verify="ca")
    blind = connect(url_of("127.0.0.1", port), verify="none")

    assert [broker.queues() for broker in (trusting, lenient, blind)] == [[], [], []]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_refuses_whom_it_does_not_trust(
    port: int, host: str, tmp_path: Path, authority: Authority, connect: Callable[..., MongoBroker]
) -> None:
    """A certificate that somebody else signed, or of another host, is refused."""
    trusted = Authority.make(tmp_path, "other") if host == "localhost" else authority
    broker = connect(url_of(host, port), ca_file=trusted.file, timeout=1.0)

    error_of(broker.queues, UnavailableError, "certificate verify failed")


def test_names_option_and_file(tmp_path: Path, connect: Callable[..., MongoBroker]) -> None:
    """A file that cannot be read, or that the client library cannot take apart, is named with its option."""
    key, none = tmp_path / "client.key", tmp_path / "none.pem"
    key.touch()
    missing = connect("mongodb://127.0.0.1:1/tls", ca_file=none)
    apart = connect("mongodb://127.0.0.1:1/tls", cert_file=key, key_file=key)

    with pytest.raises(UnavailableError, match=f"ca_file, {none}, cannot be read"):
        missing.queues()
    with pytest.raises(UnavailableError, match=f"key_file, {key}, cannot be used") as caught:
        apart.queues()
    assert caught.value.fix == "Append the key to cert_file, and remove key_file"
