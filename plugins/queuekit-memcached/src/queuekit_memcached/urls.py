"""Read the addresses of the servers from a URL; opens no connection."""

from __future__ import annotations

import attrs

from queuekit.errors import ConfigError
from queuekit.urls import EngineURL

__all__ = ["Address", "Target", "read_target"]

_PORT = 11_211
_HIGHEST_PORT = 65_535
_EXAMPLES = {
    "memcache": "memcache://cache1,cache2:11212",
    "memcached": "memcached://cache1,cache2:11212",
    "memcache+tls": "memcache+tls://cache1,cache2:11212",
    "memcache+unix": "memcache+unix:///run/memcached.sock",
}


@attrs.frozen(order=True)
class Address:
    """Where one server listens: host and port, or the path of a Unix socket."""

    host: str
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


@attrs.frozen(kw_only=True)
class Target:
    """The servers and their credentials."""

    addresses: tuple[Address, ...]
    """In alphabetical order, each once, so that the order in the URL does not matter."""
    tls: bool = False
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)


def read_target(url: EngineURL) -> Target:
    """Return the servers that *url* names.

    Raises:
        ConfigError: It does not name them correctly.
    """
    if (url.username is None) != (url.password is None):
        raise _unreadable(url, "needs both user and password, or neither")
    if url.scheme == "memcache+unix":
        if url.hosts or len(url.path) <= 1:
            raise _unreadable(url, "names no socket: write three slashes before its path")
        addresses = {Address("", path=url.path)}
    else:
        if url.path.strip("/"):
            raise _unreadable(url, f"has the path {url.path!r}, and Memcached has no databases: set prefix instead")
        addresses = {_address(url, host) for host in url.hosts or ("localhost",)}
    return Target(
        addresses=tuple(sorted(addresses)),
        tls=url.scheme == "memcache+tls",
        username=url.username,
        password=url.password,
    )


def _address(url: EngineURL, text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, ""
    number = int(port or _PORT)
    if not 0 < number <= _HIGHEST_PORT:
        raise _unreadable(url, f"has the port {number}, not one from 1 to {_HIGHEST_PORT:,}")
    return Address(host.strip("[]").lower() or "localhost", number)


def _unreadable(url: EngineURL, what: str) -> ConfigError:
    return ConfigError(
        f"a {url.scheme} URL that {what}", where=f'  url = "{url}"', fix=f"Write e.g. {_EXAMPLES[url.scheme]}"
    )
