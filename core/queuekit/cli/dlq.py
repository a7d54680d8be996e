"""``queuekit dlq``: dead letters."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from itertools import islice
from typing import Any

import click

from queuekit.app import Queuekit
from queuekit.broker import Place
from queuekit.cli.message_view import as_document, as_text
from queuekit.cli.options import common_options, engine_options, json_option, pass_session, queue_option
from queuekit.cli.output import age, columns, echo, moment, one_line, print_json
from queuekit.cli.purge import confirm
from queuekit.cli.session import Session, need_shared
from queuekit.errors import UnknownIdError
from queuekit.operations.admin import Admin, QueuedMessage

__all__ = ["command"]

HEADER = ("ID", "TASK", "QUEUE", "REASON", "DIED", "ERROR")
SHOWN = 50


@click.group()
def command() -> None:
    """Inspect, replay or delete dead letters: messages that failed for good or cannot be run."""


@command.command("ls")
@queue_option
@click.option("--limit", type=click.IntRange(1), default=SHOWN, show_default=True, help="Print at most this many.")
@json_option
@engine_options
@common_options
@pass_session
def ls(session: Session, *, queue: str | None, limit: int, as_json: bool) -> None:
    """List dead letters, newest first in each queue."""
    app = _app(session)
    admin, now = Admin(app), app.clock.time()
    # Convert them to rows one by one: all the bodies together may not fit into memory.
    letters = islice(admin.dead(queue), limit)
    if as_json:
        print_json([_document(queued) for queued in letters])
        return
    rows = [_row(queued, now) for queued in letters]
    if not rows:
        session.say("No dead letters.")
        return
    click.echo(columns(HEADER, rows, right=("DIED",)))
    count = admin.dead_count(queue) if len(rows) == limit else limit
    if count > limit:
        session.say(f"... and {count - limit} more: --limit {count} lists them all")
    first = shlex.quote(rows[0][0])
    session.say(f"next  {session.command(f'dlq show {first}')}")
    session.say(f"      {session.command(f'dlq retry {first}')}     (or --all)")


@command.command("show")
@click.argument("id", metavar="ID")
@json_option
@engine_options
@common_options
@pass_session
def show(session: Session, *, id: str, as_json: bool) -> None:
    """Show one dead letter in full."""
    app = _app(session)
    admin = Admin(app)
    view = admin.show(id)
    if view.queued is None or view.queued.stored.place is not Place.DEAD:
        raise UnknownIdError(f"{id!r} is not a dead letter", fix=f"See where it is:  queuekit show {id}")
    if as_json:
        body = view.queued.stored.envelope.body
        print_json(as_document(view, app.runtime.accepted) | {"body": body.decode(errors="replace")})
        return
    click.echo(as_text(view, app.runtime.accepted, now=app.clock.time()))
    session.say(f"next  {session.command(f'dlq retry {id}')}\n      {session.command(f'dlq drop {id}')}")


@command.command("retry", short_help="Put dead letters back on their queues.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
@queue_option
@engine_options
@common_options
@pass_session
def retry(session: Session, *, ids: tuple[str, ...], everything: bool, queue: str | None) -> None:
    """Put dead letters back on their queues, ready at once and with all retries. Print their ids."""
    _need_choice(ids, everything=everything)
    admin = Admin(_app(session))
    replayed = [id for name, some in _by_queue(admin, ids, queue).items() for id in admin.replay(name, some)]
    _print(replayed)
    session.say(f"{len(replayed)} back on their queues")
    if replayed:
        session.say(f"next  {session.command(f'show {replayed[0]}')}")


@command.command("drop", short_help="Permanently delete dead letters.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@queue_option
@engine_options
@common_options
@pass_session
def drop(session: Session, *, ids: tuple[str, ...], everything: bool, yes: bool, queue: str | None) -> int:
    """Permanently delete dead letters and print their ids. Asks before --all."""
    _need_choice(ids, everything=everything)
    admin = Admin(_app(session))
    chosen = _by_queue(admin, ids, queue)
    count = admin.dead_count(queue) if everything else len(ids)
    if everything and count and not confirm(f"Delete {count} dead letters for good?", yes=yes):
        session.say("Nothing was deleted.")
        return 1
    dropped = [id for name, some in chosen.items() for id in admin.drop(name, some)]
    _print(dropped)
    session.say(f"{len(dropped)} deleted")
    return 0


def _app(session: Session) -> Queuekit:
    app = session.any_app()
    need_shared(app)
    return app


def _need_choice(ids: tuple[str, ...], *, everything: bool) -> None:
    if bool(ids) is everything:
        raise click.UsageError("give ids, or --all")


def _by_queue(admin: Admin, ids: tuple[str, ...], queue: str | None) -> dict[str, list[str] | None]:
    """Return the chosen dead letters by queue. If *ids* is empty, each value is ``None``, which means all.

    Raises:
        UnknownIdError: One of *ids* is not a dead letter.
    """
    if not ids:
        return dict.fromkeys([queue] if queue else admin.queue_names())
    found = admin.find_dead(ids, queue)
    missing = set(ids).difference(*found.values())
    if missing:
        text = f"no dead letter has the id {' or '.join(map(repr, sorted(missing)[:3]))}"
        raise UnknownIdError(text, fix="List them:  queuekit dlq ls")
    return {**found}


def _print(ids: Iterable[str]) -> None:
    for id in ids:
        echo(id)


def _row(queued: QueuedMessage, now: float) -> list[str]:
    stored = queued.stored
    died = "-" if stored.died_at is None else f"{age(now - stored.died_at)} ago"
    return [queued.id, queued.task or "?", stored.envelope.queue, stored.reason, died, one_line(stored.error)]


def _document(queued: QueuedMessage) -> dict[str, Any]:
    stored = queued.stored
    return {
        "id": queued.id,
        "task": queued.task or None,
        "queue": stored.envelope.queue,
        "reason": stored.reason,
        "error": stored.error or None,
        "died": moment(stored.died_at),
        "worker": stored.holder or None,
        "attempt": stored.envelope.attempt,
        "generation": stored.envelope.generation,
    }
