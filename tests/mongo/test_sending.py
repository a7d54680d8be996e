"""Sends that are refused, because they were accepted before or somebody holds their keys."""

from collections.abc import Callable
from functools import partial

import attrs
import pytest
from pymongo import MongoClient, monitoring

from queuekit.envelope import Envelope, Unique
from queuekit.ids import new_id
from queuekit_mongo import engine
from queuekit_mongo.broker import MongoBroker
from queuekit_testing.kit import unique_name

MANY = 300


class Counting(monitoring.CommandListener):
    """Counts the commands of one client."""

    def __init__(self) -> None:
        self.count = 0

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Count it."""
        self.count += 1

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing more."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing more."""


@pytest.fixture
def commands() -> Counting:
    """Return what counts."""
    return Counting()


@pytest.fixture
def sender(
    connect: Callable[..., MongoBroker], queue: str, commands: Counting, monkeypatch: pytest.MonkeyPatch
) -> MongoBroker:
    """Return a broker whose commands are counted, connected and acquainted with the queue."""
    monkeypatch.setattr(engine, "MongoClient", partial(MongoClient, event_listeners=[commands]))
    broker = connect(prefix=unique_name("t"))
    broker.send([Envelope(id=new_id(), queue=queue, body=b"")])
    commands.count = 0
    return broker


def test_a_repeated_batch_costs_few_round_trips(sender: MongoBroker, queue: str, commands: Counting) -> None:
    """Where the reply to a large batch was lost, sending it again is no matter of a look for each message (QK13)."""
    batch = [Envelope(id=new_id(), queue=queue, body=b"") for _ in range(MANY)]
    sender.send(batch)
    commands.count = 0

    holders = sender.send(batch)

    assert holders == [one.id for one in batch]
    assert commands.count < 10


def test_a_batch_of_held_keys_costs_few_round_trips(sender: MongoBroker, queue: str, commands: Counting) -> None:
    """So where all their keys are held: who holds them is asked for all at once."""
    keys = [Unique(key=unique_name("key")) for _ in range(MANY)]
    first, second = ([Envelope(id=new_id(), queue=queue, body=b"", unique=key) for key in keys] for _ in range(2))
    sender.send(first)
    commands.count = 0

    holders = sender.send(second)

    assert holders == [one.id for one in first]
    assert commands.count < 10


def test_what_is_known_and_what_is_new_are_told_apart(sender: MongoBroker, queue: str) -> None:
    """In one batch: a repetition, a later attempt of a known id, a held key, a free one, and something new."""
    key, other = (Unique(key=unique_name("key")) for _ in range(2))
    known, early, holder, new, free = (Envelope(id=new_id(), queue=queue, body=b"") for _ in range(5))
    held = attrs.evolve(new, id=new_id(), unique=key)
    sender.send([known, early, attrs.evolve(holder, unique=key)])

    ids = sender.send([known, attrs.evolve(early, attempt=1), held, attrs.evolve(free, unique=other), new])

    assert ids == [known.id, early.id, holder.id, free.id, new.id]
    assert [stored.envelope.attempt for stored in sender.find(queue, [early.id])] == [1]
