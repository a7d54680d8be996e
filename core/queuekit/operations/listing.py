"""List the messages of a queue, a page at a time, however long the queue is.

Where the broker does not report single messages, the list is made of the records that queuekit keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias, TypeVar

from queuekit.backend import Backend, Page, Record
from queuekit.broker import Place, Stored
from queuekit.errors import CapabilityError, DecodeError, OptionError, QueuekitError, UnavailableError
from queuekit.ids import plain
from queuekit.operations.admin import Admin
from queuekit.operations.dead_letters import MOST_LOOKED, out_of_order
from queuekit.operations.filters import EVERYTHING, Filter, Subject
from queuekit.states import FINAL
from queuekit.values import frozen
from queuekit.wire.batches import alike
from queuekit.wire.records import Info, read_info, result_key

__all__ = ["MOST_LOOKED", "ListedMessage", "Listing", "list_messages"]

T = TypeVar("T")
V = TypeVar("V")
_Read: TypeAlias = Callable[[int, str | None], Page[T]]
"""Reads a page: at most so many, behind a cursor."""
_FIRST, _MOST = 20, 500
"""Messages in the first page, when their size is not known yet, and the most in any page."""


@frozen(kw_only=True)
class ListedMessage:
    """A message in a list. What is not known is ``None`` or empty."""

    id: str
    task: str
    queue: str
    place: Place
    attempt: int = 0
    priority: int | None = None
    sent: float | None = None
    """UTC epoch seconds."""
    due: float | None = None
    """UTC epoch seconds at which it is, or was, due; if a worker holds it, when its lease ends."""
    died: float | None = None
    """UTC epoch seconds at which it became a dead letter."""
    reason: str = ""
    error: str = ""
    worker: str = ""
    """Worker that runs it, or ran it last."""
    seconds: float | None = None
    """How long its body has been running, if a worker reported that."""
    lane: str | None = None
    """Key of its lane, empty for the common one; ``None`` if it has none, or the broker does not report it."""


@frozen(kw_only=True)
class Listing:
    """A page of messages."""

    messages: tuple[ListedMessage, ...]
    looked: int
    """Number of messages that were looked at."""
    cursor: str | None = None
    """Where the next page begins; ``None`` on the last page."""
    note: str = ""
    """What the list cannot know; empty if it comes from the broker."""


class _Query(NamedTuple):
    queue: str
    place: Place
    wanted: Filter
    limit: int
    cursor: str | None
    most: int


def list_messages(
    admin: Admin,
    queue: str,
    place: Place,
    *,
    wanted: Filter = EVERYTHING,
    limit: int = 50,
    cursor: str | None = None,
    most: int = MOST_LOOKED,
) -> Listing:
    """Return at most *limit* messages of *queue* in *place* that *wanted* selects, in the order of delivery.

    Args:
        admin: The operator's interface to the app.
        queue: Name of the queue.
        place: Where the messages are.
        wanted: Which messages to return.
        limit: Most messages to return.
        cursor: Where the page begins: :attr:`Listing.cursor` of the page before.
        most: Messages to look at before a page ends without enough that match.

    Raises:
        CapabilityError: The broker does not report single messages, and the backend cannot list records.
        NoBackendError: The broker does not report single messages, and no backend is configured.
    """
    query = _Query(plain(queue), place, wanted, limit, cursor, most)
    if admin.reports(place):
        return _from_broker(admin, query)
    if place is Place.DEAD:
        raise CapabilityError(
            f"{admin.untold} keeps no dead letters that can be listed",
            fix='Set a backend that can list its records, e.g.  backend = "sqlite:///results.db"',
        )
    if place is Place.LEASED:
        return _from_workers(admin, query)
    return _from_records(admin, query)


def _from_broker(admin: Admin, query: _Query) -> Listing:
    runs = _runs(admin) if query.place is Place.LEASED else {}

    def listed(stored: Stored) -> ListedMessage | None:
        found = _listed(stored, admin.task_of(stored), runs)
        return found if query.wanted.matches(_subject(found, admin.now())) else None

    found, looked, cursor = _search(query, partial(_peek, admin, query), listed, lambda one: len(one.envelope.body))
    sampled = query.place is Place.DEAD and admin.dead_in_order is not None
    note = out_of_order(admin, admin.dead_count(query.queue)) if sampled else ""
    return Listing(messages=tuple(found), looked=looked, cursor=cursor, note=note)


def _search(
    query: _Query, read: _Read[T], listed: Callable[[T], ListedMessage | None], weigh: Callable[[T], int]
) -> tuple[list[ListedMessage], int, str | None]:
    """Return the messages that *listed* returns, how many were looked at, and the cursor behind the last of these."""
    found: list[ListedMessage] = []
    looked, size, cursor = 0, min(_FIRST, query.limit), query.cursor
    while True:
        room = query.limit - len(found)
        page, some = _page(query, cursor, partial(_matching, read, listed, size, room))
        found += some
        looked, cursor = looked + len(page.items), page.cursor
        if cursor is None or len(found) >= query.limit or looked >= query.most:
            return found, looked, cursor
        # As many as probably hold what is missing.
        expected = (query.limit - len(found)) * looked // len(found) if found else _MOST
        most = min(_MOST, max(1, expected), query.most - looked)
        size = alike([weigh(one) for one in page.items], most=most) if page.items else min(_FIRST, most)


def _matching(
    read: _Read[T], listed: Callable[[T], ListedMessage | None], size: int, room: int, cursor: str | None
) -> tuple[Page[T], list[ListedMessage]]:
    """Return at most *size* messages after *cursor*, and those of them that match, of which there are at most *room*.

    If more match, it reads again up to the last one that has room, so that the cursor stands behind that.
    """
    while True:
        page = read(size, cursor)
        some = [(place, one) for place, each in enumerate(page.items, 1) if (one := listed(each)) is not None]
        if len(some) <= room:
            return page, [one for _, one in some]
        size = some[room - 1][0]


def _page(query: _Query, cursor: str | None, read: Callable[[str | None], V]) -> V:
    """Return the page that *read* returns for *cursor*.

    Engines answer a cursor that is not theirs with different errors. Whether the cursor is the reason is known when
    the first page can be read.

    Raises:
        OptionError: The caller gave the cursor, and it is not a place in this list.
    """
    try:
        return read(cursor)
    except Exception as error:
        if (
            cursor is None
            or cursor != query.cursor
            or (isinstance(error, QueuekitError) and not isinstance(error, UnavailableError))
        ):
            raise
        if isinstance(error, UnavailableError):
            read(None)
        fix = "Use the cursor that the page before prints"
        raise OptionError(f"{cursor[:60]!r} is not a place in this list", fix=fix) from error


def _peek(admin: Admin, query: _Query, limit: int, cursor: str | None) -> Page[Stored]:
    return admin.peek(query.queue, query.place, limit=limit, cursor=cursor)


def _scan(admin: Admin, backend: Backend, limit: int, cursor: str | None) -> Page[Record]:
    with admin.in_time():
        return backend.scan(result_key(""), limit=limit, cursor=cursor)


def _runs(admin: Admin) -> dict[str, tuple[str, float]]:
    """Return worker and running time of each running message, by id."""
    return {run.id: (worker.name, run.seconds) for worker in admin.workers() or () for run in worker.runs}


def _listed(stored: Stored, task: str, runs: dict[str, tuple[str, float]]) -> ListedMessage:
    envelope = stored.envelope
    worker, seconds = runs.get(envelope.id, (stored.holder, None))
    return ListedMessage(
        id=envelope.id,
        task=task,
        queue=envelope.queue,
        place=stored.place,
        attempt=envelope.attempt,
        priority=envelope.priority,
        sent=stored.sent_at or None,
        due=stored.due or None,
        died=stored.died_at,
        reason=stored.reason,
        error=stored.error,
        worker=worker,
        seconds=seconds,
        lane=None if envelope.lane is None else envelope.lane.key,
    )


def _subject(listed: ListedMessage, now: float) -> Subject:
    since = listed.died if listed.died is not None else listed.sent
    age = None if since is None else now - since
    return Subject(
        task=listed.task, queue=listed.queue, reason=listed.reason, error=listed.error, age=age, lane=listed.lane
    )


def _from_workers(admin: Admin, query: _Query) -> Listing:
    """Return what workers report to run, sorted by id."""
    running = [
        ListedMessage(
            id=run.id, task=run.task, queue=run.queue, place=Place.LEASED, worker=worker.name, seconds=run.seconds
        )
        for worker in admin.fleet()
        if worker.live
        for run in worker.runs
        if run.queue == query.queue
    ]
    running.sort(key=lambda listed: listed.id)
    rest = [listed for listed in running if query.cursor is None or listed.id > query.cursor]
    found = [listed for listed in rest if query.wanted.matches(_subject(listed, admin.now()))]
    return Listing(
        messages=tuple(found[: query.limit]),
        looked=len(rest),
        cursor=found[query.limit - 1].id if len(found) > query.limit else None,
        note=f"{admin.untold} does not report its messages: these are the bodies that workers report to run. "
        "Messages that a worker holds and has not started are not among them",
    )


def _from_records(admin: Admin, query: _Query) -> Listing:
    """Return the messages whose records say that they have been sent and have not ended."""
    backend = admin.listing("listing the messages of this broker")
    running = _runs(admin)

    def listed(record: Record) -> ListedMessage | None:
        now = admin.now()
        found = _recorded(record, query, now)
        fits = found is not None and found.id not in running and query.wanted.matches(_subject(found, now))
        return found if fits else None

    found, looked, cursor = _search(query, partial(_scan, admin, backend), listed, lambda one: len(one.body))
    note = f"{admin.untold} does not report its messages: these are those whose records say that they have not ended. "
    return Listing(
        messages=tuple(found),
        looked=looked,
        cursor=cursor,
        note=f"{note}Messages that ignore their results have no record, and some of these may be running",
    )


def _recorded(record: Record, query: _Query, now: float) -> ListedMessage | None:
    """Return the message of *record* if it seems to be where *query* looks."""
    try:
        info = read_info(record.key.removeprefix(result_key("")), record)
    except DecodeError:
        return None
    if info.queue != query.queue or info.state in FINAL or _place(info, now) is not query.place:
        return None
    return ListedMessage(
        id=info.id,
        task=info.task,
        queue=info.queue,
        place=query.place,
        attempt=info.attempt,
        sent=info.sent,
        due=info.due,
        worker=info.worker,
    )


def _place(info: Info, now: float) -> Place:
    return Place.DELAYED if info.due is not None and info.due > now else Place.READY
