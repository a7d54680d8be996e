"""Read the address of the server from a URL; opens no connection, and imports no client library."""

from __future__ import annotations

import attrs

from queuekit.errors import ConfigError
from queuekit.urls import EngineURL
from queuekit_redis.options import RedisOptions

__all__ = ["Address", "Target", "read_target"]

Address = tuple[str, int]
"""Host and port."""

_PORT, _SENTINEL_PORT = 6379, 26379
_HIGHEST_PORT = 65_535
_EXAMPLES = {
    "redis": "redis://:password@localhost:6379/0",
    "rediss": "rediss://user:password@redis.example.com:6380/0",
    "redis+unix": "redis+unix:///run/redis.sock?db=0",
    "redis+sentinel": "redis+sentinel://host1,host2:26379/service/0",
    "redis+cluster": "redis+cluster://host1,host2:6379",
}


@attrs.frozen(kw_only=True)
class Target:
    """Address and credentials of the server."""

    kind: str
    """``single``, ``unix``, ``sentinel`` or ``cluster``."""
    addresses: tuple[Address, ...] = ()
    path: str = ""
    """Path of a Unix socket."""
    service: str = ""
    """Name of the service at the Sentinels."""
    db: int = 0
    tls: bool = False
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Identifies the server: equal for equal URLs, whatever the user."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.addresses)
        return f"{self.kind}:{self.path or hosts}/{self.service}/{self.db}"


def read_target(url: EngineURL, options: RedisOptions) -> Target:
    """Return the server that *url* names.

    Raises:
        ConfigError: It does not name a server or a database correctly.
    """
    kind = url.scheme.removeprefix("redis+") if "+" in url.scheme else "single"
    read = {"single": _single, "unix": _unix, "sentinel": _sentinel, "cluster": _cluster}[kind]
    target = read(url, options)
    tls = url.scheme == "rediss" or (options.tls and kind in {"sentinel", "cluster"})
    username = options.username if url.username is None else url.username
    password = options.password if url.password is None else url.password
    return attrs.evolve(target, tls=tls, username=username, password=password)


def _single(url: EngineURL, options: RedisOptions) -> Target:
    if len(url.hosts) > 1:
        raise _unreadable(url, "names several hosts", "For several hosts, use redis+sentinel:// or redis+cluster://")
    addresses = _addresses(url, _PORT) or (("localhost", _PORT),)
    return Target(kind="single", addresses=addresses, db=_database(url, url.path.strip("/"), options))


def _unix(url: EngineURL, options: RedisOptions) -> Target:
    if url.hosts or len(url.path) <= 1:
        raise _unreadable(url, "names no socket: write three slashes before its path")
    return Target(kind="unix", path=url.path, db=options.db or 0)


def _sentinel(url: EngineURL, options: RedisOptions) -> Target:
    service, _, database = url.path.strip("/").partition("/")
    if not url.hosts or not service:
        raise _unreadable(url, "names no Sentinel, or no service")
    return Target(
        kind="sentinel",
        addresses=_addresses(url, _SENTINEL_PORT),
        service=service,
        db=_database(url, database, options),
    )


def _cluster(url: EngineURL, options: RedisOptions) -> Target:
    if not url.hosts:
        raise _unreadable(url, "names no host")
    if _database(url, url.path.strip("/"), options) != 0:
        raise _unreadable(url, "names a database: a Cluster has only database 0")
    return Target(kind="cluster", addresses=_addresses(url, _PORT))


def _addresses(url: EngineURL, default_port: int) -> tuple[Address, ...]:
    addresses = tuple(_address(host, default_port) for host in url.hosts)
    for _, port in addresses:
        if not 0 < port <= _HIGHEST_PORT:  # the system would silently truncate it to 16 bits
            raise _unreadable(url, f"has the port {port}, not one from 1 to {_HIGHEST_PORT:,}")
    return addresses


def _address(text: str, default_port: int) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return text.strip("[]"), default_port
    return host.strip("[]") or "localhost", int(port or default_port)


def _database(url: EngineURL, text: str, options: RedisOptions) -> int:
    if not text:
        return options.db or 0
    if not text.isascii() or not text.isdigit():
        raise _unreadable(url, f"has {text!r} instead of the number of a database")
    return int(text)


def _unreadable(url: EngineURL, what: str, fix: str = "") -> ConfigError:
    fix = fix or f"Write e.g. {_EXAMPLES.get(url.scheme, _EXAMPLES['redis'])}"
    return ConfigError(f"a {url.scheme} URL that {what}", where=f'  url = "{url}"', fix=fix)
