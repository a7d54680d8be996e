"""Read the addresses of the servers from a URL; opens no connection, and imports no client library."""

from __future__ import annotations

import attrs

from queuekit.errors import ConfigError
from queuekit.urls import EngineURL

__all__ = ["Target", "read_target"]

_PORTS = {"amqp": 5672, "amqps": 5671}
_LAST_PORT = 65_535


@attrs.frozen(kw_only=True)
class Target:
    """Servers, virtual host and credentials."""

    servers: tuple[tuple[str, int], ...]
    """Host and port of each server, in the order in which they are tried."""
    vhost: str
    tls: bool
    username: str = "guest"
    password: str = attrs.field(default="guest", repr=False)


def read_target(url: EngineURL) -> Target:
    """Return what *url* names.

    Raises:
        ConfigError: It names no host, or a port that is not valid.
    """
    if not url.hosts:
        raise _unreadable(url, "names no host")
    tls = url.scheme == "amqps"
    servers = tuple(_server(host, url) for host in url.hosts)
    username = "guest" if url.username is None else url.username
    password = url.password if url.password is not None else "guest" if url.username is None else ""
    vhost = url.path[1:] or "/"
    return Target(servers=servers, vhost=vhost, tls=tls, username=username, password=password)


def _server(host: str, url: EngineURL) -> tuple[str, int]:
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host, ""
    if not name.strip("[]") or (port and not 0 < int(port) <= _LAST_PORT):
        raise _unreadable(url, f"has {host!r} instead of a host and a port")
    return name.strip("[]"), int(port) if port else _PORTS[url.scheme]


def _unreadable(url: EngineURL, what: str) -> ConfigError:
    example = f"{url.scheme}://user:password@rabbit1,rabbit2/vhost"
    return ConfigError(f"the {url.scheme} URL {what}", where=f'  url = "{url}"', fix=f"Write e.g. {example}")
