"""How deliveries and outcomes travel between a worker and the process of a body."""

import math
import pickle
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from queuekit.backend import Record
from queuekit.broker import Ack, Dead, Delivery, Release, Settlement
from queuekit.envelope import Envelope, Unique
from queuekit.execution.ending import Ended
from queuekit.execution.outcome import Outcome, Run
from queuekit.wire.position import Position
from queuekit.worker.carried import Carried, is_usual, pack_deliveries, pack_outcome, read_deliveries, read_outcome

ENVELOPE = Envelope(
    id="a", queue="q", body=b"\xff\0", priority=2, delay=1.5, expires=9.0, attempt=3, unique=Unique(key="k", ttl=60.0)
)
DELIVERY = Delivery(
    envelope=ENVELOPE, token=ENVELOPE.id, number=4, crashes=1, sent_at=7.0, claimed_at=8.0, unread="gone"
)
LINK = Position(graph="g", node=1)


class OwnEnvelope(Envelope):
    """An envelope of a broker that keeps more with it."""


def run_of(delivery: Delivery, *, serial: int = 0, limit: float | None = None) -> Run:
    """Return what of a run travels."""
    run: Any = SimpleNamespace(delivery=delivery, serial=serial, limit=limit)
    made: Run = run
    return made


def test_deliveries_arrive_as_they_were() -> None:
    """Each field has its value at the other end."""
    packed = pack_deliveries(3, 7, [run_of(DELIVERY, serial=5, limit=2.5), run_of(DELIVERY, serial=6)])

    first, second = Carried(7, 5, 2.5, DELIVERY), Carried(8, 6, math.inf, DELIVERY)
    assert read_deliveries(packed) == (3, [first, second])


def test_delivery_keeps_a_class_of_its_broker() -> None:
    """What a broker has derived from the contract's class may hold more than its fields."""
    own = attrs.evolve(DELIVERY, envelope=OwnEnvelope(id="a", queue="q", body=b""))

    _, (found,) = read_deliveries(pack_deliveries(0, 1, [run_of(own)]))

    assert type(found.delivery.envelope) is OwnEnvelope
    assert (is_usual(own), is_usual(DELIVERY)) == (False, True)


@pytest.mark.parametrize(
    "settlement", [Ack(DELIVERY), Dead(DELIVERY, reason="failed"), Release(DELIVERY, counted=True), None]
)
def test_outcome_arrives_as_it_was(settlement: Settlement | None) -> None:
    """Whatever settles the delivery, and also where nothing does since it was acknowledged early."""
    outcome = Outcome(
        delivery=DELIVERY,
        settlement=settlement,
        records=(Record(key="a", body=b"1", ttl=60.0, final=True),),
        sends=(ENVELOPE,),
        ended=Ended(link=LINK, value=1),
        status="failed",
    )

    assert read_outcome(pack_outcome(outcome), DELIVERY) == outcome


def test_value_that_cannot_be_pickled_is_refused() -> None:
    """The process then sends another outcome, which says so."""
    outcome = Outcome(delivery=DELIVERY, settlement=Ack(DELIVERY), ended=Ended(link=LINK, value=lambda: None))

    with pytest.raises((AttributeError, pickle.PicklingError)):
        pack_outcome(outcome)
