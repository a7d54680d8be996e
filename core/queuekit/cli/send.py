"""``queuekit send``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from queuekit.app import Queuekit
from queuekit.cli.arguments import CallCommand, parse_value, typed_call, unchecked_option
from queuekit.cli.options import common_options, duration_option, engine_options, json_option, pass_session
from queuekit.cli.output import as_json as to_json
from queuekit.cli.output import echo, print_json
from queuekit.cli.session import Session, need_shared
from queuekit.errors import NoBackendError, ResultTimeout, TaskFailed, did_you_mean
from queuekit.operations.admin import Admin
from queuekit.result import Result

__all__ = ["command"]

PATIENCE = 2.0
"""Seconds to wait before a reminder that no worker serves the queue."""


@click.command(cls=CallCommand)
@click.argument("task")
@click.argument("arguments", metavar="[ARGS]... [NAME=VALUE]...", nargs=-1)
@duration_option("--delay", help="Wait this long before the task may start, e.g. 10m.")
@click.option("--queue", metavar="NAME", help="Queue to use instead of the task's own.")
@click.option("--priority", type=click.IntRange(0, 9), help="9 runs first.")
@click.option("--lane", "fair_by", metavar="KEY", help="Lane in which it takes turns with others, e.g. a tenant.")
@click.option("--id", "id", metavar="ID", help="Id of the message. Sending the same id twice queues it once.")
@click.option(
    "--broker-option",
    "service",
    metavar="NAME=VALUE",
    multiple=True,
    help="Set an option of the broker's service, e.g. group=eu. Repeatable.",
)
@click.option("--wait", is_flag=True, help="Wait for the result and print it instead of the id.")
@duration_option("--timeout", help="How long --wait waits. Without it, as long as it takes.")
@unchecked_option
@json_option
@engine_options
@common_options
@pass_session
def command(
    session: Session,
    /,
    *,
    task: str,
    arguments: tuple[str, ...],
    wait: bool,
    timeout: float | None,
    service: tuple[str, ...],
    unchecked: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Put one call of TASK on its queue and print the message's id.

    TASK may be the last part of a task's name, if that is unique. Values are read as the task's annotations say: 1 is
    text for a str, 2026-11-30 is a date for a date. Without annotations they are JSON if possible, otherwise text: 1 is
    a number, 'abc' and '"1"' are text.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait")
    app, _ = session.app()
    need_shared(app)
    chosen = app.tasks.find(task)
    if wait:
        _need_result(app, chosen.name, ignored=chosen.defaults.ignore_result)
    if service:
        options["broker"] = _service_options(service)
    args, kwargs = typed_call(chosen, arguments, usage=f"queuekit send {task}", unchecked=unchecked)
    result: Result[Any] = chosen.options(**options).send(*args, **kwargs)
    if result.duplicate:
        taken = f"{result.id} waits, and runs with these arguments instead of its own"
        session.say(taken if result.merged else f"not sent: {result.id} holds its unique key")
    queue = options["queue"] or chosen.defaults.queue or app.config.default_queue
    if not wait:
        if not result.duplicate:
            _say_who_serves(session, app, queue)
        _print(result.id, {"id": result.id, "task": chosen.name, "duplicate": result.duplicate}, as_json=as_json)
        return
    value = _wait(session, result, timeout, remind=lambda: _say_who_serves(session, app, queue))
    _print(_shown(value), {"id": result.id, "task": chosen.name, "state": "SUCCESS", "result": value}, as_json=as_json)


def _service_options(texts: tuple[str, ...]) -> dict[str, Any]:
    """Return options of the broker's service that are written ``NAME=VALUE``."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"expected NAME=VALUE, got {text!r}", param_hint="--broker-option")
        found[name] = parse_value(value)
    return found


def _say_who_serves(session: Session, app: Queuekit, queue: str) -> None:
    """Print a hint if no worker serves *queue*."""
    admin = Admin(app)
    if admin.unserved([queue]):
        near = did_you_mean(queue, {*admin.declared_queues(), *app.config.worker.queues} - {queue})
        session.say(f"no worker serves {queue!r}{f', {near}' if near else ''}")
        session.say(f"next  {session.worker_command([queue])}")


def _need_result(app: Queuekit, name: str, *, ignored: bool) -> None:
    """Refuse to wait for a result that will never exist, before anything is sent."""
    app.runtime.need_backend("--wait")
    if ignored:
        raise NoBackendError(
            f"--wait needs a result, and {name} is registered with ignore_result=True",
            fix="Send it without --wait, or remove ignore_result from the task",
        )


def _wait(session: Session, result: Result[Any], timeout: float | None, *, remind: Callable[[], None]) -> Any:
    """Return the result."""
    try:
        return _get(result, timeout, remind)
    except (TaskFailed, ResultTimeout) as error:
        if isinstance(error, ResultTimeout):
            error.what = f"{result.id} has no result after {timeout:g} s; the task continues"
        error.fix = error.fix or f"See:  queuekit show {result.id}"
        raise
    except KeyboardInterrupt:
        session.say(f"\nStopped waiting; the task continues. See:  queuekit show {result.id}")
        raise


def _get(result: Result[Any], timeout: float | None, remind: Callable[[], None]) -> Any:
    """Wait briefly, since a worker may just be starting; then print a reminder on a terminal and wait on."""
    first = PATIENCE if timeout is None else min(PATIENCE, timeout)
    try:
        return result.get(timeout=first)
    except ResultTimeout:
        rest = None if timeout is None else timeout - first
        if rest is not None and rest <= 0:
            raise
    if sys.stderr.isatty():
        remind()
    return result.get(timeout=rest)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)


def _print(text: str, document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        echo(text)
