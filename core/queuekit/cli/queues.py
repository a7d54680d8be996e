"""``queuekit queues``."""

from __future__ import annotations

import click

from queuekit.cli.options import common_options, engine_options, json_option, pass_session
from queuekit.cli.output import age, columns, print_json
from queuekit.cli.pauses import document_of, line_of
from queuekit.cli.session import Session
from queuekit.logs.plaintext import clean
from queuekit.operations.admin import QueueView

__all__ = ["command"]

HEADER = ("QUEUE", "WAITING", "RUNNING", "DELAYED", "DEAD", "OLDEST", "WORKERS")


@click.command()
@json_option
@engine_options
@common_options
@pass_session
def command(session: Session, *, as_json: bool) -> None:
    """List the queues: messages by state, the age of the oldest waiting one, and the number of workers."""
    admin = session.admin()
    views, pauses = admin.queues(), admin.pauses()
    if as_json:
        now = admin.now()
        found = {pause.queue: document_of(pause, now) for pause in pauses if pause.queue}
        print_json([_document(view) | {"paused": found.get(view.name)} for view in views])
        return
    click.echo(columns(HEADER, [_row(view, admin.untold) for view in views], right=HEADER[1:]))
    for pause in pauses:
        session.say(line_of(pause, admin.now()))
    _print_hints(session, views)


def _print_hints(session: Session, views: list[QueueView]) -> None:
    if any(view.counts.dead for view in views):
        session.say(f"next  {session.command('dlq ls')}")
    unserved = [view.name for view in views if view.workers == 0 and (view.counts.ready or view.counts.delayed)]
    if unserved:
        session.say(f"no worker serves {', '.join(map(clean, unserved))}; start one:")
        session.say(f"next  {session.worker_command(unserved)}")


def _row(view: QueueView, untold: str) -> list[str]:
    counts = view.counts
    numbers = (counts.ready, counts.leased, counts.delayed, counts.dead)
    workers = "-" if view.workers is None else str(view.workers)
    return [view.name, *map(str, numbers), _oldest(view, untold), workers]


def _oldest(view: QueueView, untold: str) -> str:
    """Return how long the oldest message has waited: as the broker reports it, else the least that workers saw."""
    if view.counts.oldest_age is not None or not untold or not view.counts.ready:
        return age(view.counts.oldest_age)
    return f"not reported by {untold}" if view.seen_age is None else f">={age(view.seen_age)}"


def _document(view: QueueView) -> dict[str, object]:
    counts = view.counts
    return {
        "queue": view.name,
        "waiting": counts.ready,
        "running": counts.leased,
        "delayed": counts.delayed,
        "dead": counts.dead,
        "oldest_seconds": counts.oldest_age,
        "oldest_seconds_at_least": view.seen_age if counts.oldest_age is None and counts.ready else None,
        "workers": view.workers,
    }
