"""What a plugin may provide: one documented function per hook, and the records that they return.

A plugin is a thin module named by one entry point in the group ``queuekit``. It declares ``queuekit_api = (1, 0)``
and defines some of these functions, marked with :data:`hookimpl`. It imports no client library: a spec names its
factory as text, and core imports that when the scheme is used. All hooks are synchronous. None of them stands on the
way of a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from queuekit.backend import Backend, BackendCapabilities, BackendLimits
from queuekit.broker import Broker, Capabilities, Limits
from queuekit.urls import EngineURL

if TYPE_CHECKING:
    import click

__all__ = [
    "API_VERSION",
    "BackendSpec",
    "BrokerSpec",
    "Check",
    "CommandSpec",
    "ConfigSection",
    "MiddlewareSpec",
    "SerializerSpec",
    "hookimpl",
    "hookspec",
]

PROJECT = "queuekit"
API_VERSION = (1, 0)
"""Version of hooks and contracts. A plugin's major must be equal, its minor not greater."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a plugin's hook functions."""

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


@hookspec
def queuekit_brokers() -> Iterable[BrokerSpec]:
    """Return the brokers that this plugin provides. Called once, at the first selection of a scheme."""
    raise NotImplementedError


@hookspec
def queuekit_backends() -> Iterable[BackendSpec]:
    """Return the result backends that this plugin provides. Called once."""
    raise NotImplementedError


@hookspec
def queuekit_serializers() -> Iterable[SerializerSpec]:
    """Return the serializers that this plugin provides. Called once."""
    raise NotImplementedError


@hookspec
def queuekit_middlewares(config: Any) -> Iterable[MiddlewareSpec]:
    """Return middlewares to add to an app with this *config*. Called when the app freezes."""
    raise NotImplementedError


@hookspec
def queuekit_commands() -> Iterable[CommandSpec]:
    """Return commands for the command line. Called once per run of ``queuekit``."""
    raise NotImplementedError


@hookspec
def queuekit_config_sections() -> Iterable[ConfigSection]:
    """Return the tables of the config file that this plugin owns. Called once."""
    raise NotImplementedError


@hookspec
def queuekit_checks(app: Any) -> Iterable[Check]:
    """Return what ``queuekit check`` should look at for *app*."""
    raise NotImplementedError


@hookspec
def queuekit_subscribers() -> Iterable[Callable[[Any], None]]:
    """Return callables that receive each event (see :mod:`queuekit.events`). Called when an app freezes."""
    raise NotImplementedError


@hookspec(firstresult=True)
def queuekit_make_broker(url: EngineURL, spec: BrokerSpec, make: Callable[[], Broker]) -> Broker | None:
    """Return the broker for *url*, or ``None`` to leave it to the next plugin; core's own comes last.

    To wrap it, call *make*, which builds the broker as core would.
    """


@hookspec(firstresult=True)
def queuekit_make_backend(url: EngineURL, spec: BackendSpec, make: Callable[[], Backend]) -> Backend | None:
    """Return the result backend for *url*, or ``None``; as :func:`queuekit_make_broker`."""


@hookspec(historic=True)
def queuekit_configure(app: Any, config: Any) -> None:
    """Hear of *app* once its config is final. An error aborts."""


@hookspec(historic=True)
def queuekit_task_registered(app: Any, task: Any) -> None:
    """Hear of each task, also of those registered before the plugins were loaded."""


@hookspec
def queuekit_worker_boot(worker: Any) -> None:
    """Run in the supervisor before any child starts. An error aborts the start."""


@hookspec
def queuekit_worker_child_init(worker: Any) -> None:
    """Run in each worker process before it takes messages: open connections here."""


@hookspec
def queuekit_worker_ready(worker: Any) -> None:
    """Run in each worker process once it takes messages. Errors are logged."""


@hookspec
def queuekit_worker_stopping(worker: Any, reason: str) -> None:
    """Run when a worker process begins to stop. Errors are logged."""


@hookspec
def queuekit_worker_stopped(worker: Any, stats: dict[str, int]) -> None:
    """Run when a worker process has stopped. Errors are logged."""


@hookspec
def queuekit_app_closing(app: Any) -> None:
    """Run when an app closes its connections. Errors are logged."""
