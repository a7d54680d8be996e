"""``queuekit show``."""

from __future__ import annotations

import shlex

import click

from queuekit.broker import Place
from queuekit.cli.message_view import as_document, as_text
from queuekit.cli.options import common_options, engine_options, json_option, pass_session
from queuekit.cli.output import print_json
from queuekit.cli.session import Session
from queuekit.operations.admin import Admin

__all__ = ["command"]


@click.command()
@click.argument("id", metavar="ID")
@json_option
@engine_options
@common_options
@pass_session
def command(session: Session, *, id: str, as_json: bool) -> None:
    """Show everything known about the message ID: state, place, times, arguments, result, error, traceback."""
    app = session.shared_app()
    view = Admin(app).show(id)
    if as_json:
        print_json(as_document(view, app.runtime.accepted))
        return
    click.echo(as_text(view, app.runtime.accepted, now=app.clock.time()))
    if view.queued is not None and view.queued.stored.place is Place.DEAD:
        session.say(f"next  {session.command(f'dlq retry {shlex.quote(id)}')}")
