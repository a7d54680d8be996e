"""Leases: one holder at a time, a fence against former holders, and recovery when the holder is gone."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs
import pytest

from queuekit.broker import Ack, Broker, Capabilities, Dead, Delivery, Release, Replace, Settlement
from queuekit.envelope import Unique
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.kit import eventually, needs, unique_name

__all__ = ["LeasesTests"]


def _retry(delivery: Delivery) -> Settlement:
    return Replace(delivery, attrs.evolve(delivery.envelope, attempt=delivery.envelope.attempt + 1))


SETTLEMENTS: dict[str, Callable[[Delivery], Settlement]] = {
    "ack": Ack,
    "release": Release,
    "release-counted": lambda delivery: Release(delivery, counted=True),
    "release-delayed": lambda delivery: Release(delivery, delay=5.0),
    "retry": _retry,
    "dead": lambda delivery: Dead(delivery, reason="failed"),
}


class LeasesTests(BrokerKit):
    """QK2 atomic claim, QK3 one lease, QK4 fence, QK6 counted crashes, QK7 idle recovery, QK8 no collateral."""

    def test_hides_what_is_leased(self, broker: Broker, queue: str) -> None:
        """No client receives a leased message, not even the one that holds it."""
        delivery = self.sent_and_taken(broker, self.message(queue))

        assert self.look(self.connect(), queue, wait=self.short) == []
        assert self.look(broker, queue) == []
        self.do(broker, Ack(delivery))

    def test_acknowledges_for_good(self, broker: Broker, queue: str) -> None:
        """An acknowledged message never comes back, not even when its lease would have ended."""
        spans = self.leases()
        while True:
            lease = next(spans)
            delivery = self.sent_and_taken(broker, self.message(queue), lease=lease.seconds)
            broker.settle([Ack(delivery)])
            if lease.holds():
                break

        assert self.look(self.connect(), queue, wait=lease.rest) == []

    def test_gives_back_when_the_lease_ends(self, broker: Broker, queue: str) -> None:
        """A lease that is not settled ends by itself, not early; the next delivery counts a crash."""
        envelope = self.message(queue, body=b"intact \0\xff")
        broker.send([envelope])
        before = time.monotonic()
        first = self.take_one(broker, queue, lease=self.short)

        second = self.take_one(self.connect(), queue)

        assert self.not_early(time.monotonic() - before, self.short)
        assert (second.id, second.envelope.body) == (envelope.id, envelope.body)
        assert (second.number, second.crashes) == (first.number + 1, first.crashes + 1)

    def test_counts_every_crash(self, broker: Broker, queue: str) -> None:
        """Each lease that ends by itself counts one crash, so that poison messages are detected."""
        broker.send([self.message(queue)])
        for _ in range(2):
            self.take_one(broker, queue, lease=self.short)

        third = self.take_one(broker, queue)

        assert (third.number, third.crashes) == (3, 2)

    def test_tells_when_it_was_sent_and_claimed(self, broker: Broker, queue: str) -> None:
        """``sent_at`` is the same in every delivery of a message; ``claimed_at`` is the time of each claim."""
        spans = self.leases()
        while True:
            lease = next(spans)
            first = self.sent_and_taken(broker, self.message(queue), lease=lease.seconds)
            if lease.holds():
                break
            broker.settle([Ack(first)])
        self.let_pass(lease.rest)

        second = self.take_one(broker, queue)
        self.do(broker, Release(second))
        third = self.take_one(broker, queue)

        assert first.sent_at == second.sent_at == third.sent_at
        assert self.not_early(second.claimed_at - first.claimed_at, lease.seconds)
        assert third.claimed_at >= second.claimed_at - broker.limits.lease_granularity

    @pytest.mark.parametrize("way", ["released", "lapsed"])
    def test_returns_every_field_again(self, broker: Broker, queue: str, declared: Capabilities, way: str) -> None:
        """A message that is delivered again has the same fields."""
        envelope = self.message(
            queue,
            body=bytes(range(256)),
            priority=7 if declared.priority else 4,
            expires=9_999_999_999.5,
            attempt=3,
            generation=2,
            hop=1,
            unique=Unique(key=unique_name("key"), ttl=3_600.0) if declared.unique else None,
        )
        first = self.sent_and_taken(broker, envelope, lease=self.long if way == "released" else self.short)
        if way == "released":
            self.do(broker, Release(first))

        again = self.take_one(broker, queue)

        assert again.envelope == first.envelope
        assert (again.envelope.expires, again.envelope.unique) == (envelope.expires, envelope.unique)

    def test_recovers_after_its_client_is_closed(self, broker: Broker, queue: str) -> None:
        """The message of a closed client comes back when the lease ends, without other traffic."""
        client = self.connect()
        delivery = self.sent_and_taken(client, self.message(queue), lease=self.short)
        client.close()

        assert self.take_one(broker, queue).id == delivery.id

    @needs("inspect")
    def test_reclaims_in_an_upkeep_alone(self, broker: Broker, queue: str) -> None:
        """``receive`` with limit 0 and wait 0 claims nothing, but makes due messages and ended leases ready."""
        self.sent_and_taken(broker, self.message(queue), lease=self.short)

        def ready() -> bool:
            """The upkeep makes the message ready."""
            assert broker.receive([queue], limit=0, wait=0, lease=self.long) == []
            return broker.counts([queue])[queue].ready == 1

        eventually(ready, timeout=self.patience)

        assert broker.counts([queue])[queue].leased == 0
        assert self.take_one(broker, queue).crashes == 1

    def test_raises_the_number_with_each_claim(self, broker: Broker, queue: str) -> None:
        """The delivery number grows with each claim, and each claim has a new token."""
        broker.send([self.message(queue)])
        claims = []
        for _ in range(4):
            claims.append(self.take_one(broker, queue))
            self.do(broker, Release(claims[-1]))

        assert [claim.number for claim in claims] == [1, 2, 3, 4]
        assert len({claim.token for claim in claims}) == len(claims)

    @needs("fenced_ack")
    @pytest.mark.parametrize("settle", SETTLEMENTS.values(), ids=SETTLEMENTS.keys())
    def test_refuses_a_stale_settlement(
        self, broker: Broker, queue: str, settle: Callable[[Delivery], Settlement]
    ) -> None:
        """A settlement under a lost lease is reported, and does not affect the current holder."""
        stale, present = self.lapsed(broker, queue)

        lost = broker.settle([settle(stale)])

        assert [(delivery.id, delivery.token) for delivery in lost] == [(stale.id, stale.token)]
        assert self.look(broker, queue) == []
        self.do(broker, Ack(present))
        assert self.look(broker, queue) == []

    @needs("fenced_ack")
    @pytest.mark.parametrize("settle", SETTLEMENTS.values(), ids=SETTLEMENTS.keys())
    def test_refuses_a_stale_settlement_beside_the_one_that_holds(
        self, broker: Broker, queue: str, settle: Callable[[Delivery], Settlement]
    ) -> None:
        """A batch may contain a valid and a stale lease of one message; the stale one is not accepted for the other."""
        stale = self.sent_and_taken(broker, self.message(queue))
        self.do(broker, Release(stale))
        present = self.take_one(broker, queue)

        lost = broker.settle([settle(present), settle(stale)])

        assert [(delivery.id, delivery.token) for delivery in lost] == [(stale.id, stale.token)]

    @needs("fenced_ack")
    @pytest.mark.parametrize("settle", SETTLEMENTS.values(), ids=SETTLEMENTS.keys())
    def test_refuses_a_second_settlement(
        self, broker: Broker, queue: str, settle: Callable[[Delivery], Settlement]
    ) -> None:
        """A lease is settled once; a second settlement is reported, and does not bring the message back."""
        delivery = self.sent_and_taken(broker, self.message(queue))
        self.do(broker, Ack(delivery))

        lost = broker.settle([settle(delivery)])

        assert [gone.id for gone in lost] == [delivery.id]
        assert self.look(broker, queue) == []

    @needs("fenced_ack", probe=True)
    def test_refuses_a_token_that_is_made_up(self, broker: Broker, queue: str) -> None:
        """Only the token of the claim is accepted: id and number are not enough."""
        delivery = self.sent_and_taken(broker, self.message(queue))
        forged = attrs.evolve(delivery, token=delivery.token[::-1] + "x")

        assert broker.settle([Ack(forged)]) == [forged]
        assert broker.extend([forged.lease], lease=1.0) == [forged.lease]
        self.do(broker, Ack(delivery))

    def test_extends_a_lease(self, broker: Broker, queue: str) -> None:
        """An extended lease lasts beyond its first end, and is not reported as lost."""
        spans = self.leases()
        while True:
            lease = next(spans)
            delivery = self.sent_and_taken(broker, self.message(queue), lease=lease.seconds)
            lost = broker.extend([delivery.lease], lease=self.long)
            if lease.holds():
                break
            broker.settle([Ack(delivery)])

        assert lost == []
        assert self.look(self.connect(), queue, wait=lease.rest) == []
        self.do(broker, Ack(delivery))

    def test_ends_an_extended_lease_as_well(self, broker: Broker, queue: str) -> None:
        """An extension counts from now and replaces the first lease, even a longer one; then it ends as well."""
        delivery = self.sent_and_taken(broker, self.message(queue))
        before = time.monotonic()
        broker.extend([delivery.lease], lease=self.short)

        again = self.take_one(self.connect(), queue)

        assert self.not_early(time.monotonic() - before, self.short)
        assert (again.id, again.crashes) == (delivery.id, 1)

    @needs("fenced_ack")
    def test_reports_the_leases_that_extend_has_lost(self, broker: Broker, queue: str) -> None:
        """``extend`` returns the lost leases of a batch, extends the others, and does not affect the current holder."""
        stale, present = self.lapsed(broker, queue)
        good = self.sent_and_taken(broker, self.message(queue), lease=self.long)
        done = self.sent_and_taken(broker, self.message(queue))
        self.do(broker, Ack(done))

        lost = broker.extend([stale.lease, good.lease, done.lease], lease=self.long)

        assert sorted(lost) == sorted([stale.lease, done.lease])
        self.do(broker, Ack(present), Ack(good))

    def test_releases_uncounted(self, broker: Broker, queue: str) -> None:
        """A released message is ready at once, and no crash is counted (QK10)."""
        delivery = self.sent_and_taken(broker, self.message(queue))

        self.do(broker, Release(delivery))

        again = self.take_one(self.connect(), queue)
        assert (again.id, again.number, again.crashes, again.envelope) == (delivery.id, 2, 0, delivery.envelope)

    def test_releases_counted(self, broker: Broker, queue: str) -> None:
        """A counted release, as a supervisor makes for a child that died, counts a crash."""
        delivery = self.sent_and_taken(broker, self.message(queue))

        self.do(broker, Release(delivery, counted=True))

        assert self.take_one(broker, queue).crashes == 1

    @needs("delay")
    def test_counts_on_over_a_delayed_release(self, broker: Broker, queue: str) -> None:
        """A message released with a delay keeps its number and its crashes; a counted release adds one."""
        first = self.sent_and_taken(broker, self.message(queue))
        self.do(broker, Release(first, delay=self.short / 5, counted=True))
        second = self.take_one(broker, queue)
        self.do(broker, Release(second, delay=self.short / 5))

        third = self.take_one(broker, queue)

        assert [(each.number, each.crashes) for each in (first, second, third)] == [(1, 0), (2, 1), (3, 1)]

    @needs("fenced_ack")
    def test_settles_each_by_itself(self, broker: Broker, queue: str) -> None:
        """Only the lost lease of a batch is reported, and the others are settled (QK8)."""
        stale, present = self.lapsed(broker, queue)
        batch = self.messages(queue, 3)
        broker.send(batch)
        done, released, retried = self.take(broker, queue, 3)

        lost = broker.settle([Ack(done), Ack(stale), Release(released), _retry(retried)])

        assert [delivery.token for delivery in lost] == [stale.token]
        assert {delivery.id for delivery in self.take(broker, queue, 2)} == {released.id, retried.id}
        assert self.look(broker, queue) == []
        self.do(broker, Ack(present))

    def test_replaces_a_message_by_its_retry(self, broker: Broker, queue: str) -> None:
        """A retry keeps the id, has the new attempt and body and no crashes, and exists exactly once."""
        broker.send([self.message(queue)])
        first = self.take_one(broker, queue)
        self.do(broker, Release(first, counted=True))
        second = self.take_one(broker, queue)
        envelope = attrs.evolve(second.envelope, attempt=1, body=b"second attempt", expires=9e9)

        self.do(broker, Replace(second, envelope))

        third = self.take_one(broker, queue)
        assert (third.id, third.envelope.attempt, third.envelope.body) == (first.id, 1, b"second attempt")
        assert (third.crashes, third.envelope.expires) == (0, 9e9)
        assert self.look(broker, queue) == []

    def test_retries_many_times(self, broker: Broker, queue: str) -> None:
        """Send once does not refuse a later attempt or hop of the same id."""
        delivery = self.sent_and_taken(broker, self.message(queue))
        for attempt, hop in ((1, 0), (1, 1), (1, 2), (2, 0)):
            self.do(broker, Replace(delivery, attrs.evolve(delivery.envelope, attempt=attempt, hop=hop)))
            delivery = self.take_one(broker, queue)
            assert (delivery.envelope.attempt, delivery.envelope.hop) == (attempt, hop)

        self.do(broker, Ack(delivery))

        assert self.look(broker, queue) == []
