"""Brokers that are right for one message at a time, and wrong on purpose for many; see also ``broker_defects``."""

# The docstring of a class says what each of its methods does wrong.
# ruff: noqa: D102
# pyright: reportPrivateUsage=false

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

import attrs

from queuekit.backend import Condition, Page
from queuekit.broker import CommitItem, Delivery, Lease, Place, Replace, Settlement, Stored
from queuekit.envelope import Envelope
from support.broker_defects import Defective


class LimitPerQueue(Defective):
    """Takes as many as asked from each queue."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = [
            each
            for queue in queues
            for each in super(LimitPerQueue, self).receive([queue], limit=limit, wait=0, lease=lease)
        ]
        return found or super().receive(queues, limit=limit, wait=wait, lease=lease)


class UpkeepTakes(Defective):
    """Takes a limit of 0 for none at all."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        return super().receive(queues, limit=limit or 10, wait=wait, lease=lease)


class LeasesTheFirst(Defective):
    """Lets the lease end of the first message of a batch alone."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        super().extend([each.lease for each in found[1:]], lease=1e6)
        return found


class ExtendsTheFirst(Defective):
    """Extends the first lease of a batch alone."""

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        held = {entry.token for one in leases for entry in self.entries(one.queue) if entry.place is Place.LEASED}
        super().extend(leases[:1], lease=lease)
        return [one for one in leases if one.token not in held]


class StopsExtending(Defective):
    """Gives up on a batch at its first lost lease."""

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        for one in leases:
            if lost := super().extend([one], lease=lease):
                return lost
        return []


class SettlesBothOfABatch(Defective):
    """Looks at all fences of a batch first, and settles then."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        seen: set[str] = set()
        for each in settlements:
            if each.delivery.token in seen:
                super().send([attrs.evolve(each.delivery.envelope, generation=each.delivery.envelope.generation + 1)])
            seen.add(each.delivery.token)
        return super().settle(settlements)


class SmallBatches(Defective):
    """Settles less than its limits say."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        return super().settle(settlements[:100])


class PagesByDue(Defective):
    """Goes on behind the time of a page's last message, and loses the others of that time."""

    def peek(self, queue: str, *, place: Place, limit: int = 100, cursor: str | None = None) -> Page[Stored]:
        if place is Place.READY or place is Place.DEAD:
            return super().peek(queue, place=place, limit=limit, cursor=cursor)
        items = super().peek(queue, place=place, limit=10_000).items
        rest = [item for item in items if item.due > (json.loads(cursor) if cursor else 0.0)]
        more = len(rest) > limit
        return Page(items=tuple(rest[:limit]), cursor=json.dumps(rest[limit - 1].due) if more else None)


class PagesByLevel(Defective):
    """Begins with each page at the most urgent messages again."""

    def peek(self, queue: str, *, place: Place, limit: int = 100, cursor: str | None = None) -> Page[Stored]:
        items = super().peek(queue, place=place, limit=10_000).items
        start = len([item for item in items if item.envelope.priority > json.loads(cursor)]) if cursor else 0
        more = start + limit < len(items)
        last = json.dumps(items[start + limit - 1].envelope.priority) if more else None
        return Page(items=items[start : start + limit], cursor=last)


# -- waiting -------------------------------------------------------------------------------------------------------


class _One:
    """Wakes whoever has waited longest, instead of all."""

    def __init__(self, condition: threading.Condition) -> None:
        self._condition: Any = condition

    def notify_all(self) -> None:
        self._condition.notify(1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._condition, name)

    def __enter__(self) -> object:
        return self._condition.__enter__()

    def __exit__(self, *error: object) -> None:
        self._condition.__exit__(*error)


class WakesOne(Defective):
    """Wakes one of those who wait, whatever it waits for, and once for a batch."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        condition = self._engine.sent
        one: Any = _One(condition)
        self._engine.sent = one
        try:
            return super().send(envelopes)
        finally:
            self._engine.sent = condition


class RetriesQuietly(Defective):
    """Wakes nobody by a retry."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        if not any(isinstance(each, Replace) for each in settlements):
            return super().settle(settlements)
        with self._engine.lock:
            now = self._engine.now()
            return [each.delivery for each in settlements if not self._engine.messages.settle(each, now)]


class OneAtATime(Defective):
    """Lets one call through at a time, as over one connection, also while it waits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._alone = threading.Lock()

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        with self._alone:
            return super().receive(queues, limit=limit, wait=wait, lease=lease)

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        with self._alone:
            return super().extend(leases, lease=lease)


# -- commits -------------------------------------------------------------------------------------------------------


class CommitsByTheStart(Defective):
    """Judges all records of a commit by what was there before it."""

    def commit(self, items: Sequence[CommitItem]) -> list[bool]:
        done = super().commit(items)
        records = self._engine.records
        for item, yes in zip(items, done, strict=True):
            for record in item.records if yes else ():
                records.put(record, Condition.ALWAYS, None, self._engine.now())
        return done


class CommitsById(Defective):
    """Looks for the message of an item, whoever holds it."""

    def commit(self, items: Sequence[CommitItem]) -> list[bool]:
        ids = {item.settlement.delivery.id for item in items if item.settlement is not None}
        done = super().commit(items)
        for item in items if len(ids) < len(items) else ():
            for record in item.records:
                self._engine.records.put(record, Condition.NEWER, None, self._engine.now())
        return done


class CommitsBareRecords(Defective):
    """Keeps of a record in a commit what a result needs, for ever."""

    def _commit_one(self, item: CommitItem, now: float) -> bool:
        bare = tuple(attrs.evolve(record, task=None, ttl=None) for record in item.records)
        return super()._commit_one(attrs.evolve(item, records=bare), now)


class CommitsAtOnce(Defective):
    """Forgets when what a commit sends is due."""

    def _commit_one(self, item: CommitItem, now: float) -> bool:
        due = tuple(attrs.evolve(envelope, delay=0.0) for envelope in item.sends)
        return super()._commit_one(attrs.evolve(item, sends=due), now)


class CommitsQuietly(Defective):
    """Wakes nobody by what a commit puts on a queue."""

    def commit(self, items: Sequence[CommitItem]) -> list[bool]:
        with self._engine.lock:
            now = self._engine.now()
            done = [self._commit_one(item, now) for item in items]
            self._engine.written.notify_all()
        return done
