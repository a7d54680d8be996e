"""Specs that the hooks of a plugin return: data that describes an engine and names its code as text.

Plugins import them from :mod:`queuekit.hookspecs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import attrs

from queuekit.backend import BackendCapabilities, BackendLimits
from queuekit.broker import Capabilities, Limits
from queuekit.events import Event
from queuekit.values import frozen

if TYPE_CHECKING:
    import click

__all__ = [
    "BackendSpec",
    "BrokerSpec",
    "Check",
    "CommandSpec",
    "ConfigSection",
    "MiddlewareSpec",
    "SerializerSpec",
    "SubscriberSpec",
]

Factory = str | Callable[..., Any]
"""``"package.module:Name"``, imported at first use; or the callable itself."""


def _schemes(value: Iterable[str]) -> tuple[str, ...]:
    """Return the schemes as a tuple; a str counts as one scheme."""
    return (value,) if isinstance(value, str) else tuple(value)


@frozen(kw_only=True)
class BrokerSpec:
    """A broker that a plugin provides.

    ``factory(url, *, options, clock, random)`` creates it without connecting.

    Attributes:
        schemes: URL schemes that it serves, in lower case, each ``[a-z][a-z0-9+.-]*``.
        factory: The class or function that creates the broker, or where it is: ``"package.module:Name"``.
        capabilities: What the broker can do; core emulates or refuses the rest.
        limits: Largest numbers that the broker takes.
        options: attrs class whose fields are the options in the URL query and the config table.
        section: Name of the config table with the options; default: the first scheme.
        summary: One line for ``queuekit plugins``.
    """

    schemes: tuple[str, ...] = attrs.field(converter=_schemes)
    factory: Factory
    capabilities: Capabilities = Capabilities()
    limits: Limits = Limits()
    options: type | str | None = None
    section: str | None = None
    summary: str = ""


@frozen(kw_only=True)
class BackendSpec:
    """A result backend that a plugin provides; created like a broker.

    Attributes:
        schemes: URL schemes that it serves, in lower case, each ``[a-z][a-z0-9+.-]*``.
        factory: The class or function that creates the backend, or where it is: ``"package.module:Name"``.
        capabilities: What the backend can do; core emulates or refuses the rest.
        limits: Largest numbers that the backend takes.
        options: attrs class whose fields are the options in the URL query and the config table; ``None`` for no
            options.
        section: Name of the config table with the options; default: the first scheme.
        summary: One line for ``queuekit plugins``.
    """

    schemes: tuple[str, ...] = attrs.field(converter=_schemes)
    factory: Factory
    capabilities: BackendCapabilities = BackendCapabilities()
    limits: BackendLimits = BackendLimits()
    options: type | str | None = None
    section: str | None = None
    summary: str = ""


@frozen(kw_only=True)
class SerializerSpec:
    """A serializer that a plugin provides; ``factory(types)`` creates it.

    Attributes:
        name: Value of the setting ``serializer``; also its content type on the wire.
        factory: The class or function that creates it, or where it is: ``"package.module:Name"``.
        safe: False if reading can execute code; then the config must name it in ``allow_unsafe``.
        summary: One line for ``queuekit plugins``.
    """

    name: str
    factory: Factory
    safe: bool = True
    summary: str = ""


@frozen(kw_only=True)
class MiddlewareSpec:
    """A middleware that a plugin adds to every app; ``factory()`` creates it.

    Attributes:
        name: Name of the middleware, for errors and ``queuekit plugins``.
        factory: The class or function that creates it, or where it is: ``"package.module:Name"``.
        order: Lower numbers come first; all come after the app's own middlewares.
    """

    name: str
    factory: Factory
    order: int = 100


@frozen(kw_only=True)
class SubscriberSpec:
    """A function that a plugin has called with some events only.

    Attributes:
        subscriber: Called with each of these events, in the thread that emits it; it must be quick.
        events: Types of the events that it gets. What nobody subscribes to costs a worker nothing.
    """

    subscriber: Callable[[Any], None]
    events: tuple[type[Event], ...]


@frozen(kw_only=True)
class CommandSpec:
    """A command added to ``queuekit``; its body is imported when it is called.

    Attributes:
        name: Name of the command, as it is typed after ``queuekit``.
        help: One line for ``queuekit --help``.
        command: ``"package.module:command"``, a click command.
    """

    name: str
    help: str
    command: str | Callable[[], click.Command]


@frozen(kw_only=True)
class ConfigSection:
    """A table of the config file that a plugin owns.

    Attributes:
        name: Name of the table.
        options: attrs class whose fields are the keys.
    """

    name: str
    options: type | str


@frozen(kw_only=True)
class Check:
    """A check of ``queuekit check``; *run* returns problems, one line each.

    Attributes:
        name: Name of the check, for the report.
        run: Returns the problems; none if all is well.
    """

    name: str
    run: Callable[[], Iterable[str]]
