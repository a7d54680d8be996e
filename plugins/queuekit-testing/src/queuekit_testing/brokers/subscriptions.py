"""Subscriptions: what is pushed, how much of it, and what becomes of the rest when one ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import pytest

from queuekit.broker import Ack, Broker, Delivery, Release, Replace, Subscription
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.kit import in_thread, waits

__all__ = ["SubscriptionsTests"]


class SubscriptionsTests(BrokerKit):
    """``subscribe`` delivers as ``receive`` does; its base body calls that."""

    @contextmanager
    def subscribed(self, broker: Broker, *queues: str, prefetch: int) -> Iterator[Subscription]:
        """Yield a subscription, closed afterwards."""
        subscription = broker.subscribe(queues, prefetch=prefetch, lease=self.long)
        try:
            yield subscription
        finally:
            subscription.close()

    def pushed(self, broker: Broker, subscription: Subscription, count: int) -> list[Delivery]:
        """Return *count* deliveries; fail if they do not come."""
        taken: list[Delivery] = []
        for wait in waits(self.patience):
            taken += subscription.next(limit=count - len(taken), wait=min(wait, broker.limits.max_wait))
            if len(taken) >= count:
                return taken
        pytest.fail(f"{len(taken)} of {count} messages were pushed within {self.patience:g} s")

    def test_pushes_what_is_there_and_what_comes(self, broker: Broker, queue: str) -> None:
        """Messages sent before and after the call arrive once each, whole, and are settled like others."""
        before, after = self.messages(queue, 2)
        broker.send([before])
        with self.subscribed(broker, queue, prefetch=10) as subscription:
            (first,) = self.pushed(broker, subscription, 1)
            broker.send([after])
            (second,) = self.pushed(broker, subscription, 1)
            self.do(broker, Ack(first), Ack(second))
            assert subscription.next(limit=10, wait=0) == []

        assert [(each.id, each.envelope.body, each.number) for each in (first, second)] == [
            (before.id, before.body, 1),
            (after.id, after.body, 1),
        ]
        assert self.look(broker, queue) == []

    def test_pushes_again_what_goes_back(self, broker: Broker, queue: str) -> None:
        """What is released or replaced comes again over the same subscription, and counts."""
        broker.send([self.message(queue)])
        with self.subscribed(broker, queue, prefetch=1) as subscription:
            (first,) = self.pushed(broker, subscription, 1)
            self.do(broker, Release(first, counted=True))
            (second,) = self.pushed(broker, subscription, 1)
            self.do(broker, Replace(second, attrs.evolve(second.envelope, attempt=1)))
            (third,) = self.pushed(broker, subscription, 1)
            self.do(broker, Ack(third))

        assert [each.id for each in (second, third)] == [first.id] * 2
        assert (second.crashes, third.crashes, third.envelope.attempt) == (1, 0, 1)

    def test_returns_no_more_than_asked(self, broker: Broker, queue: str) -> None:
        """``next`` returns at most its limit, and the rest at the next call."""
        batch = self.messages(queue, 5)
        broker.send(batch)
        with self.subscribed(broker, queue, prefetch=5) as subscription:
            first = self.pushed(broker, subscription, 1)
            assert subscription.next(limit=0, wait=0) == []
            first += subscription.next(limit=2, wait=0)
            assert len(first) <= 3
            rest = self.pushed(broker, subscription, 5 - len(first))
            self.do(broker, *map(Ack, [*first, *rest]))

        assert {each.id for each in (*first, *rest)} == {envelope.id for envelope in batch}

    def test_holds_no_more_than_its_prefetch(self, broker: Broker, queue: str) -> None:
        """Of many messages ``prefetch`` at most are pushed and not settled; others get the rest meanwhile."""
        broker.send(self.messages(queue, 6))
        with self.subscribed(broker, queue, prefetch=2) as subscription:
            mine = self.pushed(broker, subscription, 1)
            mine += subscription.next(limit=1, wait=min(self.short, broker.limits.max_wait))
            theirs = self.take(self.connect(), queue, 4)
            assert len(mine) <= 2
            self.do(broker, *map(Ack, [*mine, *theirs]))
            rest = [] if len(mine) == 2 else self.pushed(broker, subscription, 1)
            self.do(broker, *map(Ack, rest))

        assert len({each.id for each in (*mine, *theirs, *rest)}) == 6

    def test_goes_on_when_what_it_holds_is_settled(self, broker: Broker, queue: str) -> None:
        """Settling makes room: a subscription with a prefetch of two delivers seven messages."""
        batch = self.messages(queue, 7)
        broker.send(batch)
        ids: list[str] = []
        with self.subscribed(broker, queue, prefetch=2) as subscription:
            while len(ids) < len(batch):
                (delivery,) = self.pushed(broker, subscription, 1)
                self.do(broker, Ack(delivery))
                ids.append(delivery.id)

        assert sorted(ids) == sorted(envelope.id for envelope in batch)

    def test_gives_back_what_was_not_returned(self, broker: Broker, queue: str) -> None:
        """When it is closed, what was pushed and not returned goes back uncounted; what was returned stays leased."""
        broker.send(self.messages(queue, 4))
        with self.subscribed(broker, queue, prefetch=4) as subscription:
            (mine,) = self.pushed(broker, subscription, 1)
        subscription.close()

        others = self.take(self.connect(), queue, 3)

        assert mine.id not in {each.id for each in others}
        assert [each.crashes for each in others] == [0, 0, 0]
        self.do(broker, Ack(mine))
        assert self.look(broker, queue) == []

    def test_ends_a_wait_for_what_is_pushed(self, broker: Broker, queue: str) -> None:
        """``interrupt`` makes ``next`` return in another thread; the subscription goes on."""
        if type(broker).interrupt is Broker.interrupt:
            pytest.skip("interrupt has its base body: this broker waits briefly")
        with self.subscribed(broker, queue, prefetch=1) as subscription:
            waiting = in_thread(lambda: subscription.next(limit=1, wait=self.wait))
            self.let_pass(0.05)
            broker.interrupt()
            assert self.result(waiting, "interrupt ends a wait for what is pushed") == []
            broker.send([self.message(queue)])
            self.do(broker, *map(Ack, self.pushed(broker, subscription, 1)))

    def test_keeps_queues_of_others_apart(self, broker: Broker, queue: str) -> None:
        """Messages of the queues asked for are pushed, of two queues both, and no others."""
        second, other = self.new_queue(), self.new_queue()
        batch = [self.message(name) for name in (queue, second, other)]
        broker.send(batch)
        with self.subscribed(broker, queue, second, prefetch=10) as subscription:
            found = self.pushed(broker, subscription, 2)
            found += subscription.next(limit=10, wait=min(self.short, broker.limits.max_wait))
            self.do(broker, *map(Ack, found))

        assert sorted(each.queue for each in found) == sorted([queue, second])
