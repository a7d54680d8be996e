"""Hooks for the life cycle of an app and a worker, one documented function each.

Plugins mark them like those of :mod:`queuekit.hookspecs`. They return nothing.
"""

from __future__ import annotations

from typing import Any

from queuekit.hookspecs import hookspec

__all__: list[str] = []


@hookspec(historic=True)
def queuekit_configure(app: Any, config: Any) -> None:
    """Act on an app whose settings are final.

    Called:
        Once per app, when its plugins are loaded, before any engine is created. For a plugin that is registered by hand
        later, at its registration.

    Args:
        app: The ``queuekit.Queuekit``.
        config: Its settings, a ``queuekit.config.settings.Config``; plugins' tables are in ``config.sections``.

    Raises:
        Exception: The app cannot be used: queuekit's errors pass unchanged, others become a ``PluginError``.

    Example:
        Reject an app that keeps its results for less than an hour::

            from queuekit.errors import ConfigError
            from queuekit.hookspecs import hookimpl

            @hookimpl
            def queuekit_configure(app, config):
                if config.results_expire < 3600:
                    raise ConfigError("results must be kept for at least an hour", fix='Set results_expire = "1h"')
    """


@hookspec(historic=True)
def queuekit_task_registered(app: Any, task: Any) -> None:
    """Act on a newly registered task.

    Called:
        Once per task of an app: when plugins are loaded for tasks declared before, at the declaration for later tasks.
        For a plugin that is registered by hand later, for all tasks at its registration.

    Args:
        app: The ``queuekit.Queuekit``.
        task: The ``queuekit.Task``, with its ``name`` and its ``defaults``.

    Raises:
        Exception: It is logged.

    Example:
        Collect the names of tasks without a time limit::

            from queuekit.hookspecs import hookimpl

            endless = []

            @hookimpl
            def queuekit_task_registered(app, task):
                if task.defaults.timeout is None:
                    endless.append(task.name)
    """


@hookspec
def queuekit_worker_boot(worker: Any) -> None:
    """Run in the supervisor, before it starts worker processes.

    Called:
        Once per ``queuekit worker``. Do not open connections here: worker processes are separate programs that inherit
        only the environment.

    Args:
        worker: The supervisor, with its ``app`` and its ``banner()``.

    Raises:
        Exception: The worker does not start: queuekit's errors pass unchanged, others become a ``PluginError``.

    Example:
        Refuse to start without a required variable::

            import os

            from queuekit.errors import ConfigError
            from queuekit.hookspecs import hookimpl

            @hookimpl
            def queuekit_worker_boot(worker):
                if "SHOP_REGION" not in os.environ:
                    raise ConfigError("the environment has no SHOP_REGION", fix="Set it:  export SHOP_REGION=eu")
    """


@hookspec
def queuekit_worker_child_init(worker: Any) -> None:
    """Run in each worker process before it takes messages; open connections here.

    Called:
        Once in each worker process, including replacements of dead ones.

    Args:
        worker: The ``queuekit.worker.Worker`` of this process, with its ``app`` and its ``name``.

    Raises:
        Exception: The process ends and is restarted, as after a crash; after several in a row the worker gives up.

    Example:
        Open a database that the tasks of this process share::

            import sqlite3

            from queuekit.hookspecs import hookimpl

            shared = {}

            @hookimpl
            def queuekit_worker_child_init(worker):
                shared["db"] = sqlite3.connect(":memory:", check_same_thread=False)
    """


@hookspec
def queuekit_worker_ready(worker: Any) -> None:
    """Act when a worker process starts to take messages.

    Called:
        Once in each worker process.

    Args:
        worker: The ``queuekit.worker.Worker`` of this process.

    Raises:
        Exception: It is logged.

    Example:
        Write a file for a health check::

            from pathlib import Path

            from queuekit.hookspecs import hookimpl

            @hookimpl
            def queuekit_worker_ready(worker):
                Path("worker.ready").write_text(worker.name, encoding="utf-8")
    """


@hookspec
def queuekit_worker_stopping(worker: Any, reason: str) -> None:
    """Act when a worker process begins to stop.

    Called:
        Once in each worker process that stops gracefully, before it waits for running tasks.

    Args:
        worker: The ``queuekit.worker.Worker`` of this process.
        reason: Why, in words, such as ``"queues are empty"``.

    Raises:
        Exception: It is logged.

    Example:
        Remove the file of a health check::

            from pathlib import Path

            from queuekit.hookspecs import hookimpl

            @hookimpl
            def queuekit_worker_stopping(worker, reason):
                Path("worker.ready").unlink(missing_ok=True)
    """


@hookspec
def queuekit_worker_stopped(worker: Any, stats: dict[str, int]) -> None:
    """Act when a worker process has stopped, with all its messages settled or released.

    Called:
        Once in each worker process that stops gracefully.

    Args:
        worker: The ``queuekit.worker.Worker`` of this process; it no longer takes messages.
        stats: Number of deliveries per outcome, such as ``{"done": 3}``.

    Raises:
        Exception: It is logged.

    Example:
        Sum up the outcomes of the processes::

            from collections import Counter

            from queuekit.hookspecs import hookimpl

            total = Counter()

            @hookimpl
            def queuekit_worker_stopped(worker, stats):
                total.update(stats)
    """


@hookspec
def queuekit_app_closing(app: Any) -> None:
    """Flush and close the resources that the plugin has opened for an app.

    Called:
        Each time ``app.close()`` is about to close connections; not if the app was never used. The app may be used
        again afterwards.

    Args:
        app: The ``queuekit.Queuekit``.

    Raises:
        Exception: It is logged, and the app closes anyway.

    Example:
        Log that the app has closed::

            import logging

            from queuekit.hookspecs import hookimpl

            @hookimpl
            def queuekit_app_closing(app):
                logging.getLogger("example").warning("closed after %d tasks were declared", len(app.tasks))
    """
