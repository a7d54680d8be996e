"""Knows what a broker holds that does not report its messages: a test sends and settles all of them itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from queuekit.backend import Page
from queuekit.broker import Ack, Broker, Delivery, Place, Release, Replace, Settlement, Stored
from queuekit.clock import Clock
from queuekit.engines.wrapping import WrappedBroker
from queuekit.envelope import Envelope
from queuekit.errors import PartialSendError

__all__ = ["WithLedger"]

_WAIT = 2.0
"""Seconds to wait for a message that is due: the service may need a moment to hand it out."""
_LIMIT = 1_000
"""Most messages of earlier tests to delete before one of this test."""


class WithLedger(WrappedBroker):
    """A broker that reports what was sent through it.

    It deletes what it receives and did not send: an earlier test has left that.

    Args:
        broker: Keeps the messages.
        clock: Tells what is due.
    """

    def __init__(self, broker: Broker, clock: Clock) -> None:
        super().__init__(broker)
        self._clock = clock
        self._here: dict[str, Stored] = {}
        self._names: set[str] = set()
        self.capabilities = attrs.evolve(broker.capabilities, inspect=True)

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Send, and note what was sent."""
        self._names.update(envelope.queue for envelope in envelopes)
        try:
            ids = self._broker.send(envelopes)
        except PartialSendError as error:
            self._note_all([envelope for envelope in envelopes if envelope.id not in error.failures])
            raise
        self._note_all([envelope for envelope, id in zip(envelopes, ids, strict=True) if id == envelope.id])
        return ids

    def _note_all(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            self._note(envelope)

    def _note(self, envelope: Envelope) -> None:
        now = self._clock.time()
        due = max(now + envelope.delay, envelope.not_before or 0.0)
        place = Place.DELAYED if due > now else Place.READY
        self._here[envelope.id] = Stored(envelope=envelope, place=place, due=due, sent_at=now)

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Receive messages of this test."""
        for _ in range(_LIMIT):
            patience = max(wait, _WAIT) if self._has_due(queues) else wait
            found = self._broker.receive(queues, limit=limit, wait=patience, lease=lease)
            foreign = [one for one in found if one.id not in self._here]
            self._broker.settle([Ack(one) for one in foreign])
            own = [one for one in found if one.id in self._here]
            for one in own:
                self._put(one.id, Place.LEASED)
            if own or not found:
                return own
        return []

    def _has_due(self, queues: Sequence[str]) -> bool:
        now = self._clock.time()
        waiting = (one for one in self._here.values() if one.place is not Place.LEASED)
        return any(one.due <= now and one.envelope.queue in queues for one in waiting)

    def _put(self, id: str, place: Place, *, due: float | None = None) -> None:
        stored = self._here[id]
        self._here[id] = attrs.evolve(stored, place=place, due=stored.due if due is None else due)

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Settle, and note what became of each message."""
        lost = self._broker.settle(settlements)
        tokens = {one.token for one in lost}
        for each in settlements:
            if each.delivery.token in tokens or each.delivery.id not in self._here:
                continue
            if isinstance(each, Replace):
                self._note(each.envelope)
            elif isinstance(each, Release):
                place = Place.DELAYED if each.delay > 0 else Place.READY
                self._put(each.delivery.id, place, due=self._clock.time() + each.delay)
            else:
                del self._here[each.delivery.id]
        return lost

    def queues(self) -> list[str]:
        """Return the names of the queues to which this test has sent."""
        return sorted(self._names)

    def walk(self, queue: str, place: Place, *, page_size: int = 500) -> Iterator[Stored]:
        """Yield all messages in *place*."""
        if place is Place.DEAD:
            return self._broker.walk(queue, place, page_size=page_size)
        return Broker.walk(self, queue, place, page_size=page_size)

    def peek(self, queue: str, *, place: Place, limit: int = 100, cursor: str | None = None) -> Page[Stored]:
        """Return messages in *place*, the first due first; all of them on one page."""
        if place is Place.DEAD:
            return self._broker.peek(queue, place=place, limit=limit, cursor=cursor)
        now = self._clock.time()
        found = [one for one in self._here.values() if one.envelope.queue == queue and _place(one, now) is place]
        return Page(items=tuple(sorted(found, key=lambda one: one.due)), cursor=None)

    def find(self, queue: str, ids: Sequence[str]) -> list[Stored]:
        """Return the messages among *ids*, in any place."""
        known = [self._here[id] for id in dict.fromkeys(ids) if id in self._here]
        return [*(one for one in known if one.envelope.queue == queue), *self._broker.find(queue, ids)]


def _place(stored: Stored, now: float) -> Place:
    return Place.READY if stored.place is Place.DELAYED and stored.due <= now else stored.place
