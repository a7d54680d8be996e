"""The plugin: subscribes to events where metrics are wanted, serves them from a worker, and adds a command."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from queuekit.hookspecs import CommandSpec, ConfigSection, SubscriberSpec, hookimpl
from queuekit_prometheus.options import PrometheusOptions, options_of

queuekit_api = (1, 1)

_tasks: set[str] = set()
"""Names of all tasks that this process knows."""
_open: dict[int, Any] = {}
"""What serves the metrics of a supervisor or of one of its processes, by id of its app."""


@hookimpl
def queuekit_config_sections() -> Iterable[ConfigSection]:
    """Own the table ``[prometheus]``."""
    return [ConfigSection(name="prometheus", options=PrometheusOptions)]


@hookimpl
def queuekit_task_registered(task: Any) -> None:
    """Learn the name of a task, which is a label; what messages name is not."""
    _tasks.add(task.name)


@hookimpl
def queuekit_subscribers(config: Any) -> Iterable[SubscriberSpec]:
    """Count events, if anybody may ask for the metrics."""
    options = options_of(config)
    if options.port is None and not options.register:
        return []
    from queuekit_prometheus.tally import TALLY

    TALLY.known = _tasks
    if options.register:
        from queuekit_prometheus.registry import register_once

        register_once()
    return [SubscriberSpec(subscriber=TALLY, events=tuple(TALLY.listeners))]


@hookimpl
def queuekit_worker_boot(worker: Any) -> None:
    """Serve the metrics of all processes from the supervisor."""
    options = options_of(worker.app.config)
    if options.port is not None:
        from queuekit_prometheus.serving import Serving

        _open[id(worker.app)] = Serving(port=options.port, host=options.host)


@hookimpl
def queuekit_worker_child_init(worker: Any) -> None:
    """Let the supervisor ask this process."""
    from queuekit_prometheus.processes import FOLDER

    folder = os.environ.get(FOLDER, "")
    if folder and os.path.isdir(folder):  # noqa: PTH112 - the import of pathlib is not worth it
        from queuekit_prometheus.processes import Reporter
        from queuekit_prometheus.tally import TALLY

        TALLY.load = worker.load
        _open[id(worker.app)] = Reporter(folder, TALLY)


@hookimpl
def queuekit_worker_stopped(worker: Any) -> None:
    """Write down the last numbers of this process."""
    _close(worker.app)


@hookimpl
def queuekit_app_closing(app: Any) -> None:
    """Stop serving when the supervisor ends; a process that it started ends a moment later."""
    found = _open.get(id(app))
    if found is None:
        return  # as in every command but the worker; what serves takes 0.1 s to import
    from queuekit_prometheus.serving import Serving

    if isinstance(found, Serving):
        _close(app)


@hookimpl
def queuekit_commands() -> Iterable[CommandSpec]:
    """Add ``queuekit metrics``."""
    text = "Serve metrics of queues and limits for Prometheus."
    return [CommandSpec(name="metrics", help=text, command="queuekit_prometheus.command:command")]


def _close(app: Any) -> None:
    found = _open.pop(id(app), None)
    if found is not None:
        found.close()
