"""A web dashboard for queuekit, to be run alone or mounted in a web application."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from queuekit.app import Queuekit
    from queuekit_dashboard.access import Accessor

__all__ = ["dashboard", "dashboard_wsgi"]


def dashboard(app: Queuekit, *, access: Accessor | None = None, hosts: Sequence[str] | None = None) -> Starlette:
    """Return an ASGI application that shows *app*, to be mounted in another one: ``web.mount("/queue", ...)``.

    Args:
        app: The app to look at.
        access: Called with each request; returns who asks and what they may do, as an
            :class:`~queuekit_dashboard.access.Access`, or ``None`` to refuse. It may be a coroutine function. Without
            it, a one-time token opens the dashboard; it is logged as a warning by ``queuekit.dashboard``, and belongs
            to this process alone.
        hosts: Names, without ports, under which the dashboard may be asked for. Default: without *access* those of
            this machine, with it any name, since the application around it checks that.
    """
    from queuekit_dashboard.web import mounted

    return mounted(app, access=access, hosts=hosts, live="events")


def dashboard_wsgi(
    app: Queuekit, *, access: Accessor | None = None, hosts: Sequence[str] | None = None
) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    """Return a WSGI application that shows *app*; it needs a2wsgi. Arguments are those of :func:`dashboard`.

    The environment of a request is ``request.scope["wsgi_environ"]``.
    """
    from a2wsgi import ASGIMiddleware

    from queuekit_dashboard.web import mounted

    application: Any = mounted(app, access=access, hosts=hosts, live="poll")
    made: Any = ASGIMiddleware(application)
    wsgi: Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]] = made
    return wsgi
