"""An operator at work while workers are: long queues, letters that die again at once, refusals of the server."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import attrs
import pytest
from pymongo import MongoClient, monitoring

from queuekit.broker import Ack, Dead, Place, QueueCounts
from queuekit.envelope import Envelope, Lane
from queuekit.errors import UnavailableError
from queuekit.ids import new_id
from queuekit_mongo import counting, engine, inspection, settling
from queuekit_mongo.broker import MongoBroker
from queuekit_mongo.inspection import BATCH
from queuekit_testing.kit import unique_name
from support.mongod import ReplicaSet, shared_set
from support.waiting import PATIENCE, UNHURRIED

MANY = 27
"""Batches that take longer than one call of many replies may."""
SLOW = 0.8 * UNHURRIED
"""Seconds that a slow reply takes, which is less than it may."""
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


def fill(broker: MongoBroker, queue: str, count: int, **fields: Any) -> list[str]:
    """Send *count* messages and return their ids."""
    envelopes = [Envelope(id=new_id(), queue=queue, body=b"", **fields) for _ in range(count)]
    for first in range(0, count, 1_000):
        broker.send(envelopes[first : first + 1_000])
    return [one.id for one in envelopes]


def dead_letter(broker: MongoBroker, queue: str) -> None:
    """Take what is ready and make dead letters of it."""
    held = broker.receive([queue], limit=1_000, wait=0, lease=LEASE)
    broker.settle([Dead(one, reason="failed") for one in held])


@pytest.fixture
def small_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let five messages be many, so that a queue is long that takes no time by itself."""
    monkeypatch.setattr(counting, "LOOKED_AT", 5)


def places(broker: MongoBroker, queue: str, lane: Lane | None) -> None:
    """Have messages in each place of *queue*: 6 dead, 2 leased, 7 delayed and 8 ready, of several priorities."""
    fill(broker, queue, 6, lane=lane)
    dead_letter(broker, queue)
    fill(broker, queue, 2, lane=lane)
    broker.receive([queue], limit=2, wait=PATIENCE, lease=LEASE)
    fill(broker, queue, 7, lane=lane, delay=9_999.0)
    fill(broker, queue, 4, lane=lane, priority=9)
    fill(broker, queue, 4, lane=lane, priority=0)


@pytest.mark.usefixtures("small_looks")
@pytest.mark.parametrize("lane", [None, Lane("a")], ids=["no-lane", "lanes"])
def test_long_queues_among_short_ones_are_counted(
    connect: Callable[..., MongoBroker], queue: str, lane: Lane | None
) -> None:
    """Whichever look ends in a queue, that queue and those around it are counted to the end."""
    broker = connect(prefix=unique_name("t"))
    names = [f"{queue}{number}" for number in range(4)]
    for name in names[1:3]:
        places(broker, name, lane)
    fill(broker, names[3], 1)

    found = broker.counts(names[::-1])

    numbers = {name: attrs.evolve(counts, oldest_age=None) for name, counts in found.items()}
    full = QueueCounts(ready=8, delayed=7, leased=2, dead=6)
    assert numbers == {names[0]: QueueCounts(), names[1]: full, names[2]: full, names[3]: QueueCounts(ready=1)}
    assert [counts.oldest_age is None for counts in found.values()] == [False, False, False, True]


@pytest.mark.usefixtures("small_looks")
def test_beyond_the_bound_a_count_is_a_lower_bound(
    connect: Callable[..., MongoBroker], queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counting ends at so many messages of a place, and says so of that place alone."""
    monkeypatch.setattr(counting, "COUNTED", 10)
    broker = connect(prefix=unique_name("t"))
    places(broker, queue, None)

    found = broker.counts([queue])[queue]

    assert (found.delayed, found.leased, found.dead) == (7, 2, 6)
    assert 0 < found.ready <= 8
    assert found.at_least == {Place.READY}


@pytest.mark.usefixtures("small_looks")
def test_a_queue_that_takes_too_long_to_count_leaves_the_others_counted(
    server: ReplicaSet, connect: Callable[..., MongoBroker], queue: str
) -> None:
    """Of a queue that the server cannot count in time, what the look saw is told as a lower bound."""
    broker = connect(prefix=unique_name("t"))
    names = [f"{queue}{number}" for number in range(3)]
    places(broker, names[1], None)
    for name in names[::2]:
        fill(broker, name, 1)
    server.fail(["count"], mode="alwaysOn", errorCode=50)

    found = broker.counts(names)

    assert [found[name].ready for name in names[::2]] == [1, 1]
    assert found[names[1]].at_least == set(Place)
    assert 0 < found[names[1]].dead <= 6


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
