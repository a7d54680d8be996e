"""What a plugin may hear of in the life of an app and of a worker: one documented function per hook.

They are marked and declared as those of :mod:`queuekit.hookspecs`, and return nothing.
"""

from __future__ import annotations

from typing import Any

from queuekit.hookspecs import hookspec

__all__: list[str] = []


@hookspec(historic=True)
def queuekit_configure(app: Any, config: Any) -> None:
    """Hear of an app whose settings are final.

    Called:
        Once for each app, when its plugins are loaded, before any engine is made. A plugin that is registered by hand
        later is told of it then.

    Args:
        app: The ``queuekit.Queuekit``.
        config: Its settings, a ``queuekit.config.settings.Config``; plugins' tables are in ``config.sections``.

    Raises:
        Exception: The app cannot be used: errors of queuekit's pass, others become a ``PluginError``.

    Example:
        It refuses an app that keeps its results for less than an hour::

            from queuekit.errors import ConfigError
            from queuekit.hookspecs import hookimpl

            @hookimpl
            def queuekit_configure(app, config):
                if config.results_expire < 3600:
                    raise ConfigError("results must be kept for an hour at least", fix='Set results_expire = "1h"')
    """


@hookspec(historic=True)
def queuekit_task_registered(app: Any, task: Any) -> None:
    """Hear of a task.

    Called:
        For each task of an app: for those that are there when plugins are loaded then, for each other one when it is
        declared. A plugin that is registered by hand later is told of all.

    Args:
        app: The ``queuekit.Queuekit``.
        task: The ``queuekit.Task``, with its ``name`` and its ``defaults``.

    Raises:
        Exception: It is logged.

    Example:
        It keeps the names of tasks that may run for ever::

            from queuekit.hookspecs import hookimpl

            endless = []

            @hookimpl
            def queuekit_task_registered(app, task):
                if task.defaults.timeout is None:
                    endless.append(task.name)
    """


@hookspec
def queuekit_worker_boot(worker: Any) -> None:
    """Run in the parent of the worker processes, before there is any.

    Called:
        Once per ``queuekit worker``. Open no connection here: worker processes are programs of their own, which inherit
        the environment alone.

    Args:
        worker: The supervisor, with its ``app`` and its ``banner()``.

    Raises:
        Exception: The worker does not start: errors of queuekit's pass, others become a ``PluginError``.

    Example:
        It refuses to start where a variable is missing::

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
    """Run in each worker process before it takes messages: open connections here.

    Called:
        Once in each worker process, also in one that takes the place of a dead one.

    Args:
        worker: The ``queuekit.worker.Worker`` of this process, with its ``app`` and its ``name``.

    Raises:
        Exception: The process ends, and is started again as after a crash; after several in a row the worker gives up.

    Example:
        It opens a database that the tasks of this process share::

            import sqlite3

            from queuekit.hookspecs import hookimpl

            shared = {}

            @hookimpl
            def queuekit_worker_child_init(worker):
                shared["db"] = sqlite3.connect(":memory:", check_same_thread=False)
    """


@hookspec
def queuekit_worker_ready(worker: Any) -> None:
    """Hear that a worker process takes messages.

    Called:
        Once in each worker process.

    Args:
        worker: The ``queuekit.worker.Worker`` of this process.

    Raises:
        Exception: It is logged.

    Example:
        It writes a file that a health check can look for::

            from pathlib import Path

            from queuekit.hookspecs import hookimpl

            @hookimpl
            def queuekit_worker_ready(worker):
                Path("worker.ready").write_text(worker.name, encoding="utf-8")
    """


@hookspec
def queuekit_worker_stopping(worker: Any, reason: str) -> None:
    """Hear that a worker process begins to stop.

    Called:
        Once in each worker process that ends in an orderly way, before running tasks are waited for.

    Args:
        worker: The ``queuekit.worker.Worker`` of this process.
        reason: Why, in words, such as ``"queues are empty"``.

    Raises:
        Exception: It is logged.

    Example:
        It takes away the file of a health check::

            from pathlib import Path

            from queuekit.hookspecs import hookimpl

            @hookimpl
            def queuekit_worker_stopping(worker, reason):
                Path("worker.ready").unlink(missing_ok=True)
    """


@hookspec
def queuekit_worker_stopped(worker: Any, stats: dict[str, int]) -> None:
    """Hear that a worker process has stopped: all that it had is settled or handed back.

    Called:
        Once in each worker process that ends in an orderly way.

    Args:
        worker: The ``queuekit.worker.Worker`` of this process; it takes nothing any more.
        stats: How many deliveries ended how, such as ``{"done": 3}``.

    Raises:
        Exception: It is logged.

    Example:
        It adds up what the processes have done::

            from collections import Counter

            from queuekit.hookspecs import hookimpl

            total = Counter()

            @hookimpl
            def queuekit_worker_stopped(worker, stats):
                total.update(stats)
    """


@hookspec
def queuekit_app_closing(app: Any) -> None:
    """Hear that an app closes: flush and close what the plugin has opened for it.

    Called:
        Each time that ``app.close()`` closes connections, before it does; not if the app was never used. An app may
        be used again after it.

    Args:
        app: The ``queuekit.Queuekit``.

    Raises:
        Exception: It is logged, and the app closes all the same.

    Example:
        It tells that the app has ended::

            import logging

            from queuekit.hookspecs import hookimpl

            @hookimpl
            def queuekit_app_closing(app):
                logging.getLogger("example").warning("closed after %d tasks were declared", len(app.tasks))
    """
