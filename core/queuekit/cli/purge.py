"""``queuekit purge``."""

from __future__ import annotations

import sys

import click

from queuekit.broker import Place
from queuekit.cli.options import as_option, common_options, engine_options, pass_session
from queuekit.cli.session import Session

__all__ = ["command", "confirm"]


def confirm(question: str, *, yes: bool) -> bool:
    """Return whether the user confirms an action that cannot be undone.

    Raises:
        UsageError: Standard input is not a terminal, and ``--yes`` was not given.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise click.UsageError("this cannot be undone, and there is no terminal for a confirmation: add --yes")
    return click.confirm(question, err=True)


@click.command()
@click.argument("queue")
@click.option(
    "--place",
    type=click.Choice([Place.READY.value, Place.DELAYED.value, Place.DEAD.value]),
    default=Place.READY.value,
    show_default=True,
    help="Which messages to delete.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@as_option
@engine_options
@common_options
@pass_session
def command(session: Session, *, queue: str, place: str, yes: bool, by: str | None) -> int:
    """Permanently delete the messages of QUEUE in one place, and print how many there were."""
    admin = session.admin()
    if not confirm(f"Delete all {place} messages of {queue}?", yes=yes):
        session.say("Nothing was deleted.")
        return 1
    count = admin.purge(queue, Place(place))
    admin.acted(f"purge --place {place}", by=by, on=queue, count=count)
    click.echo(count)
    return 0
