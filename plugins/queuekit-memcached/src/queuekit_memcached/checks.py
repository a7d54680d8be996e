"""Report what an operator should know of the servers."""

from __future__ import annotations

from collections.abc import Mapping

from queuekit_memcached.options import MemcachedOptions
from queuekit_memcached.servers import Servers
from queuekit_memcached.urls import Target

__all__ = ["check"]


def check(servers: Servers, target: Target, options: MemcachedOptions) -> list[str]:
    """Return the problems of the servers and of the options, one line each.

    Raises:
        UnavailableError: A server does not answer.
    """
    lines = [line for address, stats in servers.stats() for line in _forgetful(str(address), stats)]
    if options.names_files and not target.tls:
        lines.append("ca_file, cert_file and key_file have no effect without TLS: write memcache+tls://")
    return lines


def _forgetful(address: str, stats: Mapping[str, str]) -> list[str]:
    """Return a line if the server has dropped items that had not expired."""
    dropped = int(stats.get("evictions", 0))
    if not dropped:
        return []
    size = int(stats.get("limit_maxbytes", 0)) / 2**20
    what = f"{address} has dropped {dropped:,} items that had not expired, to make room"
    return [f"{what}: raise its memory (-m), now {size:.0f} MB"]
