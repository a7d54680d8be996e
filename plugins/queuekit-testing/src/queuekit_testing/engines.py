"""Clients by URL, made as an app makes them: the plugin is found, its options are checked, its factory is called."""

from __future__ import annotations

import functools
from collections.abc import Callable
from random import Random
from typing import TypeVar

from queuekit.backend import Backend
from queuekit.broker import Broker
from queuekit.clock import SystemClock
from queuekit.errors import UnknownSchemeError
from queuekit.plugins.manager import Plugins
from queuekit.urls import EngineURL

__all__ = ["installed_plugins", "new_backend", "new_broker"]

T = TypeVar("T")


@functools.cache
def installed_plugins() -> Plugins:
    """Return the plugins that are installed here, loaded once per process."""
    return Plugins()


def new_broker(url: str | EngineURL) -> Broker:
    """Return one more client of the broker at *url*, with the options of its query alone."""
    make = installed_plugins().make_broker
    return _with_hint(lambda: make(_parsed(url), table={}, clock=SystemClock(), random=_chance()))


def new_backend(url: str | EngineURL) -> Backend:
    """Return one more client of the result backend at *url*, with the options of its query alone."""
    make = installed_plugins().make_backend
    return _with_hint(lambda: make(_parsed(url), table={}, clock=SystemClock(), random=_chance()))


def _chance() -> Random:
    return Random()  # noqa: S311 - a fence between runs, not a secret


def _parsed(url: str | EngineURL) -> EngineURL:
    return url if isinstance(url, EngineURL) else EngineURL.parse(url)


def _with_hint(make: Callable[[], T]) -> T:
    """Make something; if nothing here serves its scheme, say what a plugin's author may have forgotten."""
    try:
        return make()
    except UnknownSchemeError as error:
        error.fix = "A plugin under test must be installed, too:  pip install -e .\n" + error.fix
        raise
