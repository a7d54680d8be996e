"""The plugin: what there is, and who provides it. Imports no client library."""

from __future__ import annotations

from collections.abc import Iterable

from queuekit.backend import BackendCapabilities, BackendLimits
from queuekit.hookspecs import BackendSpec, hookimpl

queuekit_api = (1, 0)
"""Version of the plugin API that this is written for."""

CAPABILITIES = BackendCapabilities(
    atomic_join=True,
    notify=False,
    scan=True,
    processes=True,
)
"""What the service can do by itself. The tests hold it to each of them."""
LIMITS = BackendLimits(max_record=1_000_000)
"""The service's numbers; core never asks for more."""


@hookimpl
def queuekit_backends() -> Iterable[BackendSpec]:
    """Return the result backend."""
    return [
        BackendSpec(
            schemes=("old-backend",),
            factory="queuekit_old_backend.backend:OldBackendBackend",
            capabilities=CAPABILITIES,
            limits=LIMITS,
            options="queuekit_old_backend.backend:OldBackendOptions",
            summary="results on old-backend",
        )
    ]
