"""What a client costs and survives: its connections cut, waits that sleep, and nothing left when it is closed."""

from __future__ import annotations

import time

from queuekit.broker import Ack, Broker
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.connections import Leftovers
from queuekit_testing.kit import in_thread, needs

__all__ = ["BrokerConnectionsTests"]

BUSY = 0.15
"""Seconds of CPU for each second of waiting that are too many."""


class BrokerConnectionsTests(BrokerKit):
    """A client reconnects by itself, sleeps while it waits, and leaves nothing behind."""

    def test_works_on_after_its_connections_are_cut(self, broker: Broker, queue: str) -> None:
        """A client whose connections end under its hands opens others; a call may fail once, and nothing is lost."""
        first, second = self.messages(queue, 2)
        held = self.sent_and_taken(broker, first)
        self.cut()
        self.insist(lambda: broker.settle([Ack(held)]))
        self.cut()
        self.insist(lambda: broker.send([second]))
        self.cut()

        taken = self.insist(lambda: self.take_one(broker, queue))

        assert taken.id == second.id
        self.do(broker, Ack(taken))
        assert self.look(broker, queue) == []

    def test_waits_on_after_its_connections_are_cut(self, broker: Broker, queue: str) -> None:
        """A ``receive`` that waits when its connection ends returns or raises; what is sent then is not lost."""
        client = self.connect()
        self.look(client, queue)
        waiting = in_thread(lambda: self.insist(lambda: self.take_one(client, queue, lease=4 * self.short)))
        self.let_pass(0.05)
        self.cut()
        envelope = self.message(queue)

        self.insist(lambda: broker.send([envelope]))

        assert self.result(waiting, "a receive outlives its connection").id == envelope.id

    def test_leaves_nothing_behind(self, broker: Broker, queue: str) -> None:
        """Clients that are used and closed leave neither threads nor open files; what all share is made once."""
        assert Leftovers.of(lambda: self.use_and_close(queue), timeout=min(5.0, self.PATIENCE)) == []

    def use_and_close(self, queue: str) -> None:
        """Let a client do what clients do, in two threads, and close it."""
        client = self.make_broker()
        client.send([self.message(queue)])
        waiting = in_thread(lambda: self.take_one(client, queue))
        client.settle([Ack(self.result(waiting, "a message comes"))])
        client.close()

    @needs("blocking_receive")
    def test_sleeps_while_it_waits(self, broker: Broker, queue: str) -> None:
        """A ``receive`` takes the time that it was given, and next to no CPU; also while something is held."""
        self.sent_and_taken(broker, self.message(queue))
        seconds = max(0.5, self._limits.lease_granularity)
        before, cpu = time.monotonic(), time.process_time()

        found = self.look(broker, queue, wait=seconds)

        spent = time.process_time() - cpu
        assert found == []
        assert self.not_early(time.monotonic() - before, seconds)
        assert spent < BUSY * seconds, f"it used {spent:.2f} s of CPU while it waited {seconds:g} s"

    @needs("delay")
    def test_sleeps_while_something_is_delayed(self, broker: Broker, queue: str) -> None:
        """A ``receive`` that waits uses next to no CPU while a message is delayed."""
        broker.send([self.message(queue, delay=self.far)])
        self.look(broker, queue)
        seconds = max(0.5, self._limits.lease_granularity)
        cpu = time.process_time()

        found = self.look(broker, queue, wait=seconds)

        spent = time.process_time() - cpu
        assert found == []
        assert spent < BUSY * seconds, f"it used {spent:.2f} s of CPU while it waited {seconds:g} s"
