"""``queuekit move``."""

from __future__ import annotations

import shlex
from itertools import islice

import click

from queuekit.broker import Place
from queuekit.cli.options import as_option, common_options, engine_options, pass_session
from queuekit.cli.output import counted
from queuekit.cli.session import Session
from queuekit.cli.steps import carry_out, rate_option
from queuekit.logs.plaintext import clean
from queuekit.operations.admin import Admin
from queuekit.operations.moves import move

__all__ = ["command"]


@click.command()
@click.argument("queue")
@click.argument("to", required=False)
@click.option("--limit", type=click.IntRange(1), help="Move at most this many.")
@click.option(
    "--dry-run", is_flag=True, help="Print the ids that would move, if the broker reports them; move nothing."
)
@rate_option
@as_option
@engine_options
@common_options
@pass_session
def command(
    session: Session,
    *,
    queue: str,
    to: str | None,
    limit: int | None,
    dry_run: bool,
    rate: float | None,
    by: str | None,
) -> None:
    """Move the messages of QUEUE that are ready to the queue TO. Print their ids.

    They keep their ids. Delayed messages stay until they are due, and running ones end where they are. Omit TO for a
    queue in which the service itself collects messages (see queuekit check): each goes back to its own queue.
    """
    app = session.shared_app()
    admin, where = Admin(app), "their own queues" if to is None else to
    if dry_run:
        session.say(f"{_print_ready(admin, queue, limit)} would be moved to {clean(where)}")
        return
    steps = move(admin, queue, to, most=limit, rate=rate, sleep=app.clock.sleep)
    moved = carry_out(admin, "move", steps, by=by, on=f"{queue} to {where}")
    session.say(f"{len(moved)} moved to {clean(where)}")
    if to is not None and admin.unserved([to]):
        session.say(f"no worker serves {clean(to)}; start one:\nnext  {session.worker_command([to])}")
    elif moved:
        session.say(f"next  {session.command(f'show {shlex.quote(moved[0])}')}")


def _print_ready(admin: Admin, queue: str, limit: int | None) -> str:
    """Print the ids of the messages that are ready, where they are reported, and return how many there are."""
    if not admin.reports(Place.READY):
        counts = admin.counts_of(queue)
        if counts is None:
            return "0"
        return str(limit) if limit is not None and counts.ready >= limit else counted(counts, Place.READY)
    count = 0
    for stored in islice(admin.stored(queue, Place.READY), limit):
        click.echo(clean(stored.envelope.id))
        count += 1
    return str(count)
