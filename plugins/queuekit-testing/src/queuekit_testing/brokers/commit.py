"""A whole outcome in one atomic step, if broker and backend share an engine (QK12)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import attrs
import pytest

from queuekit.backend import Backend, Join, Record
from queuekit.broker import Ack, Broker, CommitItem, Dead, Delivery, Place, Release, Replace, Settlement
from queuekit.envelope import Unique
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.engines import new_backend
from queuekit_testing.kit import in_thread, needs, unique_name

__all__ = ["CommitTests"]


class CommitTests(BrokerKit):
    """``commit`` applies an item completely or, if its lease is lost, not at all."""

    def make_backend(self) -> Backend:
        """Return a result backend of the same engine; by default the one that serves ``url``."""
        return new_backend(self.url)

    @pytest.fixture
    def store(self, broker: Broker) -> Iterator[Backend]:
        """Return a backend that shares its engine with the broker."""
        store = self.make_backend()
        yield store
        store.close()

    def record(self, **fields: Any) -> Record:
        """Return a record under a unique key."""
        return Record(**{"key": unique_name("result"), "body": b"result", "ttl": 60.0, **fields})

    @needs("commit")
    def test_shares_an_engine_with_its_backend(self, broker: Broker, store: Backend) -> None:
        """Broker and backend of one URL have the same ``engine_id``, which tells core that it may commit."""
        assert broker.engine_id is not None
        assert broker.engine_id == store.engine_id

    @needs("commit")
    def test_commits_a_whole_outcome(self, broker: Broker, queue: str, store: Backend) -> None:
        """Record, join, send and ack of an item are all applied, and the answer is true."""
        delivery = self.sent_and_taken(broker, self.message(queue))
        record, group, follow_up = self.record(rank=5, final=True), unique_name("group"), self.message(self.new_queue())

        done = broker.commit(
            [
                CommitItem(
                    settlement=Ack(delivery),
                    records=(record,),
                    joins=(Join(group=group, member=0, size=3),),
                    sends=(follow_up,),
                )
            ]
        )

        assert done == [True]
        stored = store.get([record.key])[record.key]
        assert (stored.body, stored.rank, stored.final) == (b"result", 5, True)
        assert store.join(group, 1, 3) == (True, 2)
        assert self.look(broker, follow_up.queue) == [follow_up.id]
        assert self.look(broker, queue) == []
        assert broker.settle([Ack(delivery)]) == [delivery]

    @needs("commit")
    def test_commits_nothing_of_a_stale_item(self, broker: Broker, queue: str, store: Backend) -> None:
        """If the lease is lost, no record is written, no member joins and nothing is sent; the answer is false."""
        stale, present = self.lapsed(broker, queue)
        record, group, follow_up = self.record(), unique_name("group"), self.message(self.new_queue())
        complete = Join(group=group, member=0, size=1, then=(self.message(follow_up.queue),))

        done = broker.commit(
            [CommitItem(settlement=Ack(stale), records=(record,), joins=(complete,), sends=(follow_up,))]
        )

        assert done == [False]
        assert store.get([record.key]) == {}
        assert store.join(group, 1, 9) == (True, 1)
        assert self.look(broker, follow_up.queue) == []
        self.do(broker, Ack(present))

    @needs("commit")
    def test_commits_each_item_by_itself(self, broker: Broker, queue: str, store: Backend) -> None:
        """A stale item among valid ones gets the answer false in its place; the valid ones are applied."""
        stale, present = self.lapsed(broker, queue)
        broker.send(self.messages(queue, 2))
        good = self.take(broker, queue, 2)
        records = [self.record() for _ in range(3)]
        outcomes = zip([good[0], stale, good[1]], records, strict=True)

        done = broker.commit([CommitItem(settlement=Ack(delivery), records=(record,)) for delivery, record in outcomes])

        assert done == [True, False, True]
        assert set(store.get([record.key for record in records])) == {records[0].key, records[2].key}
        self.do(broker, Ack(present))

    @needs("commit")
    def test_commits_without_a_settlement(self, broker: Broker, queue: str, store: Backend) -> None:
        """An item without a settlement needs no lease: so a message and its PENDING record are written together."""
        record, envelope = self.record(), self.message(queue)

        assert broker.commit([CommitItem(records=(record,), sends=(envelope,)), CommitItem()]) == [True, True]

        assert record.key in store.get([record.key])
        assert self.look(broker, queue) == [envelope.id]

    @needs("commit")
    def test_writes_only_newer_records(self, broker: Broker, queue: str, store: Backend) -> None:
        """A record that is not newer than the stored one is not written; the rest of the item is applied."""
        record = self.record(rank=7, body=b"first outcome")
        store.put([record])
        delivery = self.sent_and_taken(broker, self.message(queue))
        equal, older = (attrs.evolve(record, rank=rank, body=b"second outcome") for rank in (7, 6))

        done = broker.commit([CommitItem(settlement=Ack(delivery), records=(equal, older))])

        assert done == [True]
        assert store.get([record.key])[record.key].body == b"first outcome"
        assert self.look(broker, queue) == []

    @needs("commit")
    def test_commits_records_whole(self, broker: Broker, store: Backend) -> None:
        """A commit writes a record like a put: with all fields, its TTL, and a version that grows."""
        first = self.record(rank=1, task="shop.mail", state="STARTED", at=1_700_000_000.25, ttl=600.0)
        last = attrs.evolve(
            first, rank=2, final=True, state="SUCCESS", error="none \N{SNOWMAN}", body=bytes(range(256))
        )
        got = []
        for record in (first, last):
            broker.commit([CommitItem(records=(record,))])
            got.append(store.get([record.key])[record.key])

        assert [attrs.evolve(each, version=0, ttl=600.0) for each in got] == [first, last]
        assert 0 < got[0].version < got[1].version
        assert all(each.ttl is not None and 500.0 < each.ttl <= 601.0 for each in got)

    @needs("commit")
    def test_lets_the_later_item_see_the_earlier(self, broker: Broker, queue: str, store: Backend) -> None:
        """If records of a commit have the same key, in one item or in many, the one of the highest rank is stored."""
        key = unique_name("result")
        one, two, three, four = (self.record(key=key, rank=rank, body=b"%d" % rank) for rank in (2, 1, 4, 3))

        broker.commit([CommitItem(records=(one, two)), CommitItem(records=(three,)), CommitItem(records=(four,))])

        assert store.get([key])[key].body == b"4"

    @needs("commit", "fenced_ack")
    def test_tells_the_stale_item_from_the_one_that_holds(self, broker: Broker, queue: str, store: Backend) -> None:
        """A commit may contain two claims of a message; the item of the lost one does nothing."""
        stale = self.sent_and_taken(broker, self.message(queue))
        self.do(broker, Release(stale))
        present = self.take_one(broker, queue)
        records = [self.record() for _ in range(2)]
        items = zip([present, stale], records, strict=True)

        done = broker.commit([CommitItem(settlement=Ack(delivery), records=(record,)) for delivery, record in items])

        assert done == [True, False]
        assert set(store.get([record.key for record in records])) == {records[0].key}

    @needs("commit", "delay")
    def test_commits_what_is_due_later(self, broker: Broker, queue: str, store: Backend) -> None:
        """A message that an item sends with a delay is not delivered early, and arrives unchanged."""
        delivery = self.sent_and_taken(broker, self.message(queue))
        follow_up = self.message(queue, delay=self.short, body=bytes(range(256)), expires=9e9, attempt=2)
        before = time.monotonic()
        broker.commit([CommitItem(settlement=Ack(delivery), sends=(follow_up,))])

        got = self.take_one(broker, queue).envelope

        assert self.not_early(time.monotonic() - before, self.short)
        assert (got.id, got.body, got.expires, got.attempt) == (follow_up.id, follow_up.body, 9e9, 2)

    @needs("commit")
    @pytest.mark.parametrize("verb", ["retry", "release", "dead"])
    def test_commits_every_settlement(self, broker: Broker, queue: str, store: Backend, verb: str) -> None:
        """Retries, releases and dead letters are committed with their record, like acks."""
        delivery = self.sent_and_taken(broker, self.message(queue))
        record = self.record()
        settlements: dict[str, Settlement] = {
            "retry": Replace(delivery, attrs.evolve(delivery.envelope, attempt=1)),
            "release": Release(delivery),
            "dead": Dead(delivery, reason="failed", error="why"),
        }

        done = broker.commit([CommitItem(settlement=settlements[verb], records=(record,))])

        assert done == [True]
        assert record.key in store.get([record.key])
        if verb == "dead":
            assert [stored.error for stored in broker.peek(queue, place=Place.DEAD).items] == ["why"]
        else:
            assert self.take_one(broker, queue).envelope.attempt == (verb == "retry")

    @needs("commit")
    def test_sends_once_what_completes_a_group(self, broker: Broker, queue: str, store: Backend) -> None:
        """The messages of a join are sent once, when the last member arrives, even if a member is committed again."""
        group = unique_name("group")
        then = self.message(self.new_queue())
        deliveries = [self.sent_and_taken(broker, self.message(queue)) for _ in range(3)]
        joins = [Join(group=group, member=member, size=3, then=(then,)) for member in range(3)]
        broker.commit([self.joined(deliveries[0], joins[0]), self.joined(deliveries[1], joins[0])])
        before = self.look(broker, then.queue)

        broker.commit([CommitItem(joins=(joins[1],)), self.joined(deliveries[2], joins[2])])

        assert before == []
        assert self.look(broker, then.queue) == [then.id]
        broker.commit([CommitItem(joins=(join,)) for join in joins])
        assert self.look(broker, then.queue) == []
        assert store.join(group, 0, 3) == (False, 3)

    @needs("commit")
    def test_completes_a_group_once_by_many_at_once(self, broker: Broker, queue: str, store: Backend) -> None:
        """Members committed at the same moment complete their group once."""
        group, size = unique_name("group"), 6
        then = self.message(self.new_queue())
        clients = [self.connect() for _ in range(size)]
        items = [CommitItem(joins=(Join(group=group, member=n, size=size, then=(then,)),)) for n in range(size)]

        self.all_at_once([partial(client.commit, [item]) for client, item in zip(clients, items, strict=True)])

        assert self.look(broker, then.queue) == [then.id]

    @needs("commit")
    def test_sends_once_what_is_committed_again(self, broker: Broker, queue: str, store: Backend) -> None:
        """A follow-up with a known id is not sent again (QK13), as with ``send``."""
        envelope = self.message(queue)
        broker.send([envelope])

        assert broker.commit([CommitItem(sends=(envelope,))] * 2) == [True, True]

        assert self.look(broker, queue) == [envelope.id]

    @needs("commit", "unique")
    def test_frees_a_unique_key_for_what_it_sends(self, broker: Broker, queue: str, store: Backend) -> None:
        """An ack frees the key before the item's messages are sent: a task may send its successor with the same key."""
        unique = Unique(key=unique_name("key"))
        delivery = self.sent_and_taken(broker, self.message(queue, unique=unique))
        successor = self.message(queue, unique=unique)

        broker.commit([CommitItem(settlement=Ack(delivery), sends=(successor,))])

        assert self.look(broker, queue) == [successor.id]

    @needs("commit", "blocking_receive")
    def test_wakes_by_a_commit(self, broker: Broker, queue: str, store: Backend) -> None:
        """A commit wakes clients that wait for its record, like a put."""
        record = self.record(final=True)
        waiting = in_thread(lambda: list(store.wait([record.key], timeout=self.wait)))
        self.let_pass(0.05)

        broker.commit([CommitItem(records=(record,))])

        assert self.result(waiting, "a commit wakes a wait for its record") == [record.key]

    @needs("commit", "blocking_receive")
    @pytest.mark.parametrize("way", ["send", "join", "release"])
    def test_wakes_by_what_it_commits(self, broker: Broker, store: Backend, way: str) -> None:
        """A commit wakes clients that wait for a message that it adds to a queue, like a send."""
        held = self.sent_and_taken(broker, self.message(self.new_queue()))
        follow_up = self.message(self.new_queue())
        name, id = (held.queue, held.id) if way == "release" else (follow_up.queue, follow_up.id)
        complete = Join(group=unique_name("group"), member=0, size=1, then=(follow_up,))
        item = {
            "send": CommitItem(settlement=Ack(held), sends=(follow_up,)),
            "join": CommitItem(settlement=Ack(held), joins=(complete,)),
            "release": CommitItem(settlement=Release(held)),
        }
        client = self.connect()
        waiting = in_thread(lambda: self.look(client, name, wait=self.wait))
        self.let_pass(0.05)

        broker.commit([item[way]])

        assert self.result(waiting, "a commit wakes a receive that waits") == [id]

    def joined(self, delivery: Delivery, join: Join) -> CommitItem:
        """Return the outcome of a member."""
        return CommitItem(settlement=Ack(delivery), joins=(join,))
