"""``queuekit dlq``: dead letters."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import click

from queuekit.broker import Place
from queuekit.cli.message_view import as_document, as_text
from queuekit.cli.options import (
    as_option,
    common_options,
    engine_options,
    filter_argument,
    json_option,
    pass_session,
    queue_option,
)
from queuekit.cli.output import age, columns, counted, moment, one_line, print_json
from queuekit.cli.output import as_json as as_json_text
from queuekit.cli.purge import confirm
from queuekit.cli.session import Session
from queuekit.cli.steps import carry_out, rate_option
from queuekit.errors import UnavailableError, UnknownIdError
from queuekit.ids import is_name
from queuekit.logs.plaintext import clean, clean_json
from queuekit.operations.admin import Admin, MessageView, QueuedMessage
from queuekit.operations.dead_letters import (
    DeadGroup,
    Selection,
    group,
    in_steps,
    most_looked,
    out_of_order,
    seek,
    select,
    walk,
)
from queuekit.operations.filters import EVERYTHING, Filter, is_filter, parse_filter
from queuekit.states import State

__all__ = ["command"]

HEADER = ("ID", "TASK", "QUEUE", "REASON", "DIED", "ERROR")
GROUPS_HEADER = ("COUNT", "TASK", "REASON", "FIRST", "LAST", "FINGERPRINT", "SAMPLE", "ERROR")
SHOWN = 50
_all_option: Callable[[Any], Any] = click.option("--all", "everything", is_flag=True, help="Look at all dead letters.")


@click.group()
def command() -> None:
    """Inspect, replay or delete dead letters: messages that failed for good or cannot be run."""


@command.command("ls", short_help="List dead letters, newest first.")
@filter_argument
@queue_option
@click.option("--limit", type=click.IntRange(1), default=SHOWN, show_default=True, help="Print at most this many.")
@_all_option
@json_option
@engine_options
@common_options
@pass_session
def ls(session: Session, *, wanted: Filter, queue: str | None, limit: int, everything: bool, as_json: bool) -> None:
    """List dead letters that match all of FILTER, newest first in each queue.

    Filters are task:mail.*, queue:high, reason:crashed, error:Timeout, age:>1h and age:<1h. With filters, at most
    10,000 dead letters are looked at (1,000 on SQS), or all with --all.
    """
    app = session.shared_app()
    admin, now = Admin(app), app.clock.time()
    most = most_looked(admin) if wanted and not everything else None
    with closing(walk(admin, queue, wanted, most=most)) as found:
        # Convert them one by one: all the bodies together may not fit into memory.
        convert: Callable[[QueuedMessage], Any] = _document if as_json else partial(_row, now=now)
        shown: list[Any] = [convert(queued) for queued in islice(found, limit)]
    if as_json:
        print_json(shown)
    elif shown:
        click.echo(columns(HEADER, shown, right=("DIED",)))
    if most is not None or len(shown) == limit:
        _say_what_is_left(session, admin, queue, looked=most or limit, filtered=most is not None)
    if not as_json:
        _say_what_is_next(session, shown[0][0] if shown else None, wanted)


def _say_what_is_next(session: Session, first: str | None, wanted: Filter) -> None:
    """Say which commands take the id of the *first* dead letter of a list, or that there is none."""
    if first is None:
        session.say("No dead letters." if not wanted else "No such dead letters.")
        return
    id = shlex.quote(first)
    session.say(f"next  {session.command(f'dlq show {id}')}")
    session.say(f"      {session.command(f'dlq retry {id}')}     (or --all)")


def _say_what_is_left(session: Session, admin: Admin, queue: str | None, *, looked: int, filtered: bool) -> None:
    """Say how many dead letters were not looked at, and that these may be newer if the engine has no order."""
    try:
        counts = admin.dead_count(queue)
    except UnavailableError:
        session.say("... and perhaps more: counting them takes too long")
        return
    more, bound = counts.dead - looked, Place.DEAD in counts.at_least
    if more <= 0 and not bound:
        return
    if filtered:
        session.say(f"looked at {looked} of {counted(counts, Place.DEAD)} dead letters: --all looks at all of them")
    elif bound:
        session.say(f"... and at least {more} more" if more > 0 else "... and perhaps more")
    else:
        session.say(f"... and {more} more: --limit {counts.dead} lists them all")
    if text := out_of_order(admin, counts):
        session.say(text)


@command.command("groups", short_help="Count dead letters by fault.")
@filter_argument
@queue_option
@_all_option
@json_option
@engine_options
@common_options
@pass_session
def groups(session: Session, *, wanted: Filter, queue: str | None, everything: bool, as_json: bool) -> None:
    """Count dead letters by fault: the same task, reason and error, ignoring numbers, ids and quoted text.

    At most 10,000 dead letters are looked at (1,000 on SQS), or all with --all.
    """
    app = session.shared_app()
    admin = Admin(app)
    most = None if everything else most_looked(admin)
    found, now = group(admin, queue, wanted, most=most), app.clock.time()
    if most is not None:
        _say_what_is_left(session, admin, queue, looked=most, filtered=True)
    if as_json:
        print_json([_group_document(one) for one in found])
        return
    if not found:
        session.say("No dead letters." if not wanted else "No such dead letters.")
        return
    rows = [_group_row(one, now) for one in found]
    click.echo(columns(GROUPS_HEADER, rows, right=("COUNT", "FIRST", "LAST")))
    session.say(f"next  {session.command(f'dlq show {shlex.quote(found[0].sample)}')}")


@command.command("export", short_help="Print dead letters as JSON Lines.")
@filter_argument
@queue_option
@engine_options
@common_options
@pass_session
def export(session: Session, *, wanted: Filter, queue: str | None) -> None:
    """Print dead letters as JSON Lines, one document per line, with all arguments except redacted ones."""
    admin = session.admin()
    for queued in walk(admin, queue, wanted):
        click.echo(clean_json(as_json_text(_document(queued) | _arguments(admin, queued))))


@command.command("show")
@click.argument("id", metavar="ID")
@json_option
@engine_options
@common_options
@pass_session
def show(session: Session, *, id: str, as_json: bool) -> None:
    """Show one dead letter in full."""
    app = session.shared_app()
    admin = Admin(app)
    view = admin.show(id)
    if view.queued is None or view.queued.stored.place is not Place.DEAD:
        raise _not_dead(admin, view)
    if as_json:
        # The body holds all arguments, also hidden ones.
        body = None if view.hidden else view.queued.stored.envelope.body.decode(errors="replace")
        print_json(as_document(view, app.runtime.accepted) | {"body": body})
        return
    click.echo(as_text(view, app.runtime.accepted, now=app.clock.time()))
    name = shlex.quote(id)
    session.say(f"next  {session.command(f'dlq retry {name}')}\n      {session.command(f'dlq drop {name}')}")


def _not_dead(admin: Admin, view: MessageView) -> UnknownIdError:
    id = view.info.id
    if admin.searches_dead and view.info.state in {State.DEAD, State.FAILURE}:
        return UnknownIdError(
            f"{id!r} is not among the dead letters that {admin.untold} handed out: it cannot look one up by its id",
            fix=f"See its record:  queuekit show {id}",
        )
    return UnknownIdError(f"{id!r} is not a dead letter", fix=f"See where it is:  queuekit show {id}")


def _choice(action: Any) -> Any:
    """Add the arguments and options that choose dead letters, and how fast and by whom they are changed."""
    for option in reversed(
        (
            click.argument("words", metavar="[ID|FILTER]...", nargs=-1),
            click.option("--all", "everything", is_flag=True, help="All dead letters."),
            click.option("--dry-run", is_flag=True, help="Print the ids that would change, and change nothing."),
            rate_option,
            as_option,
            queue_option,
            engine_options,
            common_options,
            pass_session,
        )
    ):
        action = option(action)
    return action


@command.command("retry", short_help="Put dead letters back on their queues.")
@click.option("--sign", is_flag=True, help="Sign the dead letters whose reason is unsigned, and put back only those.")
@_choice
def retry(session: Session, *, dry_run: bool, rate: float | None, by: str | None, sign: bool, **choice: Any) -> None:
    """Put dead letters back on their queues, ready at once and with all retries. Print their ids.

    Choose them by ids, by filters that must all match (task:mail.* error:Timeout age:>1h), or with --all.
    """
    app = session.shared_app()
    admin = Admin(app)
    chosen = _chosen(admin, **choice)
    if dry_run:
        ids = (id for queue, some in chosen.ids for id in (admin.unsigned(queue, some) if sign else some))
        _print_dry_run(session, ids, "would be put back on their queues")
        return
    steps = in_steps(admin.replay_signed if sign else admin.replay, chosen.ids, rate=rate, sleep=app.clock.sleep)
    replayed = carry_out(admin, "dlq retry", steps, by=by, on=chosen.text)
    session.say(f"{len(replayed)} back on their queues")
    if replayed:
        session.say(f"next  {session.command(f'show {shlex.quote(replayed[0])}')}")


@click.command("drop", short_help="Permanently delete dead letters.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@_choice
def drop(session: Session, *, dry_run: bool, rate: float | None, by: str | None, yes: bool, **choice: Any) -> int:
    """Permanently delete dead letters and print their ids. Asks first if you use --all or filters.

    Choose them by ids, by filters that must all match (task:mail.* error:Timeout age:>1h), or with --all.
    """
    app = session.shared_app()
    admin = Admin(app)
    chosen = _chosen(admin, **choice)
    if dry_run:
        _print_dry_run(session, (id for _, some in chosen.ids for id in some), "would be deleted")
        return 0
    which = "all these" if chosen.number is None else f"{chosen.number}"
    if chosen.text and chosen.number != 0 and not confirm(f"Delete {which} dead letters for good?", yes=yes):
        session.say("Nothing was deleted.")
        return 1
    steps = in_steps(admin.drop, chosen.ids, rate=rate, sleep=app.clock.sleep)
    dropped = carry_out(admin, "dlq drop", steps, by=by, on=chosen.text)
    session.say(f"{len(dropped)} deleted")
    return 0


command.add_command(drop)
purge = copy.copy(drop)
purge.name, purge.short_help = "purge", "Another name of drop."
command.add_command(purge, "purge")


def _print_dry_run(session: Session, ids: Iterable[str], what: str) -> None:
    count = 0
    for id in ids:
        click.echo(clean(id))
        count += 1
    session.say(f"{count} {what}")


class _Chosen(NamedTuple):
    ids: Iterable[tuple[str, list[str]]]
    """Queues, each with ids."""
    text: str
    """The filters, or ``all``; empty if ids were given."""
    number: int | None = None
    """How many there are; ``None`` if they are found one by one while they are changed."""


def _known(chosen: Selection, text: str) -> _Chosen:
    return _Chosen(chosen.items(), text, sum(map(len, chosen.values())))


def _chosen(admin: Admin, *, words: tuple[str, ...], everything: bool, queue: str | None) -> _Chosen:
    """Return the dead letters that the command line chooses.

    Raises:
        UnknownIdError: An id is not that of a dead letter.
        UsageError: There are no words and no ``--all``, or both, or ids and filters are mixed.
    """
    if bool(words) is everything:
        raise click.UsageError("give ids or filters, or --all")
    if everything:
        return _selected(admin, queue, EVERYTHING, "all")
    filters = [word for word in words if is_filter(word)]
    if not filters:
        return _Chosen(_sought(admin, words, queue), "") if admin.searches_dead else _by_id(admin, words, queue)
    if not admin.searches_dead and (known := _if_all_are_ids(admin, words, queue)):
        return _known(known, "")
    if len(filters) < len(words):
        raise click.UsageError("give ids or filters, not both")
    try:
        wanted = parse_filter(words)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return _selected(admin, queue, wanted, wanted.text)


def _if_all_are_ids(admin: Admin, words: tuple[str, ...], queue: str | None) -> Selection | None:
    """Return the dead letters with these ids, which may look like filters; ``None`` if there is not one for each."""
    known = admin.find_dead([word for word in words if is_name(word)], queue)
    return known if set[str]().union(*known.values()).issuperset(words) else None


def _selected(admin: Admin, queue: str | None, wanted: Filter, text: str) -> _Chosen:
    if admin.searches_dead:
        return _Chosen(seek(admin, queue, wanted), text)
    return _known(select(admin, queue, wanted), text)


def _sought(admin: Admin, ids: tuple[str, ...], queue: str | None) -> Iterator[tuple[str, list[str]]]:
    """Yield the dead letters with these ids as they are found.

    Raises:
        UnknownIdError: One of *ids* is not a dead letter; the others were yielded.
    """
    missing = set(ids)
    for name, found in seek(admin, queue, ids=ids):
        missing.difference_update(found)
        yield name, found
    if missing:
        raise _no_such(missing)


def _by_id(admin: Admin, ids: tuple[str, ...], queue: str | None) -> _Chosen:
    """Return the dead letters with these ids.

    Raises:
        UnknownIdError: One of *ids* is not a dead letter.
    """
    found = admin.find_dead(ids, queue)
    missing = set(ids).difference(*found.values())
    if missing:
        raise _no_such(missing)
    return _known(found, "")


def _no_such(ids: set[str]) -> UnknownIdError:
    text = f"no dead letter has the id {' or '.join(map(repr, sorted(ids)[:3]))}"
    return UnknownIdError(text, fix="List them:  queuekit dlq ls")


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


def _group_row(one: DeadGroup, now: float) -> list[str]:
    first, last = (age(None if at is None else now - at) for at in (one.first, one.last))
    error = one_line(one.error, width=100)
    return [str(one.count), one.task or "?", one.reason or "-", first, last, one.fingerprint, one.sample, error]


def _group_document(one: DeadGroup) -> dict[str, Any]:
    return {
        "fingerprint": one.fingerprint,
        "count": one.count,
        "task": one.task or None,
        "reason": one.reason or None,
        "error": one.error or None,
        "first": moment(one.first),
        "last": moment(one.last),
        "sample": one.sample,
    }


def _arguments(admin: Admin, queued: QueuedMessage) -> dict[str, Any]:
    """Return the arguments of a dead letter, ``null`` if they cannot be read."""
    message = admin.read(queued)
    return {"args": message.args if message else None, "kwargs": message.kwargs if message else None}
