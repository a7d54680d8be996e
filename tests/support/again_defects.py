"""Brokers that are wrong on purpose about a message that comes again; see also ``broker_defects``."""

# The docstring of a class says what each of its methods does wrong.
# ruff: noqa: D102
# pyright: reportPrivateUsage=false

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import attrs

from queuekit.broker import Ack, Dead, Delivery, Place, Release, Replace, Settlement
from queuekit.engines.memory.queue import Entry
from queuekit.envelope import Envelope
from support.broker_defects import Defective


class Remembering(Defective):
    """The memory broker with a note on each message, for damage that shows later."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        notes: dict[str, Delivery] = self._engine.__dict__.setdefault("notes", {})
        self._notes = notes


class FirstClaimForEver(Remembering):
    """Tells the time of the first claim with each."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [attrs.evolve(each, claimed_at=self._notes.setdefault(each.id, each).claimed_at) for each in found]


class SentAnew(Defective):
    """Takes a release for a send."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        lost = super().settle(settlements)
        for each in settlements:
            for entry in self.entries(each.delivery.queue) if isinstance(each, Release) else ():
                entry.sent_at = time.time()
        return lost


class ForgetsFieldsOnReturn(Defective):
    """Hands a message out again without its fields."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [self.received([each], expires=None)[0] if each.number > 1 else each for each in found]


class DelayForgetsCrashes(Defective):
    """Begins to count anew with a delayed release."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        lost = super().settle(settlements)
        for each in settlements:
            if isinstance(each, Release) and each.delay:
                for entry in self.entries(each.delivery.queue):
                    entry.number = entry.crashes = 0
        return lost


class Milliseconds(Defective):
    """Tells thousandths of a second."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [attrs.evolve(each, sent_at=each.sent_at * 1e3, claimed_at=each.claimed_at * 1e3) for each in found]


class SinceStart(Defective):
    """Tells how long the machine has been running."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        off = time.time() - time.monotonic()
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [attrs.evolve(each, sent_at=each.sent_at - off, claimed_at=each.claimed_at - off) for each in found]


# -- order ---------------------------------------------------------------------------------------------------------


class _Moves(Defective):
    """Moves what has just become ready by itself."""

    came_from = Place.LEASED

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        before = [entry for queue in queues for entry in self.entries(queue) if entry.place is self.came_from]
        super().receive(queues, limit=0, wait=0, lease=lease)
        with self._engine.lock:
            for entry in before:
                if entry.place is Place.READY:
                    self.move(entry)
                    self._engine.messages._queues[entry.envelope.queue].put(entry, Place.READY)
        return super().receive(queues, limit=limit, wait=wait, lease=lease)

    def move(self, entry: Entry) -> None:
        """Give *entry* another place."""
        entry.due = time.time()


class ReclaimsToTheEnd(_Moves):
    """Puts what its holder left behind all others."""


class PromotesToTheEnd(_Moves):
    """Puts what has become due behind all that is ready."""

    came_from = Place.DELAYED


class PromotesToTheFront(_Moves):
    """Puts what has become due before all that is ready."""

    came_from = Place.DELAYED

    def move(self, entry: Entry) -> None:
        entry.due = 0.0


class RetryForgetsTheMoment(Defective):
    """Heeds the delay of a retry, but not its moment."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        return super().settle(
            [
                Replace(s.delivery, attrs.evolve(s.envelope, not_before=None)) if isinstance(s, Replace) else s
                for s in settlements
            ]
        )


# -- once ----------------------------------------------------------------------------------------------------------


class RemembersTheLastStep(Defective):
    """Knows of a message that is done the last step alone."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        for envelope in envelopes:
            queue = self._engine.messages._queues[envelope.queue]
            step = (envelope.generation, envelope.attempt, envelope.hop)
            if envelope.id in queue._gone and queue._gone[envelope.id][0] != step:
                del queue._gone[envelope.id]
        return super().send(envelopes)


class ForgetsWhatWasRemoved(Defective):
    """Does not know the ids any more of what was removed."""

    def remove(self, queue: str, ids: Sequence[str], *, place: Place | None = None) -> list[str]:
        removed = super().remove(queue, ids, place=place)
        self._engine.messages._queues[queue]._gone.clear()
        return removed


class ForgetsWhatWasPurged(Defective):
    """Does not know the ids any more of what was purged."""

    def purge(self, queue: str, *, place: Place = Place.READY) -> int:
        count = super().purge(queue, place=place)
        self._engine.messages._queues[queue]._gone.clear()
        return count


class RaisesTheDead(Defective):
    """Takes the send of a message that has died for a new one."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        for envelope in envelopes:
            super().remove(envelope.queue, [envelope.id], place=Place.DEAD)
            self._engine.messages._queues[envelope.queue]._gone.pop(envelope.id, None)
        return super().send(envelopes)


class FreesAnyKey(Defective):
    """Frees a key by its name, whoever holds it."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        lost = super().settle(settlements)
        for each in settlements:
            unique = each.delivery.envelope.unique
            if unique is not None and unique.until == "done" and isinstance(each, Ack | Dead):
                self._engine.messages._keys._forget(unique.key)
        return lost


# -- mending -------------------------------------------------------------------------------------------------------


class ReplaysAnything(Defective):
    """Makes ready what it is told to, wherever that is."""

    def requeue(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        with self._engine.lock:
            for entry in self.entries(queue):
                if ids is not None and entry.id in ids:
                    self._engine.messages._queues[queue].put(entry, Place.DEAD)
        return super().requeue(queue, ids)


class ReplaysWithoutExpiry(Defective):
    """Drops a field of what it replays."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [self.received([each], expires=None)[0] if each.envelope.generation else each for each in found]


class LeasesWithoutEnd(Defective):
    """Shows of a lease when its message was due."""

    def peek(self, queue: str, *, place: Place, limit: int = 100, cursor: str | None = None) -> Any:
        page = super().peek(queue, place=place, limit=limit, cursor=cursor)
        return attrs.evolve(page, items=tuple(attrs.evolve(each, due=each.sent_at) for each in page.items))


class RemovesWhereTold(Defective):
    """Takes out what is leased, if it is told that place."""

    def remove(self, queue: str, ids: Sequence[str], *, place: Place | None = None) -> list[str]:
        if place is not Place.LEASED:
            return super().remove(queue, ids, place=place)
        with self._engine.lock:
            return self._engine.messages.remove(queue, ids, {Place.LEASED}, self._engine.now())
