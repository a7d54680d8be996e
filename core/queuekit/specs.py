"""What the hooks of a plugin return: records that say what there is, and name its code as text.

Plugins import them from :mod:`queuekit.hookspecs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import attrs

from queuekit.backend import BackendCapabilities, BackendLimits
from queuekit.broker import Capabilities, Limits

if TYPE_CHECKING:
    import click

__all__ = ["BackendSpec", "BrokerSpec", "Check", "CommandSpec", "ConfigSection", "MiddlewareSpec", "SerializerSpec"]

Factory = str | Callable[..., Any]
"""``"package.module:Name"``, imported at first use, or the callable itself."""


def _schemes(value: Iterable[str]) -> tuple[str, ...]:
    """Return the schemes; a lone text is one of them, not its letters."""
    return (value,) if isinstance(value, str) else tuple(value)


@attrs.frozen(kw_only=True)
class BrokerSpec:
    """A broker that a plugin provides.

    ``factory(url, *, options, clock, random)`` makes it and opens nothing.
    """

    schemes: tuple[str, ...] = attrs.field(converter=_schemes)
    """URL schemes that it serves, lower case, each ``[a-z][a-z0-9+.-]*``."""
    factory: Factory
    capabilities: Capabilities = Capabilities()
    limits: Limits = Limits()
    options: type | str | None = None
    """attrs class that checks URL query and config table; the keys of both are its fields."""
    section: str | None = None
    """Name of the config table that holds the options; default: the first scheme."""
    summary: str = ""
    """One line for ``queuekit plugins``."""


@attrs.frozen(kw_only=True)
class BackendSpec:
    """A result backend that a plugin provides; made like a broker."""

    schemes: tuple[str, ...] = attrs.field(converter=_schemes)
    factory: Factory
    capabilities: BackendCapabilities = BackendCapabilities()
    limits: BackendLimits = BackendLimits()
    options: type | str | None = None
    section: str | None = None
    summary: str = ""


@attrs.frozen(kw_only=True)
class SerializerSpec:
    """A serializer that a plugin provides; ``factory(types)`` makes it."""

    name: str
    """Value of the setting ``serializer``; also its content type on the wire."""
    factory: Factory
    safe: bool = True
    """False if reading can execute code: the config must then name it in ``allow_unsafe``."""
    summary: str = ""


@attrs.frozen(kw_only=True)
class MiddlewareSpec:
    """A middleware that a plugin adds to every app; ``factory()`` makes it."""

    name: str
    factory: Factory
    order: int = 100
    """Smaller comes first, after those of the config."""


@attrs.frozen(kw_only=True)
class CommandSpec:
    """A command added to ``queuekit``; its body is imported when it is called."""

    name: str
    help: str
    command: str | Callable[[], click.Command]
    """``"package.module:command"``, a click command."""


@attrs.frozen(kw_only=True)
class ConfigSection:
    """A table of the config file that a plugin owns."""

    name: str
    options: type | str
    """attrs class whose fields are the keys."""


@attrs.frozen(kw_only=True)
class Check:
    """Something that ``queuekit check`` looks at; *run* returns problems, one line each."""

    name: str
    run: Callable[[], Iterable[str]]
