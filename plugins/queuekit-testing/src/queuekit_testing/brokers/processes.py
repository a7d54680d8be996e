"""Several processes on one broker, one of them killed during its work, and forks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

import pytest

from queuekit.broker import Ack, Broker
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.kit import needs
from queuekit_testing.processes import Child, run_in_fork

__all__ = ["ProcessesTests"]

CHILDREN = 3


def _take_all(pipe: Connection, make: Callable[[], Broker], queue: str, lease: float) -> None:
    """Claim and acknowledge, in a child process, until the parent says stop; then send the ids."""
    broker, ids = make(), []
    pipe.send("started")
    while not pipe.poll():
        deliveries = broker.receive([queue], limit=3, wait=min(0.05, broker.limits.max_wait), lease=lease)
        broker.settle([Ack(delivery) for delivery in deliveries])
        ids += [delivery.id for delivery in deliveries]
        if deliveries:
            pipe.send(len(deliveries))
    pipe.send(ids)


def _take_and_hang(pipe: Connection, make: Callable[[], Broker], queues: list[str], lease: float) -> None:
    """Claim one message, in a child process, send its id, never settle it, and wait on the last queue for more."""
    broker = make()
    while not (deliveries := broker.receive(queues[:1], limit=1, wait=min(1.0, broker.limits.max_wait), lease=lease)):
        pass
    pipe.send(deliveries[0].id)
    while True:
        broker.receive(queues[1:], limit=1, wait=broker.limits.max_wait, lease=lease)


class ProcessesTests(BrokerKit):
    """The end of a process does not lose or duplicate messages, and forks share no connections."""

    @needs("processes")
    def test_shares_messages_between_processes(self, broker: Broker, queue: str) -> None:
        """Three processes drain one queue: each message is delivered exactly once."""
        children = [Child(_take_all, self.make_broker, queue, self.long) for _ in range(CHILDREN)]
        try:
            assert [child.hear() for child in children] == ["started"] * CHILDREN
            batch = [envelope for _ in range(12) for envelope in self.messages(queue, 10)]
            for start in range(0, len(batch), 10):
                broker.send(batch[start : start + 10])
            ids = self.taken_by(children, len(batch))
        finally:
            for child in children:
                child.end()

        assert ids == Counter(envelope.id for envelope in batch)

    def taken_by(self, children: list[Child], total: int) -> Counter[str]:
        """Wait until *children* have claimed *total* messages, or no more arrive, and return the ids."""
        taken = 0
        while taken < total and (ready := wait([child.pipe for child in children], timeout=self.patience)):
            taken += sum(pipe.recv() for pipe in ready if isinstance(pipe, Connection))
        ids: Counter[str] = Counter()
        for child in children:
            child.pipe.send("stop")
            while not isinstance(said := child.hear(), list):
                pass
            ids.update(said)
        return ids

    @needs("processes")
    @pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
    def test_recovers_from_a_killed_process(self, broker: Broker, queue: str) -> None:
        """The message of a killed process comes back when its lease ends, counted as a crash.

        The process was waiting for more messages when it was killed; a message sent later still reaches others.
        """
        envelope, later = self.message(queue, body=b"survives"), self.message(self.new_queue())
        broker.send([envelope])
        child = Child(_take_and_hang, self.make_broker, [queue, later.queue], self.short)
        try:
            assert child.hear() == envelope.id
            self.let_pass(0.05)
        finally:
            child.kill()
        broker.send([later])

        delivery = self.take_one(broker, queue)

        assert (delivery.id, delivery.envelope.body) == (envelope.id, b"survives")
        assert (delivery.number, delivery.crashes) == (2, 1)
        assert self.take_one(broker, later.queue).id == later.id

    @needs("processes")
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_survives_a_fork(self, broker: Broker, queue: str) -> None:
        """A client that was used still works in a forked child and in the parent."""
        envelopes = self.messages(queue, 3)
        broker.send(envelopes[:2])
        held = self.take_one(broker, queue)

        def in_child() -> None:
            self.do(broker, Ack(self.take_one(broker, queue)))
            broker.send([envelopes[2]])
            broker.close()

        assert run_in_fork(in_child, timeout=self.hangs) == 0
        self.do(broker, Ack(held))
        assert self.take_one(broker, queue).id in {envelope.id for envelope in envelopes} - {held.id}
        assert self.look(broker, queue) == []

    @needs("processes")
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_shares_no_tokens_with_a_fork(self, broker: Broker, queue: str) -> None:
        """A client and its fork, which starts with the same state and random seed, never use the same token."""
        broker.send(self.messages(queue, 4))

        def claim() -> set[str]:
            return {self.take_one(broker, queue).token for _ in range(2)}

        reader, writer = Pipe(duplex=False)
        with reader, writer:
            assert run_in_fork(lambda: writer.send(claim())) == 0
            theirs, ours = reader.recv(), claim()

        assert not theirs & ours
