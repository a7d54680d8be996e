"""The plugin: what there is, and who provides it. Imports no client library."""

from __future__ import annotations

from collections.abc import Iterable

from queuekit.hookspecs import MiddlewareSpec, hookimpl

queuekit_api = (1, 0)
"""Version of the plugin API that this is written for."""


@hookimpl
def queuekit_middlewares() -> Iterable[MiddlewareSpec]:
    """Return the middleware. An argument *config* would hold the settings of the app that it is for."""
    return [MiddlewareSpec(name="old-middleware", factory="queuekit_old_middleware.middleware:OldMiddlewareMiddleware")]
