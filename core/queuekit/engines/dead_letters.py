"""Dead letters for a broker that keeps none: records of the result backend, with reason, error and body."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from typing import Any

import attrs

from queuekit.backend import Backend, Condition, Page, Record
from queuekit.broker import Broker, Dead, Delivery, Place, QueueCounts, Settlement, Stored, beyond
from queuekit.engines.wrapping import WrappedBroker
from queuekit.envelope import Envelope, Lane, Unique, join_frame, split_frame
from queuekit.errors import DecodeError
from queuekit.values import frozen

__all__ = ["WithDeadLetters"]

_HEADER_ROOM = 16_000
"""Bytes of a record that its header may take beside the body."""
_IN_ORDER = 10_000
"""Dead letters of a queue that are put in order, and counted."""
_FIRST, _AT_ONCE = 20, 100
"""Dead letters to read at first, and the most that are read, sent or deleted in one call."""
_GENERATION = 32
"""Bits by which the generation is shifted in a rank."""
_ANEW: dict[str, Any] = {"attempt": 0, "hop": 0, "delay": 0.0, "not_before": None}
"""Fields of a message that is replayed."""
_TEXTS = ("id", "queue", "reason", "holder", "error")
_COUNTS = ("priority", "attempt", "generation", "hop", "number", "crashes")
_MOMENTS = ("delay", "not_before", "expires", "died_at", "sent_at")
_FACTS = ("reason", "holder", "error", "died_at", "sent_at", "number", "crashes")
"""Fields that are not the envelope's."""
_LARGEST = 2**53 - 1
"""Largest number in a record."""
_NOT_KEPT = "the body was too large to be kept; "


@frozen
class _DeadRecord:
    """What a record says."""

    key: str
    stored: Stored
    whole: bool
    """Whether the body was kept."""


class WithDeadLetters(WrappedBroker):
    """A broker that also keeps dead letters (``capabilities.dead_letters``).

    The record is written before the message leaves its queue, so a crash in between loses nothing. A body that is too
    large for a record is not kept: such a dead letter is shown, and cannot be replayed.

    Args:
        broker: Keeps the other messages.
        backend: Keeps the dead letters, each as a record ``dead:<hash of queue>:<hash of id>``; it can scan.
    """

    def __init__(self, broker: Broker, backend: Backend) -> None:
        super().__init__(broker)
        self._backend = backend
        self._room = backend.limits.max_record - _HEADER_ROOM
        self.capabilities = attrs.evolve(broker.capabilities, dead_letters=True, commit=False)
        self.limits = attrs.evolve(broker.limits, dead_in_order=_IN_ORDER)

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Record what dies, then carry out *settlements*."""
        dead = [each for each in settlements if isinstance(each, Dead)]
        if not dead:
            return self._broker.settle(settlements)
        now = self._backend.now() or time.time()
        records: list[Record] = []
        for each in dead:
            records.append(self._record(each, now))
            now = math.nextafter(now, math.inf)  # so that they stay in order, even within a batch
        written = self._backend.put(records, condition=Condition.NEWER)
        lost = self._broker.settle(settlements)
        tokens = {one.token for one in lost}
        outcomes = zip(dead, records, written, strict=True)
        alive = [record.key for each, record, yes in outcomes if yes and each.delivery.token in tokens]
        if alive:
            self._backend.delete(alive)
        return lost

    def counts(self, queues: Sequence[str]) -> dict[str, QueueCounts]:
        """Return the counts of *queues*, with up to 10,000 of the dead letters that are kept here."""
        return {name: self._with_dead(name, each) for name, each in self._broker.counts(queues).items()}

    def _with_dead(self, queue: str, counts: QueueCounts) -> QueueCounts:
        dead = len(next(self._keys(queue), []))
        at_least = counts.at_least - {Place.DEAD} | ({Place.DEAD} if dead == _IN_ORDER else frozenset())
        return attrs.evolve(counts, dead=dead, at_least=at_least)

    def peek(self, queue: str, *, place: Place, limit: int = 100, cursor: str | None = None) -> Page[Stored]:
        """Return messages in *place*; dead letters latest first, of those that are put in order."""
        if place is not Place.DEAD:
            return self._broker.peek(queue, place=place, limit=limit, cursor=cursor)
        start, keys = int(cursor or 0), next(self._keys(queue), [])
        items = tuple(each.stored for each in self._read(keys[start : start + limit]))
        return Page(items=items, cursor=str(start + limit) if len(keys) > start + limit else None)

    def walk(self, queue: str, place: Place, *, page_size: int = 500) -> Iterator[Stored]:
        """Yield all messages in *place*; dead letters in parts, each latest first."""
        if place is not Place.DEAD:
            yield from self._broker.walk(queue, place, page_size=page_size)
            return
        size = _FIRST
        for keys in self._keys(queue):
            left = keys
            while left:
                yield from (each.stored for each in self._read(left[:size]))
                left, size = left[size:], _AT_ONCE

    def seek_dead(self, queue: str, ids: Sequence[str] | None = None) -> Generator[Stored, None, None]:
        """Yield dead letters (all, or *ids*)."""
        return Broker.seek_dead(self, queue, ids)

    def find(self, queue: str, ids: Sequence[str]) -> list[Stored]:
        """Return those of *ids* that are dead letters or, where the broker shows messages, elsewhere."""
        waiting = self._broker.find(queue, ids) if self._broker.capabilities.inspect else []
        return [*waiting, *(each.stored for each in self._chosen(queue, ids))]

    def requeue(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        """Send dead letters (all, or *ids*) again, oldest first, and delete their records."""
        keys = self._all(queue) if ids is None else [each.key for each in self._chosen(queue, ids)]
        keys.reverse()
        replayed: list[str] = []
        for first in range(0, len(keys), _AT_ONCE):
            part = [each for each in self._read(keys[first : first + _AT_ONCE]) if each.whole]
            if part:
                self._broker.send([_replayed(each.stored.envelope) for each in part])
                self._backend.delete([each.key for each in part])
            replayed += [each.stored.envelope.id for each in part]
        return replayed

    def remove(self, queue: str, ids: Sequence[str], *, place: Place | None = None) -> list[str]:
        """Take messages out by id."""
        if place is not Place.DEAD:
            return self._broker.remove(queue, ids, place=place)
        found = self._chosen(queue, ids)
        self._backend.delete([each.key for each in found])
        return [each.stored.envelope.id for each in found]

    def dead_beyond(self, queue: str, *, count: int | None, before: float | None, limit: int = 500) -> list[str]:
        """Return the ids of dead letters beyond the bounds, oldest first."""
        found = (each.stored for each in map(_read, self._backend.walk(_prefix(queue))) if each)
        dead = sorted((stored.died_at or 0.0, stored.envelope.id) for stored in found)
        return beyond(dead, count=count, before=before)[:limit]

    def purge(self, queue: str, *, place: Place = Place.READY) -> int:
        """Take all messages in *place* out."""
        if place is not Place.DEAD:
            return self._broker.purge(queue, place=place)
        return self._backend.delete(self._all(queue))

    # -- records

    def _record(self, settlement: Dead, now: float) -> Record:
        delivery, envelope = settlement.delivery, settlement.delivery.envelope
        whole = len(envelope.body) <= self._room
        header: dict[str, Any] = {
            **attrs.asdict(attrs.evolve(envelope, body=b"")),
            "reason": settlement.reason,
            "holder": settlement.holder,
            "error": settlement.error if whole else _NOT_KEPT + settlement.error,
            "died_at": now,
            "sent_at": delivery.sent_at,
            "number": delivery.number,
            "crashes": delivery.crashes,
            "whole": whole,
        }
        del header["body"]
        rank = (envelope.generation << _GENERATION) + envelope.attempt
        return Record(
            key=_prefix(envelope.queue) + _hash(envelope.id),
            body=join_frame(header, envelope.body if whole else b""),
            ttl=self._broker.limits.dead_retention,
            rank=min(rank, _LARGEST),
            state=settlement.reason,
            at=now,
        )

    def _keys(self, queue: str) -> Iterator[list[str]]:
        """Yield the keys of all dead letters of *queue* in parts, each latest first; no body stays in memory."""
        found = (each for each in map(_read, self._backend.walk(_prefix(queue))) if each)
        times = ((each.stored.died_at or 0.0, each.key) for each in found)
        while part := list(islice(times, _IN_ORDER)):
            yield [key for _, key in sorted(part, key=lambda one: one[0], reverse=True)]

    def _all(self, queue: str) -> list[str]:
        return [key for part in self._keys(queue) for key in part]

    def _chosen(self, queue: str, ids: Sequence[str]) -> list[_DeadRecord]:
        """Return those of *ids* that are dead letters of *queue*, latest first."""
        found = self._read([_prefix(queue) + _hash(id) for id in dict.fromkeys(ids)])
        return sorted(found, key=lambda each: each.stored.died_at or 0.0, reverse=True)

    def _read(self, keys: Sequence[str]) -> list[_DeadRecord]:
        """Return the dead letters with these *keys*, in order; leave out those that are gone."""
        records: dict[str, Record] = {}
        for first in range(0, len(keys), _AT_ONCE):
            records |= self._backend.get(keys[first : first + _AT_ONCE])
        found = (_read(records[key]) for key in keys if key in records)
        return [each for each in found if each is not None]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _prefix(queue: str) -> str:
    return f"dead:{_hash(queue)}:"


def _read(record: Record) -> _DeadRecord | None:
    """Return what a record says; ``None`` if this class cannot have written it."""
    try:
        header, body = split_frame(record.body)
        whole, unique = header.pop("whole"), header.pop("unique")
        if not _is_own(header) or not (unique is None or _is_own_key(unique)):
            return None
        rest = {name: header.pop(name) for name in _FACTS}
        lane = header.pop("lane", None)
        envelope = Envelope(
            **header, body=body, unique=Unique(**unique) if unique else None, lane=Lane(**lane) if lane else None
        )
    except (DecodeError, KeyError, TypeError):
        return None
    return _DeadRecord(record.key, Stored(envelope=envelope, place=Place.DEAD, **rest), whole=whole is True)


def _is_own(header: dict[str, Any]) -> bool:
    """Return whether the values have the types that :meth:`WithDeadLetters._record` writes."""
    moments = [header[name] for name in _MOMENTS if header[name] is not None]
    return (
        all(isinstance(header[name], str) for name in _TEXTS)
        and all(type(header[name]) is int and 0 <= header[name] <= _LARGEST for name in _COUNTS)
        and all(type(value) in {int, float} and 0 <= value <= _LARGEST for value in moments)
    )


def _is_own_key(unique: dict[str, Any]) -> bool:
    """Return whether the values are those of a unique key."""
    known = isinstance(unique["key"], str) and unique["until"] in {"start", "done", "ttl"}
    return known and type(unique["ttl"]) in {int, float} and 0 <= unique["ttl"] <= _LARGEST


def _replayed(envelope: Envelope) -> Envelope:
    return attrs.evolve(envelope, generation=envelope.generation + 1, **_ANEW)
