"""Memcached's own TLS, by the options that all engines share."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from queuekit.backend import Record
from queuekit.errors import UnavailableError
from queuekit.urls import EngineURL
from support.memcached import Memcached, MemcachedBackend, MemcachedOptions, need
from support.redis_tls import Authority
from support.waiting import UNHURRIED


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return who has signed the certificates of server and client."""
    return Authority.make(tmp_path, "authority")


@pytest.fixture
def server(tmp_path: Path, authority: Authority) -> Iterator[Memcached]:
    """Return a server that speaks TLS, with a certificate for ``localhost``, and asks for one."""
    need()
    pair = authority.sign("localhost")
    mode = f"ssl_chain_cert={pair},ssl_key={pair},ssl_verify_mode=2,ssl_ca_cert={authority.file}"
    made = Memcached(tmp_path, arguments=["-Z", "-o", mode])
    try:
        yield made.start()
    finally:
        made.stop()


def put(server: Memcached, host: str, scheme: str = "memcache+tls", **options: Any) -> list[bool]:
    """Put a record."""
    url = EngineURL.parse(f"{scheme}://{host}:{server.port}")
    chosen = MemcachedOptions(timeout=UNHURRIED, connect_timeout=UNHURRIED, **options)
    with closing(MemcachedBackend(url, options=chosen)) as backend:
        return backend.put([Record(key="k", body=b"x" * 100_000)])


def test_works_over_tls(server: Memcached, authority: Authority) -> None:
    """Certificates are checked both ways; ``verify`` may leave out the host, or everything."""
    pair = authority.sign("client")

    assert put(server, "localhost", ca_file=authority.file, cert_file=pair) == [True]
    assert put(server, "127.0.0.1", ca_file=authority.file, cert_file=pair, verify="ca") == [True]
    assert put(server, "127.0.0.1", cert_file=pair, verify="none") == [True]


def test_refuses_whom_it_does_not_trust(server: Memcached, authority: Authority, tmp_path: Path) -> None:
    """A certificate of somebody else, or of another host, is refused for good, on either side."""
    pair, other = authority.sign("client"), Authority.make(tmp_path, "other")

    rows: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("localhost", {"ca_file": other.file, "cert_file": pair}, "not trusted"),
        ("127.0.0.1", {"ca_file": authority.file, "cert_file": pair}, "not trusted"),
        ("localhost", {"ca_file": authority.file}, "memcache"),
    )
    for host, options, text in rows:
        with pytest.raises(UnavailableError, match=text):
            put(server, host, **options)


def test_names_option_and_file(server: Memcached, tmp_path: Path) -> None:
    """A file that cannot be read is named with its option."""
    with pytest.raises(UnavailableError, match=f"ca_file, {tmp_path}/none, cannot be read"):
        put(server, "localhost", ca_file=tmp_path / "none")
