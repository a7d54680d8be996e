"""Renewals: one call for many leases, and services whose leases have another token after each."""

from __future__ import annotations

from itertools import permutations

import attrs
import pytest

from queuekit.broker import Ack, Broker, Delivery, Lease
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.kit import needs

__all__ = ["RenewalsTests"]


class RenewalsTests(BrokerKit):
    """``renew`` returns the lease to show from now on; its base body calls ``extend``."""

    def shown(self, delivery: Delivery, lease: Lease | None) -> Delivery:
        """Return *delivery* under the lease that ``renew`` returned."""
        assert lease is not None, "a lease that holds was returned as lost"
        assert (lease.queue, lease.id) == (delivery.queue, delivery.id), "the lease of another message was returned"
        return attrs.evolve(delivery, token=lease.token, number=lease.number)

    def test_returns_a_lease_for_each(self, broker: Broker, queue: str) -> None:
        """``renew`` answers in the order of the leases, and what it returns settles the message."""
        broker.send(self.messages(queue, 3))
        taken = self.take(broker, queue, 3)
        usual = (taken, sorted(taken, key=lambda one: one.id))
        held = next(list(order) for order in permutations(taken) if list(order) not in usual)

        renewed = broker.renew([each.lease for each in held], lease=self.long)

        self.do(broker, *[Ack(self.shown(each, lease)) for each, lease in zip(held, renewed, strict=True)])
        assert self.look(broker, queue) == []

    def test_renews_nothing(self, broker: Broker) -> None:
        """No leases, no answers."""
        assert broker.renew([], lease=self.long) == []

    @needs("fenced_ack")
    def test_returns_none_for_a_lost_lease(self, broker: Broker, queue: str) -> None:
        """In the place of the lost lease; those beside it are renewed, and whoever holds the message keeps it."""
        stale, present = self.lapsed(broker, queue)
        good = self.sent_and_taken(broker, self.message(queue))

        lost, renewed = broker.renew([stale.lease, good.lease], lease=self.long)

        assert lost is None
        self.do(broker, Ack(self.shown(good, renewed)), Ack(present))

    def test_ends_a_renewed_lease_as_well(self, broker: Broker, queue: str) -> None:
        """A renewal counts from now: the first, long lease is gone, and what is not renewed again ends."""
        delivery = self.sent_and_taken(broker, self.message(queue))
        broker.renew([delivery.lease], lease=self.short)

        again = self.take_one(self.connect(), queue)

        assert (again.id, again.crashes) == (delivery.id, 1)

    def test_renews_again_and_again(self, broker: Broker, queue: str) -> None:
        """Each renewal takes the lease that the last one returned, and the message stays held."""
        spans = self.leases()
        while True:
            lease = next(spans)
            delivery = self.sent_and_taken(broker, self.message(queue), lease=lease.seconds)
            for _ in range(3):
                (renewed,) = broker.renew([delivery.lease], lease=self.long)
                delivery = self.shown(delivery, renewed)
            if lease.holds():
                break
            broker.settle([Ack(delivery)])

        assert self.look(self.connect(), queue, wait=lease.rest) == []
        self.do(broker, Ack(delivery))

    @needs("fenced_ack")
    def test_refuses_the_token_of_before(self, broker: Broker, queue: str) -> None:
        """Where a renewal changes the token, the old one settles and renews nothing any more."""
        delivery = self.sent_and_taken(broker, self.message(queue))
        (renewed,) = broker.renew([delivery.lease], lease=self.long)
        if renewed == delivery.lease:
            pytest.skip("a renewal keeps the token")

        assert broker.settle([Ack(delivery)]) == [delivery]
        assert broker.renew([delivery.lease], lease=self.short) == [None]
        self.do(broker, Ack(self.shown(delivery, renewed)))
