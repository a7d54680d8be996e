"""What the fixture ``queue`` knows of a broker that does not report its messages."""

from typing import Any

import attrs
import pytest

from queuekit.broker import Ack, Broker, Dead, Place, Release, Replace
from queuekit.clock import VirtualClock
from queuekit.engines.wrapping import WrappedBroker
from queuekit.envelope import Envelope
from queuekit_testing.application.ledger import WithLedger
from support.working import make_app


class Silent(WrappedBroker):
    """A broker that reports dead letters alone."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.capabilities = attrs.evolve(broker.capabilities, inspect=False)


@pytest.fixture
def clock() -> VirtualClock:
    """Return a clock."""
    return VirtualClock()


@pytest.fixture
def inner(clock: VirtualClock) -> Broker:
    """Return the broker of the service."""
    return Silent(make_app(clock=clock).runtime.broker)


@pytest.fixture
def broker(inner: Broker, clock: VirtualClock) -> WithLedger:
    """Return the broker that knows."""
    return WithLedger(inner, clock)


def message(id: str, **fields: Any) -> Envelope:
    """Return a message."""
    return Envelope(id=id, queue="q", body=b"", **fields)


def places(broker: Broker) -> dict[str, str]:
    """Return the place of each message."""
    return {stored.envelope.id: place.value for place in Place for stored in broker.walk("q", place)}


def test_follows_each_message(broker: WithLedger, clock: VirtualClock) -> None:
    """From its send to its end, by each kind of settlement."""
    broker.send([message(id) for id in ("done", "back", "later", "again", "dead")] + [message("late", delay=60.0)])
    held = {one.id: one for one in broker.receive(["q"], limit=10, wait=0, lease=30)}
    assert places(broker) == dict.fromkeys(held, "leased") | {"late": "delayed"}

    lost = broker.settle(
        [
            Ack(held["done"]),
            Release(held["back"]),
            Release(held["later"], delay=10.0),
            Replace(held["again"], attrs.evolve(held["again"].envelope, attempt=1)),
            Dead(held["dead"], reason="failed"),
        ]
    )

    assert (lost, broker.queues()) == ([], ["q"])
    assert places(broker) == {"back": "ready", "again": "ready", "later": "delayed", "late": "delayed", "dead": "dead"}
    assert [stored.envelope.attempt for stored in broker.find("q", ["again"])][:1] == [1]
    clock.advance(60.0)
    assert places(broker)["late"] == "ready"


def test_a_lost_lease_changes_nothing(broker: WithLedger, inner: Broker) -> None:
    """The service decides."""
    broker.send([message("a")])
    (one,) = broker.receive(["q"], limit=1, wait=0, lease=30)
    inner.settle([Release(one)])

    assert broker.settle([Ack(one)]) == [one]
    assert places(broker) == {"a": "leased"}


def test_deletes_what_an_earlier_test_has_left(broker: WithLedger, inner: Broker) -> None:
    """And hands out what this one has sent."""
    inner.send([message(f"old-{number}") for number in range(3)])
    broker.send([message("own")])

    found = broker.receive(["q"], limit=1, wait=0, lease=30)

    assert [one.id for one in found] == ["own"]
    assert inner.counts(["q"])["q"].ready == 0
