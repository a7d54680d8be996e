"""``queuekit actions``."""

from __future__ import annotations

from typing import Any

import click

from queuekit.cli.options import common_options, engine_options, json_option, pass_session
from queuekit.cli.output import age, columns, moment, one_line, print_json
from queuekit.cli.session import Session
from queuekit.operations.actions import Action

__all__ = ["command"]

HEADER = ("DONE", "BY", "ACTION", "ON", "MESSAGES", "WHY")
SHOWN = 50


@click.command()
@click.option("--limit", type=click.IntRange(1), default=SHOWN, show_default=True, help="Print at most this many.")
@json_option
@engine_options
@common_options
@pass_session
def command(session: Session, *, limit: int, as_json: bool) -> None:
    """List what operators changed in the last 30 days, and who did it, newest first."""
    admin = session.admin()
    found = admin.actions()[:limit]
    if as_json:
        print_json([_document(action) for action in found])
        return
    if not found:
        session.say("No actions.")
        return
    now = admin.now()
    click.echo(columns(HEADER, [_row(action, now) for action in found], right=("DONE", "MESSAGES")))


def _row(action: Action, now: float) -> list[str]:
    on = action.on or ",".join(action.ids[:1])
    done = f"{age(now - action.at)} ago"
    return [done, action.by, action.what, one_line(on, width=80), str(action.count), one_line(action.why, width=80)]


def _document(action: Action) -> dict[str, Any]:
    return {
        "action": action.what,
        "by": action.by,
        "at": moment(action.at),
        "on": action.on or None,
        "count": action.count,
        "ids": list(action.ids),
        "why": action.why or None,
    }
