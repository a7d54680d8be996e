"""Claims of several workers, and claims that break off half-way: nothing urgent waits long, and nothing is mislaid."""

import os
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from queuekit.broker import Delivery, Place
from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit.ids import new_id
from queuekit_mongo.broker import MongoBroker
from queuekit_mongo.claiming import WIDEST, Claimer
from queuekit_mongo.layout import new_message
from queuekit_testing.kit import eventually, in_thread, unique_name
from queuekit_testing.processes import run_in_fork
from support.mongod import ReplicaSet, shared_set
from support.waiting import PATIENCE

LEASE = 3_600.0

Lose = Callable[[MongoBroker, str], None]
Call = Callable[[Sequence[Envelope]], list[Delivery]]


@pytest.fixture
def server() -> Any:
    """Return the shared replica set, which fails nothing any more when the test is over."""
    members = shared_set()
    yield members
    members.heal()


def messages(queue: str, count: int, **fields: Any) -> list[Envelope]:
    """Return *count* messages."""
    return [Envelope(id=new_id(), queue=queue, body=b"", **fields) for _ in range(count)]


def ids_of(some: Any) -> list[str]:
    """Return the ids of messages or deliveries."""
    return [one.id for one in some]


class _Last(Random):
    """Chance that always falls on the last of what there is."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return start - 1


def embattled(broker: MongoBroker) -> Claimer:
    """Return the claimer of *broker* after it has lost so often that it looks as far down a queue as any."""
    broker._engine.random = _Last()
    claimer = broker._claimer
    while claimer._breadth < WIDEST:
        claimer._learn(asked=2, won=0)
    return claimer


def test_an_urgent_message_does_not_wait_for_workers_to_fall_out_of_their_shares(
    broker: MongoBroker, queue: str
) -> None:
    """Where all workers keep to a share down the queue, one of few claims still is for what comes first."""
    broker.send(messages(queue, 100))
    (urgent,) = messages(queue, 1, priority=9)
    embattled(broker)
    broker.receive([queue], limit=1, wait=0, lease=LEASE)
    broker.send([urgent])

    broker._claimer._head_at.clear()  # as it would be a moment later
    (taken,) = broker.receive([queue], limit=1, wait=0, lease=LEASE)

    assert taken.id == urgent.id


def test_a_worker_that_has_lost_keeps_to_its_share_for_a_while(broker: MongoBroker, queue: str) -> None:
    """Between two claims for the head it takes from its own part, and learns nothing from who took the head."""
    batch = messages(queue, 200)
    broker.send(batch)
    claimer = embattled(broker)
    broker.receive([queue], limit=1, wait=0, lease=LEASE)
    share = claimer._share
    claimer._head_at[queue] = float("inf")

    (taken,) = broker.receive([queue], limit=1, wait=0, lease=LEASE)

    assert share == WIDEST - 1
    assert taken.id == batch[1 + share].id
    assert claimer._share == share


def test_a_failure_at_one_queue_does_not_mislay_what_came_from_another(
    server: ReplicaSet, broker: MongoBroker, queue: str
) -> None:
    """What was claimed from the first queue is handed out even if the second cannot be asked any more."""
    batch = messages(queue, 3)
    broker.send(batch)
    broker.receive([queue, "other"], limit=1, wait=0, lease=LEASE)  # also does the upkeep

    # The first look and the reading of what was won succeed, the look into the other queue fails.
    server.fail(["find"], mode={"skip": 2}, errorCode=50)
    taken = broker.receive([queue, "other"], limit=10, wait=0, lease=LEASE)

    assert ids_of(taken) == ids_of(batch[1:])


def test_a_malformed_document_that_cannot_be_buried_yet_takes_no_other_along(
    server: ReplicaSet, broker: MongoBroker, queue: str
) -> None:
    """What was claimed together with it is handed out all the same (QK8)."""
    batch = messages(queue, 3)
    broker.send(batch)
    broker.receive([queue], limit=0, wait=0, lease=LEASE)
    bad = new_message(Envelope(id=new_id(), queue=queue, body=b"", priority=9), broker._engine.time.earliest(), {})
    broker._engine.messages.insert_one({**bad, "attempt": "first"})

    server.fail(["update"], mode={"skip": 1}, errorCode=50)
    taken = broker.receive([queue], limit=10, wait=0, lease=0.05)
    server.heal()

    assert ids_of(taken) == ids_of(batch)
    broker.receive([queue], limit=1, wait=0, lease=LEASE)
    again = [one for _ in range(2) for one in broker.receive([queue], limit=10, wait=2, lease=LEASE)]
    assert broker.counts([queue])[queue].dead == 1
    assert bad["id"] not in ids_of(again)


@pytest.fixture
def lose(server: ReplicaSet) -> Lose:
    """Return what makes a broker claim messages of a queue whose ids it never gets to read."""

    def claim(broker: MongoBroker, queue: str) -> None:
        broker.receive([queue], limit=0, wait=0, lease=LEASE)
        server.fail(["find"], mode={"skip": 1}, errorCode=50)
        with pytest.raises(UnavailableError):
            broker.receive([queue], limit=10, wait=0, lease=LEASE)
        server.heal()

    return claim


def test_what_a_claim_has_won_is_found_however_often_the_look_for_it_fails(
    server: ReplicaSet, broker: MongoBroker, queue: str, lose: Lose
) -> None:
    """A claim whose reply was lost is asked for again until there is an answer."""
    batch = messages(queue, 3)
    broker.send(batch)
    lose(broker, queue)

    server.fail(["find", "update"], mode="alwaysOn", errorCode=50)
    with pytest.raises(UnavailableError):
        broker.receive([queue], limit=10, wait=0, lease=LEASE)
    server.heal()

    assert ids_of(broker.receive([queue], limit=10, wait=0, lease=LEASE)) == ids_of(batch)


def test_what_a_claim_has_won_is_kept_for_who_has_room(broker: MongoBroker, queue: str, lose: Lose) -> None:
    """An upkeep, which takes nothing, gets nothing, and nobody gets more than asked for or of another queue."""
    batch = messages(queue, 3)
    broker.send(batch)
    lose(broker, queue)

    nothing = broker.receive([queue], limit=0, wait=0, lease=LEASE)
    others = broker.receive(["other"], limit=10, wait=0, lease=LEASE)
    first = broker.receive([queue], limit=2, wait=0, lease=LEASE)
    rest = broker.receive([queue], limit=10, wait=0, lease=LEASE)

    assert (nothing, others) == ([], [])
    assert (ids_of(first), ids_of(rest)) == (ids_of(batch[:2]), ids_of(batch[2:]))


def test_what_a_claim_has_won_is_leased_from_when_it_is_handed_out(broker: MongoBroker, queue: str, lose: Lose) -> None:
    """The lease is as long as asked for by who gets the message, whatever went by before."""
    broker.send(messages(queue, 2))
    lose(broker, queue)

    taken, _ = broker.receive([queue], limit=2, wait=0, lease=10 * LEASE)

    leased, _ = broker.peek(queue, place=Place.LEASED).items
    assert leased.due > taken.claimed_at + 9 * LEASE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_a_claim_has_won_is_no_matter_of_a_child(broker: MongoBroker, queue: str, lose: Lose) -> None:
    """A process that forks with a claim in doubt looks for it itself; its child does not take the same once more."""
    batch = messages(queue, 3)
    broker.send(batch)
    lose(broker, queue)

    def look() -> None:
        assert broker.receive([queue], limit=10, wait=0, lease=LEASE) == []

    assert run_in_fork(look) == 0
    assert ids_of(broker.receive([queue], limit=10, wait=0, lease=LEASE)) == ids_of(batch)


@pytest.fixture
def called(broker: MongoBroker, queue: str) -> Call:
    """Return what sends messages to a worker that waits for them, and returns what it got for that."""

    def send(batch: Sequence[Envelope]) -> list[Delivery]:
        taken = in_thread(lambda: broker.receive([queue], limit=10, wait=20, lease=LEASE))
        eventually(lambda: broker._notifier.streams and bool(broker._notifier._listeners), what="somebody listening")
        broker.send(batch)
        return taken.result(PATIENCE)

    return send


def test_who_is_called_takes_what_comes_first(broker: MongoBroker, queue: str, called: Call) -> None:
    """The order holds for a worker that was waiting as well; what comes behind it is there for the next call."""
    batch = messages(queue, 3)
    (urgent,) = messages(queue, 1, priority=9)

    first, *more = called([*batch, urgent])

    assert first.id == urgent.id
    rest = broker.receive([queue], limit=10, wait=0, lease=LEASE)
    assert ids_of([*more, *rest]) == ids_of(batch)


def test_what_was_won_by_who_was_called_is_found_after_a_lost_reply(
    server: ReplicaSet,
    broker: MongoBroker,
    queue: str,
    called: Call,
) -> None:
    """A claim of whatever is first is asked for again by its mark, and is not left to its lease."""
    batch = messages(queue, 2)

    server.fail(["findAndModify"], writeConcernError={"code": 64, "errmsg": "in time"})
    with pytest.raises(UnavailableError):
        called(batch)
    server.heal()

    assert ids_of(broker.receive([queue], limit=10, wait=0, lease=LEASE)) == ids_of(batch)


def test_nobody_reads_from_a_member_that_lags_behind(connect: Callable[..., MongoBroker]) -> None:
    """A URL shared with an app that reads from secondaries: messages and records are read from the primary."""
    broker = connect(shared_set().url("plugin") + "&readPreference=secondaryPreferred", prefix=unique_name("t"))

    assert {broker._engine.collection(name).read_preference.mongos_mode for name in ("messages", "records")} == {
        "primary"
    }
