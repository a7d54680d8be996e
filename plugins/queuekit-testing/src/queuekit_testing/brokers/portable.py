"""Portable leases: any client in any process may renew a lease and settle its message."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection

import attrs
import pytest

from queuekit.broker import Ack, Broker, Capabilities, Dead, Delivery, Lease, Place, Release, Retry
from queuekit.envelope import Envelope
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.kit import needs
from queuekit_testing.processes import Child, run_in_fork

__all__ = ["DEEDS", "PortableLeasesTests"]

_BODY, _AGAIN = b"intact \0\xff", b"second attempt"


def _extend(broker: Broker, held: Delivery, lease: float) -> list[Lease]:
    return broker.extend([held.lease], lease=lease)


def _ack(broker: Broker, held: Delivery, _: float) -> list[Delivery]:
    return broker.settle([Ack(held)])


def _release(broker: Broker, held: Delivery, _: float) -> list[Delivery]:
    return broker.settle([Release(held)])


def _release_counted(broker: Broker, held: Delivery, _: float) -> list[Delivery]:
    return broker.settle([Release(held, counted=True)])


def _retry(broker: Broker, held: Delivery, _: float) -> list[Delivery]:
    return broker.settle([Retry(held, attrs.evolve(held.envelope, attempt=1, body=_AGAIN))])


def _dead(broker: Broker, held: Delivery, _: float) -> list[Delivery]:
    return broker.settle([Dead(held, reason="failed")])


Deed = Callable[[Broker, Delivery, float], object]
DEEDS: Mapping[str, Deed] = {
    "extend": _extend,
    "ack": _ack,
    "release": _release,
    "release-counted": _release_counted,
    "retry": _retry,
    "dead": _dead,
}
"""Calls of a client that did not claim the message, with a new lease in seconds; each returns what was lost."""
_WITH_MESSAGE = ("retry", "dead")
"""Calls that need the whole message. For the others the lease is enough."""


def _shown(name: str, delivery: Delivery) -> Delivery:
    """Return the part of a delivery that a supervisor knows of the messages of a dead process."""
    if name in _WITH_MESSAGE:
        return delivery
    known, lease = delivery.envelope, delivery.lease
    envelope = Envelope(id=lease.id, queue=lease.queue, body=b"", generation=known.generation, attempt=known.attempt)
    return Delivery(envelope=envelope, token=lease.token, number=lease.number)


def _do_all(pipe: Connection, make: Callable[[], Broker], held: dict[str, Delivery], lease: float) -> None:
    """Make all calls, in a child process, and send the names of the refused ones."""
    broker = make()
    pipe.send([name for name, each in held.items() if DEEDS[name](broker, each, lease)])
    broker.close()


class PortableLeasesTests(BrokerKit):
    """A lease is a token: it is not bound to a connection, client or process."""

    @needs("portable_leases")
    @pytest.mark.parametrize("name", DEEDS)
    def test_serves_another_client_that_shows_a_lease(
        self, broker: Broker, queue: str, declared: Capabilities, name: str
    ) -> None:
        """A client that did not claim a message can extend, settle, retry and dead-letter it with the lease."""
        delivery = self.sent_and_taken(broker, self.message(queue, body=_BODY))

        lost = DEEDS[name](self.connect(), _shown(name, delivery), self.short)

        assert lost == []
        self.assert_done(broker, declared, name, delivery)

    @needs("portable_leases", "processes")
    def test_serves_a_process_that_shows_a_lease(self, broker: Broker, declared: Capabilities) -> None:
        """A new process that has only the leases can extend and settle the messages that another process claimed."""
        held = self.hold_for_all(broker)
        child = Child(_do_all, self.make_broker, {name: _shown(name, held[name]) for name in DEEDS}, self.short)
        try:
            refused = child.hear()
        finally:
            child.end()

        assert refused == []
        for name in DEEDS:
            self.assert_done(broker, declared, name, held[name])

    @needs("portable_leases", "processes")
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_serves_a_fork_that_shows_a_lease(self, broker: Broker, declared: Capabilities) -> None:
        """A fork can extend and settle the messages that its parent claimed, with the same client."""
        held = self.hold_for_all(broker)

        def in_child() -> None:
            assert not [name for name in DEEDS if DEEDS[name](broker, _shown(name, held[name]), self.short)]
            broker.close()

        assert run_in_fork(in_child, timeout=self.hangs) == 0
        for name in DEEDS:
            self.assert_done(broker, declared, name, held[name])

    def hold_for_all(self, broker: Broker) -> dict[str, Delivery]:
        """Return a delivery for each call, each in a new queue."""
        return {name: self.sent_and_taken(broker, self.message(self.new_queue(), body=_BODY)) for name in DEEDS}

    def assert_done(self, broker: Broker, declared: Capabilities, name: str, delivery: Delivery) -> None:
        """Fail unless the call was applied to the message, and its claimer has lost the lease."""
        if name in ("ack", "dead"):
            self.assert_gone(broker, declared, name, delivery)
            return
        again = self.take_one(broker, delivery.queue)
        assert again.id == delivery.id
        if name == "retry":
            assert (again.envelope.attempt, again.envelope.body, again.crashes) == (1, _AGAIN, 0)
        else:
            assert (again.envelope, again.number) == (delivery.envelope, delivery.number + 1)
            # Without the body, some services cannot release a message uncounted; core's marks show real crashes.
            assert again.crashes in ((0, 1) if name == "release" else (1,))
        self.do(broker, Ack(again))

    def assert_gone(self, broker: Broker, declared: Capabilities, name: str, delivery: Delivery) -> None:
        """Fail unless the message has left its queue."""
        assert self.look(broker, delivery.queue) == []
        if declared.fenced_ack:
            assert broker.extend([delivery.lease], lease=self.long) == [delivery.lease]
        if name == "dead" and declared.dead_letters and declared.inspect:
            (stored,) = broker.peek(delivery.queue, place=Place.DEAD).items
            assert (stored.envelope.id, stored.envelope.body) == (delivery.id, _BODY)
