"""What a plugin may provide: one documented function per hook.

A plugin is a thin module named by one entry point in the group ``queuekit``. It declares ``queuekit_api = (1, 1)``
and defines some of these functions, and of those in :mod:`queuekit.lifecycle`, marked with :data:`hookimpl`. It imports
no client library: a spec names its factory as text, and core imports that when the scheme is used. All hooks are
synchronous. None of them stands on the way of a message.
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
    "hookimpl",
    "hookspec",
]

PROJECT = "queuekit"
API_VERSION = (1, 1)
"""Version of hooks and contracts. A plugin's major must be equal, its minor not greater."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a plugin's hook functions."""


@hookspec
def queuekit_brokers() -> Iterable[BrokerSpec]:
    """Name the brokers that this plugin provides.

    Called:
        Once for each app, when its plugins are loaded: at the first look for a scheme, never at ``import queuekit``.

    Returns:
        A spec for each broker, or ``None``. Their schemes must be free of doubles.

    Raises:
        Exception: Nobody but this plugin is harmed. ``queuekit plugins`` lists it as failed, with the error, and
            whoever asks for one of its schemes gets a ``PluginError`` (QK502). So does a spec of another type.

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
        Once for each app, when its plugins are loaded.

    Returns:
        A spec for each backend, or ``None``. A scheme that is a broker's, too, serves an app that sets a broker only.

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
        Once for each app, when its plugins are loaded.

    Returns:
        A spec for each serializer, or ``None``. The name is the value of the setting ``serializer``.

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
        Once for each app, when it is first used to send, to wait or to work.

    Args:
        config: The settings in force, a ``queuekit.config.settings.Config``: this may depend on them.

    Returns:
        A spec for each middleware, or ``None``. They stand behind those of the app, by ``order``, then by name.

    Raises:
        Exception: It is logged, ``queuekit plugins`` lists the plugin as failed, and the app goes on without. A
            middleware that cannot be made, however, is a ``PluginError``: it may be what guards the app.

    Example:
        It logs each run that takes longer than a second::

            import logging
            import threading
            import time

            from queuekit.hookspecs import MiddlewareSpec, hookimpl
            from queuekit.middleware import Middleware

            class Slow(Middleware):
                begun = threading.local()

                def before_run(self, context):
                    self.begun.at = time.monotonic()

                def after_run(self, context, state, error):
                    took = time.monotonic() - self.begun.at
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
        When ``queuekit`` is told a command that is not core's. The list of commands in the help loads no plugin.

    Returns:
        A spec for each command, or ``None``. A name of core's stays core's.

    Raises:
        Exception: It is logged, and the plugin's commands are missing; what others bring is there.

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
    """Name tables of the config file that this plugin owns, beside those of its engines.

    Called:
        Once for each app, when its plugins are loaded.

    Returns:
        A section for each table, or ``None``. What stands in a table of nobody is an error that users are told of;
        what stands in one of these is checked against the fields of its class, and found in ``config.sections``.

    Raises:
        Exception: The plugin is listed as failed, as with :func:`queuekit_brokers`.

    Example:
        Lets a config have ``[audit]`` with the key ``path``, and nothing else in it::

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
    """Name what ``queuekit check`` should look at, beside what core looks at.

    Called:
        Once per ``queuekit check``, when broker and backend have answered.

    Args:
        app: The ``queuekit.Queuekit`` that is looked at.

    Returns:
        A check for each thing to look at, or ``None``; its ``run`` returns a line for each problem.

    Raises:
        Exception: It is logged, and the plugin is listed as failed. What ``run`` raises is told as a problem.

    Example:
        It complains of a disk that is nearly full::

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
def queuekit_subscribers() -> Iterable[Callable[[Any], None]]:
    """Name functions to call with each event, see :mod:`queuekit.events`.

    Called:
        Once for each app, when it is first used. The functions are called in the thread where something happens, so
        they must be quick, and from several threads.

    Returns:
        The functions, or ``None``.

    Raises:
        Exception: It is logged, and the plugin is listed as failed. What a function raises is logged.

    Example:
        It counts how runs have ended::

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
    """Make the broker for a URL, or wrap the one that is made.

    Called:
        Each time that a broker is made, so once per app and process; plugins in turn until one returns a broker, core's
        own last. It may also be a wrapper in the sense of pluggy: ``@hookimpl(wrapper=True)``.

    Args:
        url: What was configured, parsed. It shows itself without the password; ``url.password`` has it.
        spec: What the plugin that serves the scheme has said.
        make: Makes the broker as core would; call it to wrap that.

    Returns:
        A broker, which opens nothing yet, or ``None`` to leave it to the next.

    Raises:
        Exception: The app gets a ``PluginError`` that names the plugin which serves the scheme; the URL's password is
            taken out of it.

    Example:
        It counts what comes out of queues in memory::

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
    """Make the result backend for a URL, or wrap the one that is made.

    Called:
        Each time that a backend is made; as :func:`queuekit_make_broker`.

    Args:
        url: What was configured, parsed.
        spec: What the plugin that serves the scheme has said.
        make: Makes the backend as core would.

    Returns:
        A backend, which opens nothing yet, or ``None`` to leave it to the next.

    Raises:
        Exception: The app gets a ``PluginError``, as with :func:`queuekit_make_broker`.

    Example:
        It keeps what the backends are, and leaves their making to core::

            from queuekit.hookspecs import hookimpl

            seen = []

            @hookimpl
            def queuekit_make_backend(url, spec, make):
                seen.append(str(url))
                return None
    """
