"""Queues on PostgreSQL."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from random import Random

from queuekit.backend import Condition, Page
from queuekit.broker import (
    Broker,
    Capabilities,
    CommitItem,
    Delivery,
    Lease,
    Place,
    QueueCounts,
    Retry,
    Settlement,
    Stored,
)
from queuekit.clock import Clock
from queuekit.envelope import Envelope
from queuekit.errors import QueuekitError, TooLargeError
from queuekit.urls import EngineURL

from queuekit_postgres import messages, records
from queuekit_postgres.database import Cursor, Database, PostgresOptions
from queuekit_postgres.schema import NOW

__all__ = ["PostgresBroker"]

_PLACES = {
    Place.READY: (f"place = 'waiting' AND due <= {NOW}", ("-level", "due", "line")),
    Place.DELAYED: (f"place = 'waiting' AND due > {NOW}", ("due", "line")),
    Place.LEASED: ("place = 'leased'", ("ends", "line")),
    Place.DEAD: ("place = 'dead'", ("-died_at", "-line")),
}
"""Where each place's messages are, and their order."""


class PostgresBroker(Broker):
    """Queues in a table; see :class:`~queuekit.broker.Broker` for the methods."""

    capabilities = Capabilities(commit=True)

    def __init__(
        self,
        url: EngineURL,
        *,
        options: PostgresOptions | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        """Keep what is needed to connect; open nothing yet."""
        self._database = Database(url, options or PostgresOptions())
        self.engine_id = self._database.name
        self._name = uuid.uuid4().hex
        self._interrupts = self._wanted = 0

    # -- delivering ------------------------------------------------------------------------------------------------

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Put *envelopes* on their queues."""
        self._check_sizes(envelopes)

        def step(cursor: Cursor) -> list[str]:
            ids = [messages.accept(cursor, envelope) for envelope in envelopes]
            self._tell(cursor, (envelope.queue for envelope in envelopes))
            return ids

        return self._database.run(step)

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Take due messages under a lease, waiting for the first one."""
        most = min(limit, self.limits.max_batch)
        topics = {f"queue {queue}" for queue in queues} | {f"stop {self._name}"}
        before = self._wanted

        def look(cursor: Cursor) -> tuple[list[Delivery] | bool, float | None]:
            messages.upkeep(cursor, queues)
            found = messages.claim(cursor, queues, limit=most, lease=lease) if most > 0 else []
            if found:
                return found, None
            if self._interrupts != before:
                self._wanted = self._interrupts
                return True, None
            return [], messages.next_event(cursor, queues)

        found = self._database.wait(look, topics, min(wait, self.limits.max_wait) if most > 0 else 0.0)
        return found if isinstance(found, list) else []

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Make *leases* end later."""
        return self._database.run(
            lambda cursor: [one for one in leases if not messages.extend(cursor, one, seconds=lease)]
        )

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Carry out *settlements*."""

        def step(cursor: Cursor) -> list[Delivery]:
            lost = [each.delivery for each in settlements if not messages.settle(cursor, each)]
            self._tell(cursor, _queues_of(settlements))
            return lost

        return self._database.run(step)

    def commit(self, items: Sequence[CommitItem]) -> list[bool]:
        """Carry out each item in one transaction."""
        for item in items:
            self._check_sizes(_envelopes_of(item))

        def step(cursor: Cursor) -> list[bool]:
            return [self._commit_one(cursor, item) for item in items]

        return self._database.run(step)

    def _commit_one(self, cursor: Cursor, item: CommitItem) -> bool:
        # The settlement comes first: it tells whether the rest may happen, and frees a unique key for the sends.
        if item.settlement is not None and not messages.settle(cursor, item.settlement):
            return False
        for record in item.records:
            records.put(cursor, record, Condition.NEWER)
        sends = list(item.sends)
        for join in item.joins:
            _, count = records.join(cursor, join.group, join.member, join.ttl)
            if count >= join.size:
                sends += [envelope for envelope in join.then if isinstance(envelope, Envelope)]
        for envelope in sends:
            messages.accept(cursor, envelope)
        settled = _queues_of([item.settlement] if item.settlement is not None else [])
        self._tell(cursor, {*settled, *(envelope.queue for envelope in sends)})
        self._database.tell(cursor, {f"record {record.key}" for record in item.records if record.final})
        return True

    # -- looking and mending ---------------------------------------------------------------------------------------

    def queues(self) -> list[str]:
        """Return the names of all queues."""

        def step(cursor: Cursor) -> list[str]:
            cursor.execute("SELECT DISTINCT queue FROM message")
            return sorted(row["queue"] for row in cursor.fetchall())

        return self._database.run(step)

    def counts(self, queues: Sequence[str]) -> dict[str, QueueCounts]:
        """Return the counts of *queues*."""

        def step(cursor: Cursor) -> dict[str, QueueCounts]:
            cursor.execute(
                f"""
                SELECT queue, count(*) FILTER (WHERE {_PLACES[Place.READY][0]}) AS ready,
                    count(*) FILTER (WHERE {_PLACES[Place.DELAYED][0]}) AS delayed,
                    count(*) FILTER (WHERE place = 'leased') AS leased, count(*) FILTER (WHERE place = 'dead') AS dead,
                    {NOW} - min(due) FILTER (WHERE {_PLACES[Place.READY][0]}) AS oldest_age
                FROM message WHERE queue = ANY(%s) GROUP BY queue
                """,
                (list(queues),),
            )
            found = {row.pop("queue"): QueueCounts(**row) for row in map(dict, cursor.fetchall())}
            return {queue: found.get(queue, QueueCounts()) for queue in queues}

        return self._database.run(step)

    def peek(self, queue: str, *, place: Place, limit: int = 100, cursor: str | None = None) -> Page[Stored]:
        """Return messages in *place*."""
        where, order = _PLACES[place]
        after = json.loads(cursor) if cursor else None
        behind = f"AND ({', '.join(order)}) > ({', '.join(['%s'] * len(order))})" if after else ""

        def step(step: Cursor) -> Page[Stored]:
            keys = ", ".join(f"{key} AS key{number}" for number, key in enumerate(order))
            found = f"SELECT *, {keys} FROM message WHERE queue = %s AND {where} {behind}"
            step.execute(f"{found} ORDER BY {', '.join(order)} LIMIT %s", (queue, *(after or ()), limit + 1))
            rows = step.fetchall()
            items = rows[:limit]
            last = json.dumps([items[-1][f"key{number}"] for number in range(len(order))]) if items else None
            shown = tuple(messages.stored_of(row, place) for row in items)
            return Page(items=shown, cursor=last if len(rows) > limit else None)

        return self._database.run(step)

    def find(self, queue: str, ids: Sequence[str]) -> list[Stored]:
        """Return the messages among *ids*, by the primary key: the base body reads the whole queue."""

        def step(step: Cursor) -> list[Stored]:
            found = f"SELECT *, due > {NOW} AS is_late FROM message WHERE queue = %s AND id = ANY(%s)"
            step.execute(f"{found} AND place <> 'gone'", (queue, list(ids)))
            return [messages.stored_of(row, _place_of(row["place"], late=row["is_late"])) for row in step.fetchall()]

        return self._database.run(step)

    def requeue(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        """Replay dead letters."""

        def step(cursor: Cursor) -> list[str]:
            replayed = messages.requeue(cursor, queue, ids)
            self._tell(cursor, {queue} if replayed else ())
            return replayed

        return self._database.run(step)

    def remove(self, queue: str, ids: Sequence[str], *, place: Place | None = None) -> list[str]:
        """Take messages out by id; leased ones stay."""
        if place is Place.LEASED:
            return []
        where = "place = 'waiting'" if place is None else _PLACES[place][0]
        return self._database.run(lambda cursor: self._drop(cursor, queue, f"{where} AND id = ANY(%s)", list(ids)))

    def purge(self, queue: str, *, place: Place = Place.READY) -> int:
        """Take all messages in *place* out; of leased ones the holders lose their lease."""
        return len(self._database.run(lambda cursor: self._drop(cursor, queue, _PLACES[place][0])))

    def _drop(self, cursor: Cursor, queue: str, where: str, *values: object) -> list[str]:
        cursor.execute(f"SELECT id FROM message WHERE queue = %s AND {where} FOR UPDATE", (queue, *values))
        ids = [str(row["id"]) for row in cursor.fetchall()]
        for id in ids:
            messages.drop(cursor, queue, id)
        return ids

    def interrupt(self) -> None:
        """Make a ``receive`` that waits return; if none does, the next one that would."""
        self._interrupts += 1
        with suppress(QueuekitError):  # a receive that waits for a server that is gone ends by itself
            self._database.run(lambda cursor: self._database.tell(cursor, {f"stop {self._name}"}))

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def _tell(self, cursor: Cursor, queues: Iterable[str]) -> None:
        self._database.tell(cursor, {f"queue {queue}" for queue in queues})

    def _check_sizes(self, envelopes: Sequence[Envelope]) -> None:
        """Refuse bodies above the limit before anything has happened."""
        for envelope in envelopes:
            if len(envelope.body) > self.limits.max_body:
                raise TooLargeError(
                    f"the body of message {envelope.id} has {len(envelope.body):,} bytes, above the limit"
                )


def _queues_of(settlements: Sequence[Settlement]) -> set[str]:
    """Return the queues on which *settlements* may put something."""
    return {each.envelope.queue if isinstance(each, Retry) else each.delivery.queue for each in settlements}


def _envelopes_of(item: CommitItem) -> list[Envelope]:
    """Return what *item* may send."""
    carried = [envelope for join in item.joins for envelope in join.then if isinstance(envelope, Envelope)]
    return [*item.sends, *carried]


def _place_of(place: str, *, late: bool) -> Place:
    """Return the place of a row of ``message``."""
    if place == "waiting":
        return Place.DELAYED if late else Place.READY
    return Place.DEAD if place == "dead" else Place.LEASED
