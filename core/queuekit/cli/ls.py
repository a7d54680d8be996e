"""``queuekit ls``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import click

from queuekit.broker import Place
from queuekit.cli.options import common_options, engine_options, filter_argument, json_option, pass_session
from queuekit.cli.output import age, columns, moment, one_line, print_json
from queuekit.cli.session import Session
from queuekit.operations.filters import Filter
from queuekit.operations.listing import ListedMessage, Listing, list_messages

__all__ = ["command"]

HEADER = ("ID", "TASK", "ATTEMPT", "SENT", "STATE", "WORKER")
SHOWN = 50
_PLACES = {"ready": Place.READY, "delayed": Place.DELAYED, "running": Place.LEASED, "dead": Place.DEAD}


@click.command()
@click.argument("queue", metavar="QUEUE")
@filter_argument
@click.option(
    "--state",
    type=click.Choice([*_PLACES]),
    default="ready",
    show_default=True,
    help="Which messages to list; running includes those that a worker holds and has not started.",
)
@click.option("--limit", type=click.IntRange(1), default=SHOWN, show_default=True, help="Print at most this many.")
@click.option("--after", metavar="CURSOR", help="Continue after an earlier page, which prints the cursor.")
@json_option
@engine_options
@common_options
@pass_session
def command(
    session: Session, *, queue: str, wanted: Filter, state: str, limit: int, after: str | None, as_json: bool
) -> None:
    """List the messages of QUEUE in one state, in the order of delivery, that match all of FILTER.

    Filters are task:mail.*, lane:acme and age:>1h (or <1h) and, for dead letters, error:TEXT and reason:crashed. At
    most 10,000 messages are looked at; the output says where to go on.
    """
    admin = session.admin()
    listing = list_messages(admin, queue, _PLACES[state], wanted=wanted, limit=limit, cursor=after)
    if as_json:
        print_json(_document(queue, state, listing))
        return
    now = admin.now()
    if listing.messages:
        in_lanes = any(listed.lane is not None for listed in listing.messages)
        header = (*HEADER[:2], "LANE", *HEADER[2:]) if in_lanes else HEADER
        rows = [_row(listed, now, in_lanes=in_lanes) for listed in listing.messages]
        click.echo(columns(header, rows, right=("ATTEMPT", "SENT")))
    _print_hints(session, listing, [queue, *wanted.terms], state=state, limit=limit)


def _print_hints(session: Session, listing: Listing, words: Sequence[str], *, state: str, limit: int) -> None:
    if listing.note:
        session.say(f"{listing.note}.")
    if not listing.messages:
        session.say(f"No {state} messages" + (f" among the {listing.looked} looked at." if listing.looked else "."))
    if listing.cursor is not None:
        rest = ["ls", *words, "--state", state, "--limit", str(limit), "--after", listing.cursor]
        session.say(f"more  {session.command(shlex.join(rest))}")
    elif listing.messages:
        session.say(f"next  {session.command(f'why {shlex.quote(listing.messages[0].id)}')}")


def _row(listed: ListedMessage, now: float, *, in_lanes: bool) -> list[str]:
    sent = "-" if listed.sent is None else f"{age(now - listed.sent)} ago"
    lane = [one_line(listed.lane or "-", width=40)] if in_lanes else []
    state = _state(listed, now)
    return [listed.id, listed.task or "?", *lane, str(listed.attempt + 1), sent, state, listed.worker or "-"]


def _state(listed: ListedMessage, now: float) -> str:
    """Return the state in words, with its time."""
    since = None if listed.due is None else now - listed.due
    match listed.place:
        case Place.DEAD:
            return _death(listed, now)
        case Place.LEASED if listed.seconds is not None:
            return f"runs for {age(listed.seconds)}"
        case Place.LEASED:
            return _hold(since)
        case Place.DELAYED:
            return "delayed" if since is None else f"due in {age(max(0.0, -since))}"
        case _:
            return "ready" if since is None else f"ready for {age(max(0.0, since))}"


def _death(listed: ListedMessage, now: float) -> str:
    error = f": {one_line(listed.error, width=100)}" if listed.error else ""
    died = "" if listed.died is None else f" {age(now - listed.died)} ago"
    return f"dead{died}, {listed.reason}{error}"


def _hold(since: float | None) -> str:
    """Return in words that a worker holds a message whose lease ended *since* seconds ago."""
    if since is None:
        return "held"
    return f"held, lease ends in {age(-since)}" if since < 0 else f"held, lease ended {age(since)} ago"


def _document(queue: str, state: str, listing: Listing) -> dict[str, Any]:
    return {
        "queue": queue,
        "state": state,
        "messages": [_message(listed) for listed in listing.messages],
        "looked_at": listing.looked,
        "after": listing.cursor,
        "note": listing.note or None,
    }


def _message(listed: ListedMessage) -> dict[str, Any]:
    running = listed.place is Place.LEASED
    return {
        "id": listed.id,
        "task": listed.task or None,
        "attempt": listed.attempt,
        "priority": listed.priority,
        "lane": listed.lane,
        "sent": moment(listed.sent),
        "due": None if running else moment(listed.due),
        "lease_ends": moment(listed.due) if running else None,
        "running_seconds": None if listed.seconds is None else round(listed.seconds, 1),
        "worker": listed.worker or None,
        "died": moment(listed.died),
        "reason": listed.reason or None,
        "error": listed.error or None,
    }
