"""An operator at work while workers are: long queues, letters that die again at once, refusals of the server."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import pytest
from pymongo import MongoClient, monitoring

from queuekit.broker import Ack, Dead, Place
from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit.ids import new_id
from queuekit_mongo import engine, inspection, settling
from queuekit_mongo.broker import MongoBroker
from queuekit_mongo.inspection import BATCH
from queuekit_testing.kit import unique_name
from support.mongod import ReplicaSet, shared_set
from support.waiting import PATIENCE, UNHURRIED, wait_until

MANY = 27
"""Batches that take longer than one call of many replies may."""
SLOW = 0.8 * UNHURRIED
"""Seconds that a slow reply takes, which is less than it may."""
HURRIED = 1.0
"""Seconds for one reply, where the server takes twice as long."""
LEASE = 3_600.0


class SlowReplies(Protocol):
    """Replies that take their time."""

    @property
    def passed(self) -> float:
        """Seconds that they have taken together."""
        ...


@pytest.fixture
def server() -> Iterator[ReplicaSet]:
    """Return the shared replica set, which fails nothing any more when the test is over."""
    members = shared_set()
    yield members
    members.heal()


def fill(broker: MongoBroker, queue: str, count: int) -> list[str]:
    """Send *count* messages and return their ids."""
    envelopes = [Envelope(id=new_id(), queue=queue, body=b"") for _ in range(count)]
    for first in range(0, count, 1_000):
        broker.send(envelopes[first : first + 1_000])
    return [one.id for one in envelopes]


def dead_letter(broker: MongoBroker, queue: str) -> None:
    """Take what is ready and make dead letters of it."""
    held = broker.receive([queue], limit=1_000, wait=0, lease=LEASE)
    broker.settle([Dead(one, reason="failed") for one in held])


def test_a_long_queue_is_counted_whatever_that_takes(
    server: ReplicaSet, connect: Callable[..., MongoBroker], queue: str
) -> None:
    """Each message is counted, so that takes longer than other calls may; who looks at a backlog has to see it."""
    prefix = unique_name("t")
    fill(connect(prefix=prefix), queue, 3)
    broker = connect(prefix=prefix, timeout=HURRIED)

    server.fail(["aggregate"], mode="alwaysOn", blockConnection=True, blockTimeMS=int(2 * HURRIED * 1_000))

    def counted() -> int | None:
        try:
            return broker.counts([queue])[queue].ready
        except UnavailableError:  # a machine may be too busy for one of the other replies
            return None

    assert wait_until(counted, what="a count") == 3


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an operator's batch be so small that it takes no time by itself."""
    monkeypatch.setattr(inspection, "BATCH", 5)


def test_a_purge_of_what_is_leased_waits_for_no_dead_process(connect: Callable[..., MongoBroker], queue: str) -> None:
    """A worker that died in a commit has left its messages locked: whoever takes them out ends that first."""
    prefix = unique_name("t")
    dead, operator = connect(prefix=prefix), connect(prefix=prefix)
    fill(dead, queue, 3)
    held = dead.receive([queue], limit=3, wait=PATIENCE, lease=LEASE)
    session = dead._engine._own_session()
    session.start_transaction()
    settling.carry_out(dead._engine, [Ack(one) for one in held], session=session)

    purged = operator.purge(queue, place=Place.LEASED)

    session.abort_transaction()
    assert purged == 3
    assert dead.settle([Ack(one) for one in held]) == held


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("place", [Place.READY, Place.DEAD])
def test_a_long_queue_is_purged_whatever_that_takes(
    slow_replies: Callable[..., SlowReplies], connect: Callable[..., MongoBroker], queue: str, place: Place
) -> None:
    """The deadline is one of each call to the server: all of a queue takes as long as it takes."""
    slow = slow_replies(SLOW, "update")
    broker = connect(prefix=unique_name("t"))
    sent = fill(broker, queue, 5 * MANY)
    if place is Place.DEAD:
        dead_letter(broker, queue)
    before = slow.passed

    purged = broker.purge(queue, place=place)

    assert purged == len(sent)
    assert slow.passed - before > 20 * UNHURRIED


@pytest.mark.usefixtures("small_batches")
def test_many_dead_letters_are_replayed_whatever_that_takes(
    slow_replies: Callable[..., SlowReplies], connect: Callable[..., MongoBroker], queue: str
) -> None:
    """The deadline is one of each call to the server here as well."""
    slow = slow_replies(SLOW, "update")
    broker = connect(prefix=unique_name("t"))
    sent = fill(broker, queue, 5 * MANY)
    dead_letter(broker, queue)
    before = slow.passed

    replayed = broker.requeue(queue)

    assert replayed == sent
    assert slow.passed - before > 20 * UNHURRIED


class Afterwards(monitoring.CommandListener):
    """Does something after each update of one client."""

    def __init__(self) -> None:
        self.do: Callable[[], object] = lambda: None

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Nothing yet."""

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Do it."""
        if event.command_name == "update":
            self.do()

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing either."""


def test_what_dies_again_meanwhile_is_not_replayed_again(
    connect: Callable[..., MongoBroker], queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay in several calls is for the dead letters that are there, though workers dead-letter them at once."""
    prefix, afterwards = unique_name("t"), Afterwards()
    worker = connect(prefix=prefix)
    sent = fill(worker, queue, 2 * BATCH)
    dead_letter(worker, queue)
    monkeypatch.setattr(engine, "MongoClient", partial(MongoClient, event_listeners=[afterwards]))
    operator = connect(prefix=prefix)
    operator.queues()
    afterwards.do = lambda: dead_letter(worker, queue)

    replayed = operator.requeue(queue)

    assert Counter(replayed) == Counter(sent)
    assert worker.counts([queue])[queue].dead == len(sent)


def test_a_replay_that_no_majority_has_is_no_answer(server: ReplicaSet, broker: MongoBroker, queue: str) -> None:
    """Where the server cannot tell that a replay will be kept, the operator is told."""
    sent = fill(broker, queue, 1)
    dead_letter(broker, queue)

    unsure: dict[str, Any] = {"code": 64, "errmsg": "waiting for replication timed out"}
    server.fail(["update"], mode="alwaysOn", writeConcernError=unsure)
    with pytest.raises(UnavailableError):
        broker.requeue(queue)
    server.heal()

    assert [one.id for one in broker.receive([queue], limit=9, wait=PATIENCE, lease=LEASE)] == sent
