"""``queuekit limits``."""

from __future__ import annotations

import attrs
import click

from queuekit.cli.options import as_option, common_options, engine_options, json_option, pass_session
from queuekit.cli.output import age, columns, moment, print_json
from queuekit.cli.session import Session
from queuekit.limits import LimitView
from queuekit.operations.limits import free_limit, list_limits, set_limit, unset_limit

__all__ = ["command"]

HEADER = ("NAME", "KEY", "LIMIT", "BURST", "SET BY", "HELD", "WAITING", "NEXT START")


@click.group(invoke_without_command=True)
@json_option
@engine_options
@common_options
@click.pass_context
def command(context: click.Context, *, as_json: bool) -> None:
    """List or change the limits of tasks."""
    if context.invoked_subcommand is None:
        _list(context.ensure_object(Session), as_json=as_json)


@command.command("ls")
@json_option
@engine_options
@common_options
@pass_session
def ls(session: Session, *, as_json: bool) -> None:
    """List the limits, who holds slots, and the keys that have to wait."""
    _list(session, as_json=as_json)


@command.command("set", short_help="Set the numbers of a limit for all workers.")
@click.argument("name")
@click.argument("limit", metavar="LIMIT")
@click.option("--burst", type=click.IntRange(1), help="Starts that may follow at once after a quiet time.")
@as_option
@engine_options
@common_options
@pass_session
def set_(session: Session, *, name: str, limit: str, burst: int | None, by: str | None) -> None:
    """Set the numbers of a limit for all workers, e.g. 50/m, or 3 for runs at the same time.

    "code" restores the numbers in the code.

    Messages that wait for their turn keep it; the numbers apply to those that come after.
    """
    app = session.shared_app()
    if limit == "code":
        unset_limit(app, name, by=by)
        session.say(f"{name} has the numbers in the code again.")
    else:
        set_limit(app, name, limit, burst=burst, by=by)
        session.say(f"{name} is limited to {limit} from the next batch of each worker on.")


@command.command("free")
@click.argument("name")
@click.argument("key", default="")
@as_option
@engine_options
@common_options
@pass_session
def free(session: Session, *, name: str, key: str, by: str | None) -> int:
    """Let the next message of a KEY start at once.

    Messages that have a turn keep it.
    """
    freed = free_limit(session.shared_app(), name, key, by=by)
    session.say("The next message starts at once." if freed else "Nothing had to wait.")
    return 0 if freed else 1


def _list(session: Session, *, as_json: bool) -> None:
    app = session.shared_app()
    views, now = list_limits(app), app.runtime.now()
    if as_json:
        print_json([_document(view) for view in views])
        return
    click.echo(columns(HEADER, [_row(view, now) for view in views], right=("BURST", "HELD", "WAITING")))
    if not views:
        session.say("No task has limits.")


def _row(view: LimitView, now: float) -> list[str]:
    start = max(view.next_start or 0.0, view.until or 0.0)
    coming = f"in {age(start - now)}" if start > now else "at once"
    slowed = " (slowed down)" if (view.until or 0.0) > now else ""
    numbers = [str(view.burst), view.set_by or "-", str(len(view.holders)), str(view.waiting)]
    if view.waiting:
        coming = "when a slot is free"
    return [view.name, view.key or "-", view.limit or "-", *numbers, coming + slowed]


def _document(view: LimitView) -> dict[str, object]:
    return {**attrs.asdict(view), "next_start": moment(view.next_start), "until": moment(view.until)}
