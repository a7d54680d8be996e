"""Processes that share a source of chance, or what their parent was about when it forked, do not mistake each other."""

from collections.abc import Callable
from random import Random

from queuekit.broker import Ack
from queuekit.envelope import Envelope
from queuekit.ids import new_id
from queuekit_mongo.broker import MongoBroker
from queuekit_testing.kit import unique_name
from support.waiting import PATIENCE

LEASE = 60.0


def test_a_fence_is_no_matter_of_a_shared_chance(connect: Callable[..., MongoBroker], queue: str) -> None:
    """Two processes whose chance is seeded alike, or copied by a fork, still have fences of their own (QK4)."""
    prefix = unique_name("t")
    first, second = connect(prefix=prefix), connect(prefix=prefix)
    first._engine.random, second._engine.random = Random(7), Random(7)
    first.send([Envelope(id=new_id(), queue=queue, body=b"")])
    (stale,) = first.receive([queue], limit=1, wait=PATIENCE, lease=0.05)
    (present,) = second.receive([queue], limit=1, wait=PATIENCE, lease=LEASE)

    refused = first.settle([Ack(stale)])

    assert refused == [stale]
    assert second.settle([Ack(present)]) == []
