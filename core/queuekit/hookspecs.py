"""Hooks that a plugin may implement, one documented function each.

A plugin is a thin module named by one entry point in the group ``queuekit``. It declares ``queuekit_api = (1, 1)``
and implements some of these hooks and those of :mod:`queuekit.lifecycle`, marked with :data:`hookimpl`. It imports no
client library: a spec names its factory as text, and core imports that when the scheme is used. All hooks are
synchronous. Core calls none of them while it handles a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pluggy

from queuekit.backend import Backend
from queuekit.broker import Broker
from queuekit.specs import (
    BackendSpec,
    BrokerSpec,
    Check,
    CommandSpec,
    ConfigSection,
    MiddlewareSpec,
    SerializerSpec,
    SubscriberSpec,
)
from queuekit.urls import EngineURL

__all__ = [
    "API_VERSION",
    "BackendSpec",
    "BrokerSpec",
    "Check",
    "CommandSpec",
    "ConfigSection",
    "MiddlewareSpec",
    "SerializerSpec",
    "SubscriberSpec",
    "hookimpl",
    "hookspec",
]

PROJECT = "queuekit"
API_VERSION = (1, 1)
"""Version of hooks and contracts. A plugin needs the same major version, and a minor version not above this one."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a plugin's hook functions."""


@hookspec
def queuekit_brokers() -> Iterable[BrokerSpec]:
    """Name the brokers that this plugin provides.

    Called:
        Once per app, when its plugins are loaded: when a scheme is first looked up, never at ``import queuekit``.

    Returns:
        A spec for each broker, or ``None``. No scheme may occur twice.

    Raises:
        Exception: Only this plugin is affected. ``queuekit plugins`` lists it as failed, with the error, and using one
            of its schemes raises ``PluginError`` (QK502). A spec of the wrong type has the same effect.

    Example:
        Needs ``queuekit_example/broker.py`` with a class ``ExampleBroker``, imported when its scheme is used::

            from queuekit.broker import Capabilities, Limits
            from queuekit.hookspecs import BrokerSpec, hookimpl

            @hookimpl
            def queuekit_brokers():
                return [
                    BrokerSpec(
                        schemes=("example",),
                        factory="queuekit_example.broker:ExampleBroker",
                        capabilities=Capabilities(priority=False),
                        limits=Limits(max_batch=100),
                        summary="an example",
                    )
                ]
    """
    raise NotImplementedError


@hookspec
def queuekit_backends() -> Iterable[BackendSpec]:
    """Name the result backends that this plugin provides.

    Called:
        Once per app, when its plugins are loaded.

    Returns:
        A spec for each backend, or ``None``. A scheme shared with a broker also serves apps that only set a broker.

    Raises:
        Exception: The plugin is listed as failed, as with :func:`queuekit_brokers`.

    Example:
        Needs ``queuekit_example/backend.py`` with a class ``ExampleBackend``::

            from queuekit.backend import BackendCapabilities
            from queuekit.hookspecs import BackendSpec, hookimpl

            @hookimpl
            def queuekit_backends():
                factory = "queuekit_example.backend:ExampleBackend"
                able = BackendCapabilities(notify=False)
                return [BackendSpec(schemes=("example",), factory=factory, capabilities=able)]
    """
    raise NotImplementedError


@hookspec
def queuekit_serializers() -> Iterable[SerializerSpec]:
    """Name the serializers that this plugin provides.

    Called:
        Once per app, when its plugins are loaded.

    Returns:
        A spec for each serializer, or ``None``. The setting ``serializer`` selects one by name.

    Raises:
        Exception: The plugin is listed as failed, as with :func:`queuekit_brokers`.

    Example:
        Needs ``queuekit_example/serializer.py`` with an ``ExampleSerializer``, whose ``content_type`` is the name::

            from queuekit.hookspecs import SerializerSpec, hookimpl

            @hookimpl
            def queuekit_serializers():
                return [SerializerSpec(name="example", factory="queuekit_example.serializer:ExampleSerializer")]
    """
    raise NotImplementedError


@hookspec
def queuekit_middlewares(config: Any) -> Iterable[MiddlewareSpec]:
    """Name middlewares to add to an app.

    Called:
        Once per app, when it first sends, waits for a result or runs a worker.

    Args:
        config: The settings in effect, a ``queuekit.config.settings.Config``.

    Returns:
        A spec for each middleware, or ``None``. They come after those of the app, sorted by ``order``, then by name.

    Raises:
        Exception: It is logged, ``queuekit plugins`` lists the plugin as failed, and the app continues without it. A
            factory that fails raises ``PluginError`` instead, since the app may rely on the middleware for protection.

    Example:
        Log each run that takes longer than a second::

            import logging
            import time

            from queuekit.hookspecs import MiddlewareSpec, hookimpl
            from queuekit.middleware import Middleware

            class Slow(Middleware):
                def around_run(self, context):
                    begun = time.monotonic()
                    try:
                        yield
                    finally:
                        took = time.monotonic() - begun
                        if took > 1:
                            logging.getLogger("example").warning("%s took %.1f s", context.task, took)

            @hookimpl
            def queuekit_middlewares(config):
                return [MiddlewareSpec(name="slow", factory=Slow)]
    """
    raise NotImplementedError


@hookspec
def queuekit_commands() -> Iterable[CommandSpec]:
    """Name commands to add to the command line.

    Called:
        When ``queuekit`` is given a command that core does not have. Listing the commands in the help loads no plugin.

    Returns:
        A spec for each command, or ``None``. A plugin cannot replace a command of core.

        A command decorated with ``@click.pass_obj`` gets an object whose method ``app()`` returns the app that
        ``--app`` or the settings name, and a reference to it.

    Raises:
        Exception: It is logged, and only this plugin's commands are missing.

    Example:
        ``queuekit audit`` prints a line::

            import click

            from queuekit.hookspecs import CommandSpec, hookimpl

            @click.command()
            def audit():
                \"\"\"Say what an audit is.\"\"\"
                click.echo("Every run, with the state that it reached.")

            @hookimpl
            def queuekit_commands():
                return [CommandSpec(name="audit", help="Say what an audit is.", command=audit)]
    """
    raise NotImplementedError


@hookspec
def queuekit_config_sections() -> Iterable[ConfigSection]:
    """Name tables of the config file that this plugin owns, besides those of its engines.

    Called:
        Once per app, when its plugins are loaded.

    Returns:
        A section for each table, or ``None``. Core checks the table against the fields of the section's class, and
        stores it in ``config.sections``. A table without an owner is an error.

    Raises:
        Exception: The plugin is listed as failed, as with :func:`queuekit_brokers`.

    Example:
        Allow a table ``[audit]`` with the only key ``path``::

            import attrs

            from queuekit.hookspecs import ConfigSection, hookimpl

            @attrs.frozen(kw_only=True)
            class AuditOptions:
                path: str = "audit.log"

            @hookimpl
            def queuekit_config_sections():
                return [ConfigSection(name="audit", options=AuditOptions)]
    """
    raise NotImplementedError


@hookspec
def queuekit_checks(app: Any) -> Iterable[Check]:
    """Add checks to ``queuekit check``.

    Called:
        Once per ``queuekit check``, after broker and backend have answered.

    Args:
        app: The ``queuekit.Queuekit`` to check.

    Returns:
        A list of checks, or ``None``; the ``run`` of a check returns a line for each problem.

    Raises:
        Exception: It is logged, and the plugin is listed as failed. An error of ``run`` is reported as a problem.

    Example:
        Warn about a disk that is nearly full::

            import shutil

            from queuekit.hookspecs import Check, hookimpl

            def free_space():
                free = shutil.disk_usage(".").free
                return [] if free > 1e9 else [f"only {free / 1e6:.0f} MB are free"]

            @hookimpl
            def queuekit_checks(app):
                return [Check(name="disk", run=free_space)]
    """
    raise NotImplementedError


@hookspec
def queuekit_subscribers(config: Any) -> Iterable[Callable[[Any], None] | SubscriberSpec]:
    """Name functions to call with each event; see :mod:`queuekit.events`.

    Called:
        Once per app, when it is first used. The functions run in the thread that emits the event, so they must be
        quick and thread-safe.

    Args:
        config: The settings in effect, a ``queuekit.config.settings.Config``.

    Returns:
        The functions, or ``None``. A function in a ``SubscriberSpec`` gets only the events that the spec names, and a
        worker does not make those that nobody subscribes to.

    Raises:
        Exception: It is logged, and the plugin is listed as failed. Errors of the functions are logged.

    Example:
        Count runs by final state::

            from collections import Counter

            from queuekit.events import TaskFinished
            from queuekit.hookspecs import hookimpl

            ended = Counter()

            def count(event):
                if isinstance(event, TaskFinished):
                    ended[event.state] += 1

            @hookimpl
            def queuekit_subscribers():
                return [count]
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def queuekit_make_broker(url: EngineURL, spec: BrokerSpec, make: Callable[[], Broker]) -> Broker | None:
    """Create the broker for a URL, or wrap the default one.

    Called:
        Each time a broker is created, so once per app and process; plugins are asked in turn until one returns a
        broker, core last. It may also be a wrapper in pluggy's sense: ``@hookimpl(wrapper=True)``.

    Args:
        url: The configured URL, parsed. Its text hides the password; ``url.password`` holds it.
        spec: The spec of the plugin that serves the scheme.
        make: Creates the broker as core would; call it to wrap the result.

    Returns:
        A broker that has not connected yet, or ``None`` to leave the choice to the next plugin.

    Raises:
        Exception: The app gets a ``PluginError`` that names the plugin that serves the scheme; the URL's password is
            removed from it.

    Example:
        Count the messages received from queues in memory::

            from queuekit.hookspecs import hookimpl

            counts = []

            @hookimpl
            def queuekit_make_broker(url, spec, make):
                if url.scheme != "memory":
                    return None
                broker = make()
                receive = broker.receive

                def counted(queues, **options):
                    deliveries = receive(queues, **options)
                    counts.append(len(deliveries))
                    return deliveries

                broker.receive = counted
                return broker
    """


@hookspec(firstresult=True)
def queuekit_make_backend(url: EngineURL, spec: BackendSpec, make: Callable[[], Backend]) -> Backend | None:
    """Create the result backend for a URL, or wrap the default one.

    Called:
        Each time a backend is created; like :func:`queuekit_make_broker`.

    Args:
        url: The configured URL, parsed.
        spec: The spec of the plugin that serves the scheme.
        make: Creates the backend as core would.

    Returns:
        A backend that has not connected yet, or ``None`` to leave the choice to the next plugin.

    Raises:
        Exception: The app gets a ``PluginError``, as with :func:`queuekit_make_broker`.

    Example:
        Record the URLs of the backends, and let core create them::

            from queuekit.hookspecs import hookimpl

            seen = []

            @hookimpl
            def queuekit_make_backend(url, spec, make):
                seen.append(str(url))
                return None
    """
