"""Make clients by URL as an app does: find the plugin, check its options, call its factory."""

from __future__ import annotations

import functools
from functools import partial
from random import Random
from typing import Any, Literal

from queuekit.backend import Backend
from queuekit.broker import Broker
from queuekit.clock import SystemClock
from queuekit.errors import UnknownSchemeError
from queuekit.plugins.loading import installed
from queuekit.plugins.manager import Plugins
from queuekit.urls import EngineURL
from queuekit_testing.connections import SteadyClock

__all__ = ["new_backend", "new_broker", "plugins_for"]


@functools.cache
def plugins_for(scheme: str) -> Plugins:
    """Return core's plugins and the one that serves *scheme*; no other installed plugin takes part in the tests.

    The plugin whose entry point has the name of the scheme is tried first, so that usually no other is even imported.
    """
    points = sorted(installed(), key=lambda point: point.name != scheme)
    for chosen in ([], *([point] for point in points)):
        plugins = Plugins(entry_points=partial(iter, chosen), environ={})
        if any(scheme in info.schemes for info in plugins.infos()):
            return plugins
    return Plugins()  # its error lists all that is installed


def new_broker(url: str | EngineURL) -> Broker:
    """Return a new client of the broker at *url*, with only the options in its query."""
    broker: Broker = _new("broker", url)
    return broker


def new_backend(url: str | EngineURL) -> Backend:
    """Return a new client of the result backend at *url*, with only the options in its query."""
    backend: Backend = _new("backend", url)
    return backend


def _new(side: Literal["broker", "backend"], url: str | EngineURL) -> Any:
    """Make an engine; if no plugin serves its scheme, add the step that a plugin's author may have forgotten."""
    parsed = url if isinstance(url, EngineURL) else EngineURL.parse(url)
    random = Random()  # noqa: S311 - a fence between runs, not a secret
    try:
        clock = SystemClock() if _tells_time(side, parsed) else SteadyClock()
        return plugins_for(parsed.scheme).make(side, parsed, table={}, clock=clock, random=random)
    except UnknownSchemeError as error:
        error.fix = "Install the plugin under test, too:  pip install -e .\n" + error.fix
        raise


def _tells_time(side: Literal["broker", "backend"], url: EngineURL) -> bool:
    """Return whether the service has a clock. A broker without one gets a clock that no test sets wrong."""
    return side == "backend" or bool(plugins_for(url.scheme).offer(side, url).spec.capabilities.tells_time)
