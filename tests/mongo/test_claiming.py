"""What a worker claims that has lost to others: a share further down, and never nothing while there is something."""

import itertools
import time

import pytest

from queuekit.envelope import Envelope
from queuekit.ids import new_id
from queuekit_mongo.broker import MongoBroker
from queuekit_mongo.claiming import CALM, WIDEST, Claimer


@pytest.fixture
def claimer(broker: MongoBroker) -> Claimer:
    """Return a claimer that has lost again and again."""
    made = Claimer(broker._engine)
    for _ in range(10):
        made._learn(asked=10, won=0)
    return made


def send(broker: MongoBroker, queue: str, count: int) -> list[str]:
    """Send *count* messages one by one, and return their ids in order."""
    return [broker.send([Envelope(id=new_id(), queue=queue, body=b"")])[0] for _ in range(count)]


def test_a_short_queue_is_emptied_by_one_who_looks_far(broker: MongoBroker, queue: str, claimer: Claimer) -> None:
    """However far down a worker looks, it takes all of a queue that is not as long as that, each message once."""
    ids = send(broker, queue, 5)
    claimer._share = WIDEST - 1

    taken = [claimer.claim(queue, limit=2, lease=30) for _ in range(4)]

    assert [[each.id for each in batch] for batch in taken] == [ids[:2], ids[2:4], ids[4:], []]


def test_one_who_looks_far_leaves_the_head_to_others(broker: MongoBroker, queue: str, claimer: Claimer) -> None:
    """A share is a part of its own, so that the winner of the head is not in the way."""
    ids = send(broker, queue, 6)
    claimer._share = 2
    claimer._head_at[queue] = time.monotonic()

    taken = claimer.claim(queue, limit=2, lease=30)

    assert [each.id for each in taken] == ids[4:]


def test_one_who_is_alone_comes_back_to_the_exact_order(broker: MongoBroker, queue: str, claimer: Claimer) -> None:
    """After so many full wins a worker looks no further than the head, and the most urgent message is there."""
    for _ in itertools.takewhile(lambda _: claimer._breadth > 1, range(CALM[1] * WIDEST)):
        claimer._learn(asked=10, won=10)
    ids = send(broker, queue, 4)

    taken = claimer.claim(queue, limit=4, lease=30)

    assert [each.id for each in taken] == ids
