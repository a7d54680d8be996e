"""Batches: a call treats each message of a batch like a single one, and handles no more than it was asked."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from queuekit.broker import Ack, Broker, Delivery, Release, Replace, Settlement
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.kit import needs

__all__ = ["BatchesTests"]

_LARGEST_TRIED = 250
"""Most messages that a test sends at once: more than services accept in one request, so that the client splits them."""
TWICE: dict[str, tuple[Callable[[Delivery], list[Settlement]], int]] = {
    "ack-first": (lambda one: [Ack(one), Release(one)], 0),
    "release-first": (lambda one: [Release(one), Ack(one)], 1),
    "retry-first": (lambda one: [Replace(one, attrs.evolve(one.envelope, attempt=1)), Release(one)], 1),
}
"""Settlements of one lease in one batch, and how many messages are ready afterwards."""


class BatchesTests(BrokerKit):
    """QK8 and the limits of batches."""

    def test_takes_its_largest_batch(self, broker: Broker, queue: str) -> None:
        """Batches of ``limits.max_batch`` messages, at most 250, can be sent, claimed, extended and settled at once."""
        batch = self.messages(queue, min(broker.limits.max_batch, _LARGEST_TRIED))
        ids = sorted(envelope.id for envelope in batch)

        sent = broker.send(batch)
        deliveries = self.take(broker, queue, len(batch))
        lost = broker.extend([delivery.lease for delivery in deliveries], lease=self.long)
        self.do(broker, *[Release(delivery) for delivery in deliveries])
        again = self.take(broker, queue, len(batch))
        self.do(broker, *[Ack(delivery) for delivery in again])

        assert (sorted(sent), lost) == (ids, [])
        assert [sorted(each.id for each in taken) for taken in (deliveries, again)] == [ids, ids]
        assert self.look(broker, queue) == []

    def test_takes_no_more_than_asked_from_all_queues_together(self, broker: Broker) -> None:
        """The limit of a ``receive`` applies to all of its queues together."""
        names = [self.new_queue() for _ in range(3)]
        batch = [self.message(name) for name in names for _ in range(3)]
        broker.send(batch)

        taken = broker.receive(names, limit=2, wait=self.short, lease=self.long)

        assert 1 <= len(taken) <= 2
        rest = [each for name in names for each in self.left(broker, name, 3, taken)]
        assert sorted(each.id for each in (*taken, *rest)) == sorted(envelope.id for envelope in batch)

    def left(self, broker: Broker, queue: str, count: int, taken: list[Delivery]) -> list[Delivery]:
        """Take the messages that are left of *count* in *queue* after *taken*."""
        left = count - sum(delivery.queue == queue for delivery in taken)
        return self.take(broker, queue, left) if left else []

    def test_takes_nothing_where_nothing_is_asked(self, broker: Broker, queue: str) -> None:
        """A ``receive`` with a limit of 0 claims nothing, even if messages are ready: it only does the upkeep."""
        envelope = self.message(queue)
        broker.send([envelope])

        taken = broker.receive([queue], limit=0, wait=0, lease=self.long)

        assert taken == []
        assert self.take_one(broker, queue).id == envelope.id

    def test_ends_every_lease_of_a_batch(self, broker: Broker, queue: str) -> None:
        """Each message of a batch comes back when its lease has ended."""
        batch = self.messages(queue, 3)
        broker.send(batch)
        self.take(broker, queue, 3, lease=self.short)

        again = self.take(self.connect(), queue, 3)

        assert sorted(delivery.id for delivery in again) == sorted(envelope.id for envelope in batch)
        assert [delivery.crashes for delivery in again] == [1, 1, 1]

    def test_extends_every_lease_of_a_batch(self, broker: Broker, queue: str) -> None:
        """``extend`` extends all leases of a batch, even after one that is lost."""
        done = self.sent_and_taken(broker, self.message(queue))
        self.do(broker, Ack(done))
        spans = self.leases()
        while True:
            lease = next(spans)
            broker.send(self.messages(queue, 3))
            held = self.take(broker, queue, 3, lease=lease.seconds)
            lost = broker.extend([done.lease, *(delivery.lease for delivery in held)], lease=self.long)
            if lease.holds():
                break
            broker.settle([Ack(delivery) for delivery in held])

        assert set(lost) <= {done.lease}
        assert self.look(self.connect(), queue, wait=lease.rest) == []
        self.do(broker, *[Ack(delivery) for delivery in held])

    @needs("fenced_ack")
    @pytest.mark.parametrize("way", TWICE)
    def test_settles_once_what_a_batch_names_twice(self, broker: Broker, queue: str, way: str) -> None:
        """If a batch settles one lease twice, the first settlement is applied and the second changes nothing."""
        settlements, ready = TWICE[way]
        delivery = self.sent_and_taken(broker, self.message(queue))

        broker.settle(settlements(delivery))

        assert self.look(broker, queue, wait=self.short) == [delivery.id] * ready
        assert self.look(broker, queue) == []
