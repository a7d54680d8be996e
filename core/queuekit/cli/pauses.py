"""``queuekit pauses``, and what ``pause`` and ``resume`` have in common."""

from __future__ import annotations

from typing import Any, NamedTuple

import click

from queuekit.cli.options import as_option, common_options, engine_options, json_option, pass_session
from queuekit.cli.output import age, columns, moment, one_line, print_json, when
from queuekit.cli.session import Session
from queuekit.operations.admin import Admin
from queuekit.operations.pauses import Obedience, resume_command
from queuekit.wire.pauses import Pause
from queuekit.wire.presence import Presence

__all__ = ["NOT_YET", "Target", "command", "line_of", "of_workers", "target_arguments"]

HEADER = ("PAUSED", "BY", "SINCE", "UNTIL", "WHY")
NOT_YET = 6
"""Exit code if not all workers have obeyed yet."""
_NAMED = 3
"""Most workers to name."""


@click.command()
@json_option
@engine_options
@common_options
@pass_session
def command(session: Session, *, as_json: bool) -> None:
    """List what is paused: by whom, since when, until when, and why."""
    admin = session.admin()
    admin.need_backend("a pause")
    found = admin.pauses()
    if as_json:
        print_json([document_of(pause, admin.now()) for pause in found])
        return
    if not found:
        session.say("Nothing is paused.")
        return
    click.echo(columns(HEADER, [_row(pause, admin.now()) for pause in found]))
    session.say(f"next  {session.command(resume_command(found[0]))}")


def _row(pause: Pause, now: float) -> list[str]:
    until = "resumed" if pause.left is None else f"in {age(pause.left)}"
    what = pause.what.removeprefix("the ")
    return [one_line(what, width=80), pause.by, f"{age(now - pause.at)} ago", until, one_line(pause.why, width=80)]


def document_of(pause: Pause, now: float) -> dict[str, Any]:
    """Return a pause for JSON documents."""
    return {
        "queue": pause.queue or None,
        "task": pause.task or None,
        "where": dict(pause.where),
        "by": pause.by,
        "at": moment(pause.at),
        "until": None if pause.left is None else moment(now + pause.left),
        "why": pause.why or None,
    }


def line_of(pause: Pause, now: float) -> str:
    """Return a pause in a line."""
    until = "" if pause.left is None else f", until {when(now + pause.left, now=now)}"
    why = f": {one_line(pause.why)}" if pause.why else ""
    return f"{one_line(pause.what)} is paused by {pause.by}, {age(now - pause.at)} ago{until}{why}"


class Target(NamedTuple):
    """What a command line names."""

    queue: str
    task: str
    where: tuple[tuple[str, str], ...]


def _pairs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for value in values:
        name, equals, wanted = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE", ctx=context, param=parameter)
        found.append((name, wanted))
    return tuple(found)


def target_arguments(action: Any) -> Any:
    """Add the arguments and options that name what is paused, and by whom."""
    for option in reversed(
        (
            click.argument("queue", metavar="[QUEUE]", required=False),
            click.option("--task", metavar="NAME", help="A task instead of a queue; * and ? stand for any characters."),
            click.option(
                "--where",
                metavar="KEY=VALUE",
                multiple=True,
                callback=_pairs,
                help="Only messages with this argument or header. Repeatable: all must match.",
            ),
            as_option,
            engine_options,
            common_options,
            pass_session,
        )
    ):
        action = option(action)
    return action


def target_of(
    session: Session, admin: Admin, *, queue: str | None, task: str | None, where: tuple[tuple[str, str], ...]
) -> Target:
    """Return what the command line names; a task may be named by the end of its name.

    Raises:
        UsageError: It names nothing, or both a queue and a task, or ``--where`` without a task.
        UnknownTaskError: The app does not have the task.
    """
    if (queue is None) == (task is None):
        raise click.UsageError("name a queue, or a task with --task; what is paused:  queuekit pauses")
    if where and task is None:
        raise click.UsageError("--where selects messages of a task: add --task")
    return Target(queue or "", "" if task is None else _full_name(session, admin, task), where)


def _full_name(session: Session, admin: Admin, task: str) -> str:
    """Return the name of the task whose name ends in *task*; a pattern and the name of a paused task as they are."""
    if any(sign in task for sign in "*?["):
        return task
    tasks = session.opened[-1].tasks
    paused = [pause.task for pause in admin.pauses()]
    return tasks.find(task).name if tasks and task not in paused else task


def of_workers(found: Obedience | None) -> str:
    """Return in words which workers have obeyed."""
    if found is None:
        return "workers obey within 2 seconds; the backend cannot list them, so who has obeyed is not known"
    total = len(found.obeyed) + len(found.others)
    if not total:
        return "it affects no running worker; workers that start later obey"
    if not found.others:
        return f"obeyed by {'the one worker' if total == 1 else f'all {total} workers'} that it affects"
    more = len(found.others) - _NAMED
    names = ", ".join(map(_last_seen, found.others[:_NAMED])) + (f" and {more} more" if more > 0 else "")
    return f"obeyed by {len(found.obeyed)} of {total} workers; not yet by {names}"


def _last_seen(worker: Presence) -> str:
    seen = f"last seen {age(worker.quiet)} ago" if worker.live else f"silent for {age(worker.quiet)}"
    return f"{worker.name} ({seen})"
