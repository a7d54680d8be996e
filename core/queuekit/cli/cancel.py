"""``queuekit cancel``."""

from __future__ import annotations

import click

from queuekit.cli.options import common_options, engine_options, pass_session
from queuekit.cli.session import Session

__all__ = ["command"]


@click.command()
@click.argument("id", metavar="ID")
@engine_options
@common_options
@pass_session
def command(session: Session, *, id: str) -> int:
    """Cancel the message ID: waiting it never runs, running its task is told.

    Exit code 1 if it had ended already.
    """
    if session.admin().cancel(id):
        session.say(f"cancelled  {id}")
        return 0
    click.echo(f"{id} has ended already. See:  queuekit show {id}", err=True)
    return 1
