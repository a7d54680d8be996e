"""The plugin: its schemes, and the result backend that serves them. Opens no connection."""

from __future__ import annotations

from collections.abc import Iterable

from queuekit.hookspecs import BackendSpec, hookimpl
from queuekit_memcached.capabilities import BACKEND_CAPABILITIES, ITEM_BYTES, SCHEMES, limits_of

queuekit_api = (1, 1)


@hookimpl
def queuekit_backends() -> Iterable[BackendSpec]:
    """Return the result backend."""
    return [
        BackendSpec(
            schemes=SCHEMES,
            factory="queuekit_memcached.backend:MemcachedBackend",
            capabilities=BACKEND_CAPABILITIES,
            limits=limits_of(ITEM_BYTES),
            options="queuekit_memcached.options:MemcachedOptions",
            section="memcached",
            summary="results on Memcached 1.6.12 or later, which may forget them",
        )
    ]
