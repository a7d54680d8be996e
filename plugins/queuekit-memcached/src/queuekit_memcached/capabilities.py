"""Capabilities and limits of the result backend, as data, so that core knows them before it connects."""

from __future__ import annotations

from queuekit.backend import BackendCapabilities, BackendLimits

__all__ = ["BACKEND_CAPABILITIES", "ITEM_BYTES", "RESERVED", "SCHEMES", "limits_of"]

SCHEMES = ("memcache", "memcached", "memcache+tls", "memcache+unix")

ITEM_BYTES = 1_048_576
"""Largest item of a server with default options, including its key: its option ``-I``."""
RESERVED = 16_384
"""Bytes of an item that are reserved for its key, the server's own fields, and what a record has besides its body."""
BACKEND_CAPABILITIES = BackendCapabilities(scan=False, same=True, durable=False)
"""Memcached cannot list its keys, and drops records before they expire: if it is full, and when it restarts."""


def limits_of(item_bytes: int) -> BackendLimits:
    """Return the limits with servers whose largest item has *item_bytes* bytes.

    A record expires up to two seconds late: Memcached's time has whole seconds, and begins one somewhere in a second.
    """
    return BackendLimits(max_record=item_bytes - RESERVED, ttl_granularity=2.0)
