"""The operations of an operator: counts, peek, find, remove, purge, and dead letters."""

from __future__ import annotations

import time

import pytest

from queuekit.broker import Ack, Broker, Dead, Place, QueueCounts, Release
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.kit import eventually, in_thread, needs

__all__ = ["PlacesTests"]


class PlacesTests(BrokerKit):
    """QK1: each message is in exactly one place, which operators can see and change."""

    def one_in_each(self, broker: Broker, queue: str) -> dict[Place, str]:
        """Put one message into each place and return their ids."""
        envelopes = [self.message(queue) for _ in range(3)]
        broker.send(envelopes)
        dead, leased = self.take(broker, queue, 2)
        self.do(broker, Dead(dead, reason="failed"))
        delayed = self.message(queue, delay=self.far)
        broker.send([delayed])
        (ready,) = {envelope.id for envelope in envelopes} - {dead.id, leased.id}
        return {Place.READY: ready, Place.DELAYED: delayed.id, Place.LEASED: leased.id, Place.DEAD: dead.id}

    # -- counts --------------------------------------------------------------------------------------------------

    @needs("counts")
    def test_counts_what_waits(self, broker: Broker, queue: str) -> None:
        """``counts`` tells how many messages wait in each queue; a service that only estimates is given time."""
        other = self.new_queue()
        broker.send([*self.messages(queue, 3), self.message(other)])

        def ready() -> tuple[int, int]:
            found = broker.counts([queue, other])
            return found[queue].ready, found[other].ready

        eventually(lambda: ready() == (3, 1), timeout=self.patience, what="three and one message are counted")
        self.do(broker, *[Ack(delivery) for delivery in self.take(broker, queue, 3)])
        eventually(lambda: ready() == (0, 1), timeout=self.patience, what="none and one message are counted")

    @needs("inspect")
    def test_counts_an_unknown_queue_as_empty(self, broker: Broker, queue: str) -> None:
        """The counts of an unknown queue are zero, without an oldest message."""
        assert broker.counts([queue]) == {queue: QueueCounts()}

    @needs("inspect", "delay", "dead_letters")
    def test_counts_each_place(self, broker: Broker, queue: str) -> None:
        """``counts`` returns the number of messages in each place, for each queue named."""
        other = self.new_queue()
        self.one_in_each(broker, queue)
        broker.send([self.message(other)])

        counts = broker.counts([queue, other])

        found = {name: (each.ready, each.delayed, each.leased, each.dead) for name, each in counts.items()}
        assert found == {queue: (1, 1, 1, 1), other: (1, 0, 0, 0)}

    @needs("inspect")
    def test_counts_nothing_after_a_drain(self, broker: Broker, queue: str) -> None:
        """When all messages are acknowledged, all counts are zero again (QK14)."""
        broker.send(self.messages(queue, 5))
        self.do(broker, *[Ack(delivery) for delivery in self.take(broker, queue, 5)])

        assert broker.counts([queue])[queue] == QueueCounts()

    @needs("inspect")
    def test_tells_the_age_of_the_oldest(self, broker: Broker, queue: str) -> None:
        """``oldest_age`` is the time since the oldest ready message became due; ``None`` if none is ready."""
        before = time.monotonic()
        broker.send([self.message(queue)])
        self.let_pass(self.short)
        broker.send([self.message(queue, priority=9)])

        age = broker.counts([queue])[queue].oldest_age

        assert age is not None
        slack = broker.limits.lease_granularity + 0.05
        assert self.short - slack <= age <= time.monotonic() - before + slack
        self.do(broker, *[Ack(delivery) for delivery in self.take(broker, queue, 2)])
        assert broker.counts([queue])[queue].oldest_age is None

    @needs("inspect")
    def test_lists_its_queues(self, broker: Broker, queue: str) -> None:
        """``queues`` returns the names of the queues that hold messages, sorted."""
        other = self.new_queue()
        broker.send([self.message(queue), self.message(other)])

        names = broker.queues()

        assert {queue, other} <= set(names)
        assert names == sorted(names)

    # -- peek and find -------------------------------------------------------------------------------------------

    @needs("inspect", "delay", "dead_letters")
    @pytest.mark.parametrize("place", list(Place), ids=str)
    def test_shows_what_is_in_a_place(self, broker: Broker, queue: str, place: Place) -> None:
        """``peek`` returns the messages of one place, and leaves them there."""
        ids = self.one_in_each(broker, queue)

        shown = [broker.peek(queue, place=place).items for _ in range(2)]

        assert [[stored.envelope.id for stored in items] for items in shown] == [[ids[place]]] * 2
        assert shown[0][0].place is place

    @needs("inspect")
    def test_shows_a_message_as_it_is(self, broker: Broker, queue: str) -> None:
        """``peek`` returns a message's body and fields unchanged, its number and crashes, and when it was sent."""
        envelope = self.message(queue, body=bytes(range(256)), priority=6, attempt=2)
        delivery = self.sent_and_taken(broker, envelope)
        self.do(broker, Release(delivery, counted=True))

        (stored,) = broker.peek(queue, place=Place.READY).items

        got = stored.envelope
        assert (got.id, got.body, got.priority, got.attempt) == (envelope.id, envelope.body, 6, 2)
        assert (stored.number, stored.crashes, stored.sent_at) == (1, 1, delivery.sent_at)

    @needs("inspect", "priority", "fifo")
    def test_shows_the_next_first(self, broker: Broker, queue: str) -> None:
        """``peek`` returns ready messages in the order of their deliveries."""
        broker.send([self.message(queue, priority=priority) for priority in (1, 9, 4, 4, 1, 9)])

        shown = self.seen(broker, queue, Place.READY)

        assert shown == [delivery.id for delivery in self.take(broker, queue, 6)]

    @needs("inspect", "delay")
    def test_shows_the_delayed_by_due_time(self, broker: Broker, queue: str) -> None:
        """``peek`` returns delayed messages in the order of their due times, with these times."""
        late, early = self.message(queue, delay=self.far), self.message(queue, delay=self.far / 5)
        broker.send([late, early])

        items = broker.peek(queue, place=Place.DELAYED).items

        assert [stored.envelope.id for stored in items] == [early.id, late.id]
        slack = broker.limits.lease_granularity + 0.05
        assert [stored.due - stored.sent_at for stored in items] == pytest.approx([self.far / 5, self.far], abs=slack)

    @needs("inspect", probe=True)
    def test_shows_page_by_page(self, broker: Broker, queue: str) -> None:
        """Pages hold at most *limit* messages, and together each message once; the last page has no cursor."""
        batch = self.messages(queue, 7)
        broker.send(batch)
        pages, cursor = [], None

        for _ in range(8):
            page = broker.peek(queue, place=Place.READY, limit=3, cursor=cursor)
            pages.append([stored.envelope.id for stored in page.items])
            cursor = page.cursor
            if cursor is None:
                break

        assert cursor is None
        assert max(len(page) for page in pages) <= 3
        assert sorted(id for page in pages for id in page) == sorted(envelope.id for envelope in batch)

    @needs("inspect", "delay", "dead_letters")
    @pytest.mark.parametrize("place", list(Place), ids=str)
    def test_shows_any_place_page_by_page(self, broker: Broker, queue: str, place: Place) -> None:
        """Pages hold each message of a place once, even if many arrived at one moment or differ in priority."""
        levels = (4, 9, 4, 1, 9, 1, 4) if broker.capabilities.priority else (4,) * 7
        delay = self.far if place is Place.DELAYED else 0.0
        batch = [self.message(queue, priority=level, delay=delay) for level in levels]
        broker.send(batch)
        held = self.take(broker, queue, 7) if place in (Place.LEASED, Place.DEAD) else []
        if place is Place.DEAD:
            self.do(broker, *[Dead(delivery, reason="failed") for delivery in held])

        whole = self.seen(broker, queue, place)
        shown = self.seen(broker, queue, place, limit=2)

        assert sorted(shown) == sorted(envelope.id for envelope in batch)
        assert shown == whole

    @needs("inspect")
    def test_tells_when_a_lease_ends(self, broker: Broker, queue: str) -> None:
        """``due`` of a leased message is the end of its lease, and moves when the lease is extended."""
        before = time.monotonic()
        delivery = self.sent_and_taken(broker, self.message(queue), lease=self.long / 2)
        first = broker.peek(queue, place=Place.LEASED).items[0].due
        broker.extend([delivery.lease], lease=self.long)

        second = broker.peek(queue, place=Place.LEASED).items[0].due

        slack = broker.limits.lease_granularity + 0.05
        assert first - delivery.claimed_at == pytest.approx(self.long / 2, abs=slack)
        assert second - delivery.claimed_at >= self.long - slack
        assert second - first <= self.long / 2 + (time.monotonic() - before) + slack

    @needs("inspect")
    def test_shows_nothing_of_an_unknown_queue(self, broker: Broker, queue: str) -> None:
        """``peek`` and ``find`` on an unknown queue return nothing."""
        page = broker.peek(queue, place=Place.READY)

        assert (tuple(page.items), page.cursor) == ((), None)
        assert broker.find(queue, ["nobody"]) == []

    @needs("inspect", "delay", "dead_letters")
    def test_finds_a_message_wherever_it_is(self, broker: Broker, queue: str) -> None:
        """``find`` returns the messages that the queue holds, with their places."""
        ids = self.one_in_each(broker, queue)

        found = broker.find(queue, [*ids.values(), "nobody"])

        assert {stored.place: stored.envelope.id for stored in found} == ids

    # -- remove and purge ----------------------------------------------------------------------------------------

    @needs("remove", "inspect", "delay", "dead_letters")
    def test_removes_what_waits(self, broker: Broker, queue: str) -> None:
        """``remove`` deletes ready and delayed messages and returns their ids; leased and dead ones stay."""
        ids = self.one_in_each(broker, queue)

        removed = broker.remove(queue, [*ids.values(), "nobody"])

        assert sorted(removed) == sorted([ids[Place.READY], ids[Place.DELAYED]])
        assert {stored.place for stored in broker.find(queue, list(ids.values()))} == {Place.LEASED, Place.DEAD}

    @needs("remove", "inspect", "delay", "dead_letters")
    def test_removes_from_one_place(self, broker: Broker, queue: str) -> None:
        """``remove`` with a place affects only that place: so single dead letters can be deleted."""
        ids = self.one_in_each(broker, queue)

        removed = broker.remove(queue, list(ids.values()), place=Place.DEAD)

        assert removed == [ids[Place.DEAD]]
        left = {stored.place for stored in broker.find(queue, list(ids.values()))}
        assert left == {Place.READY, Place.DELAYED, Place.LEASED}

    @needs("remove", "delay")
    def test_never_hands_out_what_was_removed(self, broker: Broker, queue: str) -> None:
        """A delayed message that was removed is not delivered at its due time."""
        spans = self.leases()
        while True:
            delay = next(spans)
            envelope = self.message(queue, delay=delay.seconds)
            broker.send([envelope])
            removed = broker.remove(queue, [envelope.id])
            if delay.holds():
                break

        assert removed == [envelope.id]
        assert self.look(broker, queue, wait=delay.rest) == []

    @needs("remove", probe=True)
    def test_removes_by_id(self, broker: Broker, queue: str) -> None:
        """``remove`` deletes a ready message and returns its id; other messages of the queue stay."""
        removed, kept = self.messages(queue, 2)
        broker.send([removed, kept])

        assert broker.remove(queue, [removed.id, "nobody"]) == [removed.id]

        assert self.look(broker, queue) == [kept.id]

    @needs("remove", "inspect")
    @pytest.mark.parametrize("place", [None, Place.READY, Place.LEASED], ids=str)
    def test_does_not_remove_what_is_leased(self, broker: Broker, queue: str, place: Place | None) -> None:
        """``remove`` leaves a leased message to its holder, who can still settle it, even if it names that place."""
        delivery = self.sent_and_taken(broker, self.message(queue))

        assert broker.remove(queue, [delivery.id], place=place) == []
        self.do(broker, Ack(delivery))

    @needs("inspect", "delay", "dead_letters")
    @pytest.mark.parametrize("place", [Place.READY, Place.DELAYED, Place.DEAD], ids=str)
    def test_purges_one_place(self, broker: Broker, queue: str, place: Place) -> None:
        """``purge`` empties one place of one queue and returns the count; other messages stay."""
        other = self.new_queue()
        ids, others = self.one_in_each(broker, queue), self.one_in_each(broker, other)

        assert broker.purge(queue, place=place) == 1

        left = {stored.place for stored in broker.find(queue, list(ids.values()))}
        assert left == {*Place} - {place}
        assert len(broker.find(other, list(others.values()))) == 4
        assert broker.purge(queue, place=place) == 0

    # -- dead letters --------------------------------------------------------------------------------------------

    @needs("dead_letters", probe=True)
    def test_buries_a_message_intact(self, broker: Broker, queue: str) -> None:
        """A dead letter keeps its body and fields, with reason, holder and error; it is not delivered."""
        envelope = self.message(queue, body=bytes(range(256)) * 3, priority=8, attempt=4, expires=9e9)
        delivery = self.sent_and_taken(broker, envelope)

        self.do(broker, Dead(delivery, reason="malformed", holder="host \N{SNOWMAN}", error="ValueError: no\n\0 \xe9"))

        (stored,) = broker.peek(queue, place=Place.DEAD).items
        got = stored.envelope
        assert (got.id, got.body, got.priority, got.attempt, got.expires) == (envelope.id, envelope.body, 8, 4, 9e9)
        assert (stored.reason, stored.holder) == ("malformed", "host \N{SNOWMAN}")
        assert stored.error.startswith("ValueError: no")
        assert stored.died_at is not None
        assert stored.died_at >= delivery.claimed_at - broker.limits.lease_granularity
        assert self.look(broker, queue) == []

    @needs("dead_letters")
    def test_keeps_a_dead_letter_after_its_lease(self, broker: Broker, queue: str) -> None:
        """A dead letter does not come back when its last lease would have ended."""
        spans = self.leases()
        while True:
            lease = next(spans)
            delivery = self.sent_and_taken(broker, self.message(queue), lease=lease.seconds)
            broker.settle([Dead(delivery, reason="rejected")])
            if lease.holds():
                break

        assert self.look(broker, queue, wait=lease.rest) == []
        assert delivery.id in self.seen(broker, queue, Place.DEAD)

    @needs("dead_letters")
    def test_shows_the_latest_dead_first(self, broker: Broker, queue: str) -> None:
        """``peek`` returns the latest dead letters first, over several pages."""
        broker.send(self.messages(queue, 5))
        died = []
        for delivery in self.take(broker, queue, 5):
            self.do(broker, Dead(delivery, reason="failed"))
            died.append(delivery.id)

        first = broker.peek(queue, place=Place.DEAD, limit=3)
        second = broker.peek(queue, place=Place.DEAD, limit=3, cursor=first.cursor)

        assert [stored.envelope.id for stored in (*first.items, *second.items)] == died[::-1]
        assert second.cursor is None

    @needs("dead_letters")
    def test_replays_chosen_dead_letters(self, broker: Broker, queue: str) -> None:
        """``requeue`` with ids replays those: ready at once, generation + 1, attempt 0, no crashes, same body."""
        first, second = self.message(queue, attempt=3, body=b"\0one", expires=9e9, hop=2), self.message(queue)
        for envelope in (first, second):
            crashed = self.sent_and_taken(broker, envelope)
            self.do(broker, Release(crashed, counted=True))
            self.do(broker, Dead(self.take_one(broker, queue), reason="failed"))

        replayed = broker.requeue(queue, [first.id, "nobody"])

        delivery = self.take_one(broker, queue)
        got = delivery.envelope
        assert replayed == [first.id]
        assert (got.id, got.generation, got.attempt, got.hop) == (first.id, 1, 0, 0)
        assert (got.body, got.expires, delivery.crashes) == (b"\0one", 9e9, 0)
        assert self.seen(broker, queue, Place.DEAD) == [second.id]
        self.do(broker, Ack(delivery))

    @needs("dead_letters", "fifo")
    def test_replays_all_dead_letters(self, broker: Broker, queue: str) -> None:
        """``requeue`` without ids replays all dead letters of the queue, behind waiting messages."""
        batch = self.messages(queue, 3)
        broker.send(batch)
        self.do(broker, *[Dead(delivery, reason="failed") for delivery in self.take(broker, queue, 3)])
        waiting = self.message(queue)
        broker.send([waiting])

        replayed = broker.requeue(queue)

        ids = [delivery.id for delivery in self.take(broker, queue, 4)]
        assert sorted(replayed) == sorted(envelope.id for envelope in batch)
        assert ids[0] == waiting.id
        assert sorted(ids[1:]) == sorted(replayed)
        assert broker.requeue(queue) == []

    @needs("dead_letters", "delay")
    def test_replays_nothing_else(self, broker: Broker, queue: str) -> None:
        """``requeue`` does not affect leased, delayed or finished messages, even if it names them."""
        done = self.sent_and_taken(broker, self.message(queue))
        self.do(broker, Ack(done))
        held = self.sent_and_taken(broker, self.message(queue))
        delayed = self.message(queue, delay=self.far)
        broker.send([delayed])

        replayed = broker.requeue(queue, [done.id, held.id, delayed.id])

        assert replayed == []
        assert self.look(broker, queue, wait=self.short) == []
        self.do(broker, Ack(held))

    @needs("dead_letters")
    def test_replays_what_has_died_again(self, broker: Broker, queue: str) -> None:
        """A replayed message that fails again can be replayed again: the generation grows each time."""
        envelope = self.message(queue)
        broker.send([envelope])
        for generation in range(3):
            delivery = self.take_one(broker, queue)
            assert delivery.envelope.generation == generation
            self.do(broker, Dead(delivery, reason="failed"))
            broker.requeue(queue, [envelope.id])

        last = self.take_one(broker, queue).envelope
        assert (last.id, last.generation) == (envelope.id, 3)

    @needs("dead_letters", "blocking_receive")
    def test_is_woken_by_a_replay(self, broker: Broker, queue: str) -> None:
        """A waiting ``receive`` returns a message that is replayed meanwhile."""
        delivery = self.sent_and_taken(broker, self.message(queue))
        self.do(broker, Dead(delivery, reason="failed"))
        client = self.connect()
        waiting = in_thread(lambda: self.look(client, queue, wait=self.wait))
        self.let_pass(0.05)

        broker.requeue(queue)

        assert self.result(waiting, "a replay wakes a waiting receive") == [delivery.id]
