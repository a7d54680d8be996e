"""Order and time of deliveries: first in first out, priority, delay."""

from __future__ import annotations

import time

import attrs

from queuekit.broker import Ack, Broker, Capabilities, Release, Replace
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.kit import needs

__all__ = ["OrderTests"]


class OrderTests(BrokerKit):
    """Priority 9 first, then by due time; and no message before it is due."""

    @needs("fifo", probe=True)
    def test_hands_out_in_the_order_of_a_batch(self, broker: Broker, queue: str) -> None:
        """Messages of one send arrive in its order, even over several receives."""
        batch = self.messages(queue, min(20, broker.limits.max_batch))
        broker.send(batch)

        ids = [self.take_one(broker, queue).id for _ in range(3)]
        ids += [delivery.id for delivery in self.take(broker, queue, len(batch) - 3)]

        assert ids == [envelope.id for envelope in batch]

    @needs("fifo")
    def test_hands_out_in_the_order_of_sends(self, broker: Broker, queue: str) -> None:
        """Messages of several sends, by several clients, arrive in the order in which the sends returned."""
        batch = self.messages(queue, 6)
        for client, envelope in zip([broker, self.connect()] * 3, batch, strict=True):
            client.send([envelope])

        ids = [delivery.id for delivery in self.take(broker, queue, len(batch))]

        assert ids == [envelope.id for envelope in batch]

    @needs("priority", probe=True)
    def test_hands_out_urgent_ones_first(self, broker: Broker, queue: str) -> None:
        """All ten priorities are distinct, 9 first."""
        broker.send([self.message(queue, priority=priority) for priority in (4, 0, 9, 5, 1, 8, 2, 7, 3, 6)])

        taken = self.take(broker, queue, 10)

        assert [delivery.envelope.priority for delivery in taken] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]

    @needs("priority", "fifo")
    def test_keeps_the_order_within_a_priority(self, broker: Broker, queue: str) -> None:
        """Messages of one priority arrive in the order in which they were sent, whatever is sent in between."""
        low, high = self.messages(queue, 3, priority=2), self.messages(queue, 3, priority=6)
        broker.send([low[0], high[0], low[1], high[1], low[2], high[2]])

        ids = [self.take_one(broker, queue).id for _ in range(6)]

        assert ids == [envelope.id for envelope in (*high, *low)]

    @needs("priority", "delay")
    def test_lets_priority_beat_due_time(self, broker: Broker, queue: str) -> None:
        """A more urgent message arrives first, even if it became due later."""
        late = self.message(queue, priority=9, delay=self.short)
        early = self.message(queue, priority=1)
        broker.send([early, late])
        self.let_pass(1.1 * self.short + broker.limits.lease_granularity)

        ids = [self.take_one(broker, queue).id for _ in range(2)]

        assert ids == [late.id, early.id]

    @needs("delay", "fifo")
    def test_hands_out_in_the_order_of_due_times(self, broker: Broker, queue: str) -> None:
        """Delayed messages that are all due arrive in order of their due times."""
        step = self.short / 2
        batch = [self.message(queue, delay=steps * step) for steps in (3, 1, 2)]
        broker.send(batch)
        self.let_pass(3.2 * step + broker.limits.lease_granularity)

        ids = [self.take_one(broker, queue).id for _ in range(3)]

        assert ids == [batch[1].id, batch[2].id, batch[0].id]

    @needs("delay", "fifo")
    def test_gives_a_delayed_message_its_turn(self, broker: Broker, queue: str) -> None:
        """A delayed message takes its place among ready ones by its due time, neither first nor last."""
        spans = self.leases()
        while True:
            delay = next(spans)
            before, delayed, after = self.message(queue), self.message(queue, delay=delay.seconds), self.message(queue)
            broker.send([delayed])
            sent = time.monotonic()
            broker.send([before])
            if delay.holds():
                break
            self.take(broker, queue, 2)
        ended = sent + 1.05 * delay.seconds + broker.limits.lease_granularity
        self.let_pass(ended - time.monotonic())
        broker.send([after])

        ids = [delivery.id for delivery in self.take(broker, queue, 3)]

        assert ids == [before.id, delayed.id, after.id]

    @needs("delay", probe=True)
    def test_does_not_hand_out_early(self, broker: Broker, queue: str) -> None:
        """A delayed message is not delivered before its delay has passed."""
        delay = self.short
        before = time.monotonic()
        broker.send([self.message(queue, delay=delay)])

        delivery = self.take_one(broker, queue)

        assert self.not_early(time.monotonic() - before, delay)
        assert delivery.number == 1
        assert delivery.crashes == 0

    @needs("delay")
    def test_heeds_not_before(self, broker: Broker, queue: str) -> None:
        """``not_before`` is a moment on the server's clock; the later of ``not_before`` and the delay counts."""
        now = self.sent_and_taken(broker, self.message(queue)).claimed_at
        moment = now + self.short
        early = self.message(queue, not_before=moment, delay=self.short / 10)
        late = self.message(queue, not_before=now, delay=1.5 * self.short)
        past = self.message(queue, not_before=now - 1_000)
        distant = self.message(queue, not_before=now + self.far)  # not due however slow this machine is
        broker.send([distant, late, early, past])

        taken = self.take(broker, queue, 3)

        assert [delivery.id for delivery in taken] == [past.id, early.id, late.id]
        assert taken[1].claimed_at >= moment - broker.limits.lease_granularity

    @needs("delay")
    def test_does_not_let_delayed_ones_block_ready_ones(self, broker: Broker, queue: str) -> None:
        """Delayed messages do not block ready ones."""
        ready = self.message(queue)
        broker.send([self.message(queue, delay=self.far, priority=9), ready])

        assert self.look(broker, queue, wait=self.short) == [ready.id]

    @needs("delay")
    def test_keeps_a_long_delay(self, broker: Broker, queue: str, declared: Capabilities) -> None:
        """A message with a delay of ``limits.max_delay``, or of ten years without a limit, stays delayed."""
        delay = broker.limits.max_delay or 10 * 365 * 86_400.0
        broker.send([self.message(queue, delay=delay)])

        assert self.look(broker, queue, wait=self.short) == []
        if declared.inspect:
            assert broker.counts([queue])[queue].delayed == 1

    @needs("fifo")
    def test_puts_a_released_message_back_in_its_place(self, broker: Broker, queue: str) -> None:
        """A message released without delay is next again, before those sent after it."""
        batch = self.messages(queue, 3)
        broker.send(batch)
        self.do(broker, Release(self.take_one(broker, queue)))

        ids = [delivery.id for delivery in self.take(broker, queue, 3)]

        assert ids == [envelope.id for envelope in batch]

    @needs("fifo")
    def test_puts_a_batch_released_in_any_order_back_in_its_place(self, broker: Broker, queue: str) -> None:
        """Messages keep their old places, even if several are released in another order."""
        batch = self.messages(queue, 4)
        broker.send(batch)
        taken = self.take(broker, queue, 3)
        self.do(broker, *[Release(delivery) for delivery in reversed(taken)])

        ids = [delivery.id for delivery in self.take(broker, queue, 4)]

        assert ids == [envelope.id for envelope in batch]

    @needs("fifo")
    def test_puts_what_its_holder_left_back_in_its_place(self, broker: Broker, queue: str) -> None:
        """A message whose lease has ended is next again, before those sent after it."""
        batch = self.messages(queue, 3)
        broker.send(batch)
        self.take_one(broker, queue, lease=self.short)
        self.let_pass(1.1 * self.short + broker.limits.lease_granularity)

        ids = [delivery.id for delivery in self.take(broker, queue, 3)]

        assert ids == [envelope.id for envelope in batch]

    @needs("delay")
    def test_does_not_hand_a_delayed_release_out_early(self, broker: Broker, queue: str) -> None:
        """A message released with a delay is not delivered before the delay has passed; no crash is counted."""
        delay = self.short
        delivery = self.sent_and_taken(broker, self.message(queue))
        before = time.monotonic()
        self.do(broker, Release(delivery, delay=delay))

        again = self.take_one(broker, queue)

        assert self.not_early(time.monotonic() - before, delay)
        assert (again.id, again.crashes, again.envelope) == (delivery.id, 0, delivery.envelope)

    @needs("delay")
    def test_does_not_hand_a_retry_out_early(self, broker: Broker, queue: str) -> None:
        """A retry is not delivered before the delay of its envelope has passed."""
        delay = self.short
        delivery = self.sent_and_taken(broker, self.message(queue))
        before = time.monotonic()
        self.do(broker, Replace(delivery, attrs.evolve(delivery.envelope, attempt=1, delay=delay)))

        again = self.take_one(broker, queue)

        assert self.not_early(time.monotonic() - before, delay)
        assert (again.id, again.envelope.attempt) == (delivery.id, 1)

    @needs("delay")
    def test_heeds_not_before_of_a_retry(self, broker: Broker, queue: str) -> None:
        """A retry is not delivered before the ``not_before`` of its envelope."""
        delivery = self.sent_and_taken(broker, self.message(queue))
        moment = delivery.claimed_at + self.short
        self.do(broker, Replace(delivery, attrs.evolve(delivery.envelope, attempt=1, not_before=moment)))

        again = self.take_one(broker, queue)

        assert again.claimed_at >= moment - broker.limits.lease_granularity
        assert (again.id, again.envelope.attempt) == (delivery.id, 1)
        distant = attrs.evolve(again.envelope, attempt=2, not_before=again.claimed_at + self.far)
        self.do(broker, Replace(again, distant))
        assert self.look(broker, queue) == []

    @needs("delay")
    def test_survives_the_client_that_delayed_it(self, broker: Broker, queue: str) -> None:
        """The broker keeps a delay: the client that sent the message may be gone."""
        client = self.connect()
        client.send([self.message(queue, delay=self.short)])
        client.close()

        self.do(broker, Ack(self.take_one(broker, queue)))

        assert self.look(broker, queue) == []
