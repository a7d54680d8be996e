"""``queuekit queues``."""

from __future__ import annotations

import click

from queuekit.admin import QueueView
from queuekit.cli.options import common_options, engine_options, json_option, pass_session
from queuekit.cli.output import age, columns, print_json
from queuekit.cli.session import Session

__all__ = ["command"]

HEADER = ("QUEUE", "WAITING", "RUNNING", "DELAYED", "DEAD", "OLDEST", "WORKERS")


@click.command()
@json_option
@engine_options
@common_options
@pass_session
def command(session: Session, *, as_json: bool) -> None:
    """List the queues: what waits, runs, is delayed or dead, how old the oldest waiting one is, who works on them."""
    views = session.admin().queues()
    if as_json:
        print_json([_document(view) for view in views])
        return
    click.echo(columns(HEADER, [_row(view) for view in views], right=HEADER[1:]))
    if any(view.counts.dead for view in views):
        session.say(f"next  {session.command('dlq ls')}")
    elif any(view.counts.ready and view.workers == 0 for view in views):
        session.say(f"next  {session.command('worker')}")


def _row(view: QueueView) -> list[str]:
    counts = view.counts
    numbers = (counts.ready, counts.leased, counts.delayed, counts.dead)
    workers = "-" if view.workers is None else str(view.workers)
    return [view.name, *map(str, numbers), age(counts.oldest_age), workers]


def _document(view: QueueView) -> dict[str, object]:
    counts = view.counts
    return {
        "queue": view.name,
        "waiting": counts.ready,
        "running": counts.leased,
        "delayed": counts.delayed,
        "dead": counts.dead,
        "oldest_seconds": counts.oldest_age,
        "workers": view.workers,
    }
