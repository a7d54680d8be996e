"""``rediss://``: real handshakes, and clear words where there is no trust."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queuekit.broker import Ack
from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit_redis.broker import RedisBroker
from support.redis_servers import RedisServer
from support.redis_tls import Authority, tls_in_front
from support.waiting import error_of


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return who has signed the server's certificate."""
    return Authority.make(tmp_path, "authority")


@pytest.fixture
def port(redis_server: RedisServer, authority: Authority) -> Iterator[int]:
    """Return a port that speaks TLS, with a certificate for ``localhost``."""
    with tls_in_front(redis_server.port, authority.sign("localhost")) as port:
        yield port


def test_works_over_tls(port: int, authority: Authority, connect: Callable[..., RedisBroker]) -> None:
    """Messages are sent, waited for and settled as without TLS."""
    broker = connect(f"rediss://localhost:{port}/0", ca_file=authority.file)

    broker.send([Envelope(id="one", queue="jobs", body=b"x" * 100_000)])
    (taken,) = broker.receive(["jobs"], limit=1, wait=0, lease=60)
    late = broker.receive(["jobs"], limit=1, wait=0.05, lease=60)

    assert (taken.envelope.body, late) == (b"x" * 100_000, [])
    assert broker.settle([Ack(taken)]) == []


def test_refuses_whom_it_does_not_trust(port: int, tmp_path: Path, connect: Callable[..., RedisBroker]) -> None:
    """A certificate that somebody else has signed is refused, and the error says how to trust it."""
    other = Authority.make(tmp_path, "other")
    broker = connect(f"rediss://localhost:{port}/0", ca_file=other.file)

    with pytest.raises(UnavailableError, match="a certificate that is not trusted") as caught:
        broker.queues()

    assert "ca_file" in caught.value.fix


def test_refuses_a_certificate_of_another_host(
    port: int, authority: Authority, connect: Callable[..., RedisBroker]
) -> None:
    """A certificate must be made out to the host in the URL, unless one says that it need not."""
    url = f"rediss://127.0.0.1:{port}/0"
    broker = connect(url, ca_file=authority.file)
    lenient = connect(url, ca_file=authority.file, verify="ca")

    with pytest.raises(UnavailableError, match="not trusted"):
        broker.queues()

    assert lenient.queues() == []


def test_says_that_a_file_is_not_there(port: int, tmp_path: Path, connect: Callable[..., RedisBroker]) -> None:
    """An option that names no file is what the error speaks of, also where Sentinels are asked first."""
    broker = connect(f"rediss://localhost:{port}/0", ca_file=tmp_path / "none")
    guarded = connect(f"redis+sentinel://localhost:{port}/jobs/0", tls=True, ca_file=tmp_path / "none")

    with pytest.raises(UnavailableError, match=f"ca_file, {tmp_path}/none, cannot be read") as caught:
        broker.queues()

    with pytest.raises(UnavailableError, match="ca_file"):
        guarded.queues()
    assert not caught.value.passing


def test_asks_sentinels_as_it_asks_the_server(
    redis_server: RedisServer, port: int, tmp_path: Path, authority: Authority, connect: Callable[..., RedisBroker]
) -> None:
    """What is said of certificates holds for Sentinels as well: here that they need not be made out to the host."""
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"sentinel monitor jobs 127.0.0.1 {port} 1\nsentinel down-after-milliseconds jobs 600000\n", encoding="utf-8"
    )
    sentinel = RedisServer(redis_server.program, tmp_path, arguments=[str(config), "--sentinel"]).start()
    try:
        with tls_in_front(sentinel.port, authority.sign("guard")) as guard:
            options = {"tls": True, "ca_file": authority.file, "verify": "ca"}
            broker = connect(f"redis+sentinel://127.0.0.1:{guard}/jobs/0", **options)

            assert broker.queues() == []
    finally:
        sentinel.stop()


def test_says_that_a_port_does_not_speak_tls(redis_server: RedisServer, connect: Callable[..., RedisBroker]) -> None:
    """A server without TLS waits for the rest of what it takes for a command; the error says what to check."""
    broker = connect(f"rediss://:secret@127.0.0.1:{redis_server.port}/0", timeout=1.0, connect_timeout=0.5)

    error = error_of(broker.queues, UnavailableError, "does not answer to TLS")

    assert "redis://" in (error.fix or "")
    assert "secret" not in str(error)


def test_says_that_files_have_no_effect_without_tls(
    redis_server: RedisServer, authority: Authority, connect: Callable[..., RedisBroker]
) -> None:
    """Who names a CA expects TLS, and has to write ``rediss://``."""
    broker = connect(f"redis://127.0.0.1:{redis_server.port}/0", ca_file=authority.file)

    assert any(line.startswith("ca_file, cert_file and key_file have no effect") for line in broker.check())
