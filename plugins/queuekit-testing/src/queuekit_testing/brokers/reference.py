"""A small model of a broker: the place of each message, and their order."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import attrs

from queuekit.broker import Ack, Capabilities, Dead, Delivery, Place, QueueCounts, Release, Replace, Settlement, Stored
from queuekit.envelope import Envelope

__all__ = ["Item", "Model"]


@attrs.define(eq=False)
class Item:
    """The expected state of a message."""

    envelope: Envelope
    place: Place
    turn: int
    """Position among the messages of its priority."""
    number: int = 0
    crashes: int = 0
    token: str = ""
    anew: bool = False
    """Whether the count of its deliveries may restart, after a retry or replay."""
    keyed: bool = False
    """Whether it holds its unique key."""

    @property
    def order(self) -> tuple[int, int]:
        """Sort key among the messages in its place."""
        return (0 if self.place is Place.DEAD else -self.envelope.priority), self.turn


class Model:
    """The queues of a broker, without time: no delay or lease ends during the comparison.

    Args:
        can: Capabilities that the broker declares.
    """

    def __init__(self, can: Capabilities) -> None:
        self._fifo = can.fifo
        self.items: dict[tuple[str, str], Item] = {}
        self.past: dict[tuple[str, str], Envelope] = {}
        """The last envelope of each finished message."""
        self._turn = itertools.count().__next__

    # -- what is asked -------------------------------------------------------------------------------------------

    def inside(self, queue: str, place: Place) -> list[Item]:
        """Return the messages of *queue* in *place*, next first."""
        found = [item for (name, _), item in self.items.items() if name == queue and item.place is place]
        return sorted(found, key=lambda item: item.order)

    def counts(self, queue: str) -> QueueCounts:
        """Return the number of messages in each place."""
        sizes: dict[str, Any] = {place.value: len(self.inside(queue, place)) for place in Place}
        return QueueCounts(**sizes)

    def held(self, delivery: Delivery) -> Item | None:
        """Return the message of *delivery* if its lease is valid."""
        item = self.items.get((delivery.queue, delivery.id))
        holds = item is not None and item.place is Place.LEASED and item.token == delivery.token
        return item if holds else None

    def holder(self, envelope: Envelope) -> str | None:
        """Return the id of the message that holds the unique key of *envelope*."""
        keys = [item for item in self.items.values() if item.keyed and item.envelope.unique == envelope.unique]
        return keys[0].envelope.id if keys else None

    # -- what is done --------------------------------------------------------------------------------------------

    def send(self, envelope: Envelope) -> str:
        """Add a message and return its id, or the id of the message that holds its unique key."""
        name = (envelope.queue, envelope.id)
        known = self.items[name].envelope if name in self.items else self.past.get(name)
        if known is not None and _step(envelope) <= _step(known):
            return envelope.id
        if envelope.unique is not None and (holder := self.holder(envelope)) is not None:
            return holder
        place = Place.DELAYED if envelope.delay > 0 else Place.READY
        self.items[name] = Item(envelope, place, self._turn(), keyed=envelope.unique is not None)
        return envelope.id

    def claim(self, delivery: Delivery) -> None:
        """Compare a delivery with its message, and record its lease."""
        item = self.items.get((delivery.queue, delivery.id))
        assert item is not None, f"{delivery.id} was delivered, but should be gone"
        assert item.place is Place.READY, f"{delivery.id} was delivered, but is {item.place.value}"
        assert _seen(delivery.envelope) == _seen(item.envelope), "the message has changed"
        assert delivery.crashes == item.crashes, "the number of crashes is wrong"
        assert delivery.number == item.number + 1 or (item.anew and delivery.number == 1), "the number is wrong"
        assert delivery.token != item.token, "two leases of one message have the same token"
        item.place, item.number, item.token, item.anew = Place.LEASED, delivery.number, delivery.token, False

    def in_turn(self, queue: str, deliveries: Iterable[Delivery]) -> None:
        """Compare the order of *deliveries* with the expected one, before they are claimed here."""
        if not self._fifo:
            return
        ids = [delivery.id for delivery in deliveries]
        expected = [item.envelope.id for item in self.inside(queue, Place.READY)]
        assert ids == expected[: len(ids)], "messages arrived out of order"

    def settle(self, settlement: Settlement) -> bool:
        """Apply a settlement, and return whether its lease was valid."""
        item = self.held(settlement.delivery)
        if item is None:
            return False
        if isinstance(settlement, Ack):
            self.past[item.envelope.queue, item.envelope.id] = item.envelope
            self.drop(item)
        elif isinstance(settlement, Release):
            item.crashes += settlement.counted
            item.place = Place.DELAYED if settlement.delay else Place.READY
        elif isinstance(settlement, Replace):
            item.envelope, item.crashes, item.turn, item.anew = settlement.envelope, 0, self._turn(), True
            item.place = Place.DELAYED if settlement.envelope.delay else Place.READY
        else:
            assert isinstance(settlement, Dead)
            item.place, item.turn, item.keyed = Place.DEAD, -self._turn(), False
        return True

    def drop(self, item: Item) -> None:
        """Delete a message."""
        del self.items[item.envelope.queue, item.envelope.id]

    def replay(self, item: Item) -> None:
        """Replay a dead letter."""
        old = item.envelope
        item.envelope = attrs.evolve(old, generation=old.generation + 1, attempt=0, hop=0)
        item.place, item.crashes, item.turn, item.anew = Place.READY, 0, self._turn(), True

    def compare(self, queue: str, place: Place, stored: Iterable[Stored]) -> None:
        """Compare the result of ``peek`` with the expected messages, in order if the broker promises one."""
        shown = [each.envelope.id for each in stored]
        wanted = [item.envelope.id for item in self.inside(queue, place)]
        ordered = place is Place.DEAD or (place is Place.READY and self._fifo)
        assert shown == wanted if ordered else sorted(shown) == sorted(wanted), f"{place.value}: {shown} != {wanted}"


def _step(envelope: Envelope) -> tuple[int, int, int]:
    return envelope.generation, envelope.attempt, envelope.hop


def _seen(envelope: Envelope) -> tuple[object, ...]:
    """Return the fields of an envelope that must come back; a delay is used up."""
    return envelope.id, envelope.queue, envelope.body, envelope.priority, _step(envelope)
