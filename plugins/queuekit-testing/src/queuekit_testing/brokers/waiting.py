"""Waiting and competing clients: which one is woken, and which one wins."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from functools import partial

import attrs
import pytest

from queuekit.broker import Ack, Broker, Release, Replace
from queuekit.envelope import Envelope
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.kit import eventually, in_thread, needs

__all__ = ["WaitingTests"]


class WaitingTests(BrokerKit):
    """QK2 with many clients at once; and a waiting ``receive`` ends as soon as a message is ready."""

    def test_takes_no_more_than_asked(self, broker: Broker, queue: str) -> None:
        """``receive`` returns at most *limit* messages, each once; the others stay ready."""
        batch = self.messages(queue, 8)
        broker.send(batch)

        taken = broker.receive([queue], limit=3, wait=self.short, lease=self.long)

        assert 1 <= len(taken) <= 3
        rest = self.take(broker, queue, 8 - len(taken))
        assert sorted(each.id for each in (*taken, *rest)) == sorted(envelope.id for envelope in batch)

    def test_cuts_a_limit_beyond_its_own(self, broker: Broker, queue: str) -> None:
        """``receive`` reduces a limit and a wait above those of the service, and does not refuse them."""
        broker.send([self.message(queue)])

        taken = broker.receive([queue], limit=1_000_000, wait=1_000_000.0, lease=self.long)

        assert len(taken) == 1

    def test_lets_one_win(self, broker: Broker, queue: str) -> None:
        """If many clients claim one message at the same moment, exactly one gets it."""
        clients = [self.connect() for _ in range(6)]
        for _ in range(8):
            envelope = self.message(queue)
            broker.send([envelope])

            results = self.all_at_once([partial(self.look, client, queue, wait=self.short / 5) for client in clients])

            assert [ids for ids in results if ids] == [[envelope.id]]

    def test_shares_one_client_between_threads(self, broker: Broker, queue: str) -> None:
        """A client is thread-safe: concurrent sends and claims lose and duplicate nothing."""
        batches = [self.messages(queue, 10) for _ in range(4)]
        self.all_at_once([partial(broker.send, batch) for batch in batches])

        taken = self.all_at_once([lambda: self.take(broker, queue, 10) for _ in range(4)])

        ids = Counter(delivery.id for deliveries in taken for delivery in deliveries)
        assert ids == Counter(envelope.id for batch in batches for envelope in batch)

    def test_works_while_one_of_its_threads_waits(self, broker: Broker, queue: str) -> None:
        """All threads of a worker can share a client: while one waits for messages, others extend, settle and send."""
        held = self.sent_and_taken(broker, self.message(self.new_queue()))
        last = self.message(queue)
        waiting = in_thread(lambda: self.look(broker, queue, wait=self.wait))
        self.let_pass(0.05)

        def work() -> tuple[object, ...]:
            return broker.extend([held.lease], lease=self.long), broker.settle([Ack(held)]), broker.send([last])

        assert self.result(in_thread(work), "a client works while one of its threads waits") == ([], [], [last.id])
        assert self.result(waiting, "a send ends a waiting receive") == [last.id]

    def test_loses_and_doubles_nothing(self, broker: Broker, queue: str) -> None:
        """Four producers and four consumers at once: every message is delivered exactly once."""
        batches = [self.messages(queue, 50) for _ in range(4)]
        total = sum(len(batch) for batch in batches)
        arrived: list[str] = []
        everything = threading.Event()

        def produce(batch: list[Envelope]) -> None:
            client = self.connect()
            for start in range(0, len(batch), 7):
                client.send(batch[start : start + 7])

        def consume() -> None:
            client = self.connect()
            while not everything.is_set():
                arrived.extend(self.drain_once(client, queue))

        consumers = [in_thread(consume) for _ in range(4)]
        self.all_at_once([partial(produce, batch) for batch in batches])
        with suppress(pytest.fail.Exception):  # the assert below shows what is missing
            eventually(lambda: len(arrived) >= total, timeout=self.patience)
        everything.set()
        for consumer in consumers:
            self.result(consumer, "a consumer ends")

        ids = Counter(arrived)
        assert ids == Counter(envelope.id for batch in batches for envelope in batch)

    @needs("blocking_receive")
    def test_is_woken_by_a_send(self, broker: Broker, queue: str) -> None:
        """A waiting ``receive`` returns a message sent meanwhile by another client, long before its wait ends."""
        client = self.connect()
        for _ in range(3):
            envelope = self.message(queue)
            waiting = in_thread(lambda: self.look(client, queue, wait=self.wait))
            self.let_pass(0.05)

            broker.send([envelope])

            assert self.result(waiting, "a send wakes a waiting receive") == [envelope.id]

    @needs("blocking_receive")
    def test_is_woken_by_a_release(self, broker: Broker, queue: str) -> None:
        """A waiting ``receive`` returns a message that is released meanwhile."""
        client = self.connect()
        delivery = self.sent_and_taken(broker, self.message(queue))
        waiting = in_thread(lambda: self.look(client, queue, wait=self.wait))
        self.let_pass(0.05)

        self.do(broker, Release(delivery))

        assert self.result(waiting, "a release wakes a waiting receive") == [delivery.id]

    @needs("blocking_receive")
    def test_is_woken_by_a_retry(self, broker: Broker, queue: str) -> None:
        """A waiting ``receive`` returns the next attempt of a message that another client held."""
        client = self.connect()
        delivery = self.sent_and_taken(broker, self.message(queue))
        waiting = in_thread(lambda: self.look(client, queue, wait=self.wait))
        self.let_pass(0.05)

        self.do(broker, Replace(delivery, attrs.evolve(delivery.envelope, attempt=1)))

        assert self.result(waiting, "a retry wakes a waiting receive") == [delivery.id]

    @needs("blocking_receive")
    def test_wakes_those_whose_queue_it_is(self, broker: Broker) -> None:
        """If many clients wait, each for another queue, a send wakes the one that waits for its queue."""
        names = [self.new_queue() for _ in range(4)]
        waiting = [in_thread(partial(self.look, self.connect(), name, wait=self.wait)) for name in names]
        self.let_pass(0.05)

        for name, thread in reversed([*zip(names, waiting, strict=True)]):
            envelope = self.message(name)
            broker.send([envelope])

            assert self.result(thread, "a send wakes the client that waits for its queue") == [envelope.id]

    @needs("blocking_receive")
    def test_wakes_as_many_as_there_is_work_for(self, broker: Broker, queue: str) -> None:
        """If many clients wait for one message each, a batch wakes as many as it has messages."""
        clients = [self.connect() for _ in range(4)]
        calls = [partial(client.receive, [queue], limit=1, wait=self.wait, lease=self.long) for client in clients]
        waiting = [in_thread(call) for call in calls]
        self.let_pass(0.05)
        batch = self.messages(queue, len(clients))

        broker.send(batch)

        found = [self.result(each, "a batch wakes as many clients as it has messages") for each in waiting]
        ids = sorted(delivery.id for deliveries in found for delivery in deliveries)
        assert ids == sorted(envelope.id for envelope in batch)

    @needs("blocking_receive")
    def test_is_woken_on_any_of_its_queues(self, broker: Broker) -> None:
        """A ``receive`` on several queues is woken by a send to the last of them."""
        names = [self.new_queue() for _ in range(3)]
        client = self.connect()
        waiting = in_thread(lambda: client.receive(names, limit=1, wait=self.wait, lease=self.long))
        self.let_pass(0.05)

        broker.send([self.message(names[-1])])

        (delivery,) = self.result(waiting, "a send to any queue wakes the receive")
        assert delivery.queue == names[-1]

    @needs("blocking_receive")
    def test_is_woken_by_the_end_of_a_lease(self, broker: Broker, queue: str) -> None:
        """A waiting ``receive`` returns a message whose lease ends meanwhile, without other traffic."""
        delivery = self.sent_and_taken(broker, self.message(queue), lease=self.short)
        client = self.connect()

        waiting = in_thread(lambda: self.look(client, queue, wait=self.wait))

        assert self.result(waiting, "the end of a lease wakes a waiting receive") == [delivery.id]

    @needs("blocking_receive", "delay")
    def test_is_woken_by_a_due_time(self, broker: Broker, queue: str) -> None:
        """A waiting ``receive`` returns a message that becomes due meanwhile, even one sent after it started."""
        client = self.connect()
        waiting = in_thread(lambda: self.look(client, queue, wait=self.wait))
        self.let_pass(0.05)
        envelope = self.message(queue, delay=self.short)

        broker.send([envelope])

        assert self.result(waiting, "a due time wakes a waiting receive") == [envelope.id]

    def test_returns_nothing_when_the_wait_passes(self, broker: Broker, queue: str) -> None:
        """A ``receive`` on an empty queue ends with an empty list, and waits no longer than asked."""
        waiting = in_thread(lambda: self.look(broker, queue, wait=self.short))

        assert self.result(waiting, "a receive ends when its wait has passed") == []

    def test_ends_a_wait_when_interrupted(self, broker: Broker, queue: str) -> None:
        """``interrupt`` ends a ``receive`` that waits in another thread; the client still works."""
        if type(broker).interrupt is Broker.interrupt:
            pytest.skip("interrupt is not overridden: this broker waits only briefly")
        waiting = in_thread(lambda: self.look(broker, queue, wait=self.wait))
        self.let_pass(0.05)

        broker.interrupt()

        assert self.result(waiting, "interrupt ends a waiting receive") == []
        envelope = self.message(queue)
        broker.send([envelope])
        assert self.take_one(broker, queue).id == envelope.id
