"""Connections of a broker: reconnects, cost of waiting, and leftovers after ``close``."""

from __future__ import annotations

import time

from queuekit.broker import Ack, Broker
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.connections import Leftovers
from queuekit_testing.kit import in_thread, needs

__all__ = ["BrokerConnectionsTests"]

BUSY = 0.15
"""CPU seconds per second of waiting from which a client counts as busy."""


class BrokerConnectionsTests(BrokerKit):
    """A client reconnects by itself, sleeps while it waits, and leaves nothing behind."""

    def test_works_on_after_its_connections_are_cut(self, broker: Broker, queue: str) -> None:
        """A client whose connections are cut opens new ones; a call may fail once, and nothing is lost."""
        first, second = self.messages(queue, 2)
        held = self.sent_and_taken(broker, first)
        self.cut()
        self.insist(lambda: broker.settle([Ack(held)]))
        if not broker.capabilities.portable_leases:  # the lease ended with its connection
            again = self.insist(lambda: self.take_one(broker, queue))
            self.do(broker, Ack(again))
        self.cut()
        self.insist(lambda: broker.send([second]))
        self.cut()

        taken = self.insist(lambda: self.take_one(broker, queue))

        assert taken.id == second.id
        self.do(broker, Ack(taken))
        assert self.look(broker, queue) == []

    def test_waits_on_after_its_connections_are_cut(self, broker: Broker, queue: str) -> None:
        """A waiting ``receive`` whose connection is cut returns or raises; a message sent later is not lost."""
        client = self.connect()
        self.look(client, queue)
        waiting = in_thread(lambda: self.insist(lambda: self.take_one(client, queue, lease=4 * self.short)))
        self.let_pass(0.05)
        self.cut()
        envelope = self.message(queue)

        self.insist(lambda: broker.send([envelope]))

        assert self.result(waiting, "a receive survives the loss of its connection").id == envelope.id

    def test_leaves_nothing_behind(self, broker: Broker, queue: str) -> None:
        """Clients that were used and closed leave neither threads nor open files, except shared ones made once."""
        assert Leftovers.of(lambda: self.use_and_close(queue), timeout=min(5.0, self.PATIENCE)) == []

    def use_and_close(self, queue: str) -> None:
        """Use a client in two threads, and close it."""
        client = self.make_broker()
        client.send([self.message(queue)])
        waiting = in_thread(lambda: self.take_one(client, queue))
        client.settle([Ack(self.result(waiting, "the message arrives"))])
        client.close()

    @needs("blocking_receive")
    def test_sleeps_while_it_waits(self, broker: Broker, queue: str) -> None:
        """A ``receive`` waits as long as asked and uses almost no CPU, even while a message is leased."""
        self.sent_and_taken(broker, self.message(queue))
        seconds = max(0.5, self._limits.lease_granularity)
        before, cpu = time.monotonic(), time.process_time()

        found = self.look(broker, queue, wait=seconds)

        spent = time.process_time() - cpu
        assert found == []
        assert self.not_early(time.monotonic() - before, seconds)
        assert spent < BUSY * seconds, f"used {spent:.2f} s of CPU in a wait of {seconds:g} s"

    @needs("delay")
    def test_sleeps_while_something_is_delayed(self, broker: Broker, queue: str) -> None:
        """A waiting ``receive`` uses almost no CPU while a message is delayed."""
        broker.send([self.message(queue, delay=self.far)])
        self.look(broker, queue)
        seconds = max(0.5, self._limits.lease_granularity)
        cpu = time.process_time()

        found = self.look(broker, queue, wait=seconds)

        spent = time.process_time() - cpu
        assert found == []
        assert spent < BUSY * seconds, f"used {spent:.2f} s of CPU in a wait of {seconds:g} s"
