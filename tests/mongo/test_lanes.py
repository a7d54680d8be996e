"""Lanes on a server: what they leave behind, what they cost, and what foreign documents in their place do."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from bson.timestamp import Timestamp
from pymongo import MongoClient, monitoring

from queuekit.backend import Record
from queuekit.broker import Ack, Broker, CommitItem, Place
from queuekit_mongo import claiming, engine, lanes
from queuekit_mongo.broker import MongoBroker
from queuekit_testing.kit import unique_name
from support.lanes import LaneCases, drain, in_lane, message, turns
from support.mongod import shared_lone
from support.waiting import PATIENCE, wait_until


def sweep(broker: MongoBroker) -> bool:
    """Remove lanes that nobody waits in, however short ago they were entered."""
    return lanes.sweep(broker._engine, ["q", "other"], quiet=-1.0)


class TestLanes(LaneCases):
    """The cases of all engines."""

    def left(self, broker: Broker) -> int:
        """Return how many documents of lanes the upkeep leaves."""
        assert isinstance(broker, MongoBroker)
        sweep(broker)
        return broker._engine.lanes.count_documents({})


def test_lane_stays_while_its_messages_are_inserted(broker: MongoBroker) -> None:
    """The upkeep leaves alone what was entered a moment ago, and lanes of queues that it does not serve."""
    broker.send([message("a-0", "a")])
    drain(broker)

    assert lanes.sweep(broker._engine, ["q"])
    assert not lanes.sweep(broker._engine, ["other"], quiet=-1.0)
    assert broker._engine.lanes.count_documents({}) == 1


def test_sender_that_dies_before_it_inserts_does_no_harm(broker: MongoBroker) -> None:
    """Its lane has moved on for nothing: others are not held back, and the lane goes on in its order."""
    broker.send(in_lane("a", 3))
    lost = [message(f"lost-{number}", "a") for number in range(5)]
    lanes.enter_sent(broker._engine, lost, broker._engine.time.earliest())
    broker.send([message("a-3", "a"), message("b-0", "b")])

    assert drain(broker) == ["a-0", "b-0", "a-1", "a-2", "a-3"]


def test_message_that_a_commit_finds_known_takes_no_turn(broker: MongoBroker) -> None:
    """Such as one that a worker sends again after a crash."""
    broker.send(in_lane("long", 60))
    broker.send(in_lane("a", 1))
    for number in range(20):
        record = Record(key=f"{broker._engine.options.prefix}:{number}", body=b"r")
        broker.commit([CommitItem(sends=(message("a-0", "a"),), records=(record,))])
    broker.send(in_lane("a", 2, first=1))

    assert turns(broker, 8)["a"] == 3


@pytest.mark.parametrize(
    ("order", "batch"),
    [
        pytest.param(-1, ["a", "b"], id="reversed-two-lanes"),
        pytest.param(1, ["a", "b"], id="in-turn-two-lanes", marks=pytest.mark.full),
        pytest.param(-1, ["a"], id="reversed-one-lane", marks=pytest.mark.full),
        pytest.param(1, ["a"], id="in-turn-one-lane"),
    ],
)
def test_senders_that_are_rejected_at_once_take_no_turn(broker: MongoBroker, batch: list[str], order: int) -> None:
    """Whoever of two senders of a lane learns first that the messages are known, and though both have entered it."""
    now = broker._engine.time.earliest()
    known = [message(f"{lane}-0", lane) for lane in batch]
    broker.send(in_lane("long", 60))
    broker.send(known)
    for _ in range(20):
        entered = [lanes.enter_sent(broker._engine, known, now) for _ in range(2)]
        for tags in entered[::order]:
            lanes.give_back(broker._engine, known, tags)
    broker.send([message("a-1", "a"), message("a-2", "a")])

    assert turns(broker, 6 + len(batch))["a"] == 3


def test_turns_that_are_given_back_change_no_order(broker: MongoBroker) -> None:
    """A message that has entered the lane meanwhile stays before those that use the turns of refused ones."""
    now = broker._engine.time.earliest()
    broker.send(in_lane("long", 60))
    known = [message("a-0", "a")]
    broker.send(known)
    tags = lanes.enter_sent(broker._engine, known, now)
    broker.send([message("a-1", "a")])
    lanes.give_back(broker._engine, known, tags)
    broker.send([message("a-2", "a")])
    broker.send([message("a-3", "a")])

    ids = [id for id in drain(broker)[:8] if id.startswith("a")]
    assert ids == ["a-0", "a-1", "a-2", "a-3"]


def test_message_whose_commit_has_lost_its_lease_takes_no_turn(broker: MongoBroker) -> None:
    """What follows it is not sent, so its lane does not fall behind."""
    broker.send(in_lane("long", 60))
    (old,) = broker.receive(["q"], limit=1, wait=0, lease=30)
    broker.settle([Ack(old)])
    for number in range(20):
        lost = CommitItem(settlement=Ack(old), sends=(message(f"lost-{number}", "a"),))
        assert broker.commit([lost]) == [False]
    broker.send([message("a-0", "a"), message("a-1", "a"), message("a-2", "a")])

    assert turns(broker, 8)["a"] == 3


def test_queue_that_was_empty_punishes_no_lane(broker: MongoBroker) -> None:
    """A lane that has had the queue to itself takes turns from the beginning, since lanes are sorted by what waits."""
    broker.send(in_lane("early", 100))
    drain(broker)
    broker.send(in_lane("late", 20))
    broker.send([message(f"early-{number}", "early") for number in range(100, 120)])

    assert turns(broker, 10)["early"] in (4, 5, 6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lane": "a"},
        {"lane": {"key": 7, "weight": 1.0}},
        {"lane": {"key": "a", "weight": "much"}},
        {"lane": {"key": "a", "weight": float("nan")}},
        {"priority": "high"},
        {"due": Timestamp(2**32 - 1, 2**32 - 1)},
    ],
    ids=["text", "key", "weight", "not-a-number", "priority", "latest-tag"],
)
def test_foreign_lane_stops_nobody(broker: MongoBroker, wrong: dict[str, Any]) -> None:
    """A document whose lane cannot be read goes to the dead letters, ready or delayed, and others go on (QK9)."""
    broker.send([message("bad", "a"), message("later", "a", delay=0.001), message("good", "b")])
    broker._engine.messages.update_many({"id": {"$in": ["bad", "later"]}}, {"$set": wrong})
    broker._engine.lanes.update_many({}, {"$set": {"tail": "foreign"}})

    found: set[str] = set()

    def all_have_left() -> bool:
        found.update(each.id for each in broker.receive(["q"], limit=9, wait=0.05, lease=30))
        broker.receive(["q"], limit=0, wait=0, lease=30)
        return broker.counts(["q"])["q"].ready + broker.counts(["q"])["q"].delayed == 0

    broker.send([message("next", "b")])
    wait_until(all_have_left, "each is delivered or set aside")

    assert {"good", "next"} <= found


def test_messages_with_and_without_a_lane_share_a_queue(broker: MongoBroker) -> None:
    """Those without come first; pages of either place show each once, in order."""
    broker.send([message(f"laned-{number}", "a") for number in range(3)])
    broker.send([message(f"plain-{number}") for number in range(3)])
    delays = {"later-0": None, "later-1": "a", "later-2": None, "later-3": "b"}
    for at, (id, lane) in enumerate(delays.items()):
        broker.send([message(id, lane, delay=100.0 + at)])

    assert pages(broker, Place.DELAYED) == list(delays)
    assert pages(broker, Place.READY) == ["plain-0", "plain-1", "plain-2", "laned-0", "laned-1", "laned-2"]
    assert broker.counts(["q"])["q"].delayed == 4
    assert drain(broker) == ["plain-0", "plain-1", "plain-2", "laned-0", "laned-1", "laned-2"]
    assert broker.purge("q", place=Place.DELAYED) == 4


def pages(broker: MongoBroker, place: Place) -> list[str]:
    """Return the ids in *place*, read in pages of two."""
    ids: list[str] = []
    cursor = None
    while True:
        page = broker.peek("q", place=place, limit=2, cursor=cursor)
        ids += [each.envelope.id for each in page.items]
        cursor = page.cursor
        if cursor is None:
            return ids


def test_two_workers_move_a_lane_on_once(broker: MongoBroker, connect: Callable[..., MongoBroker]) -> None:
    """Messages that become due get one turn each, whoever else sees them become due."""
    broker.send([message(f"due-{number}", "due", delay=0.001) for number in range(20)])
    ids = [f"q/due-{number}" for number in range(20)]
    wait_until(lambda: lanes.promote(broker._engine, ids) == 20, "all are due")
    other = connect(prefix=broker._engine.options.prefix)

    assert lanes.promote(other._engine, ids) == 0
    broker.send(in_lane("late", 20))
    assert turns(broker, 20)["late"] in (9, 10, 11)


@pytest.mark.parametrize("kind", ["set", pytest.param("lone", marks=pytest.mark.full)])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_worker_that_waits_gets_what_becomes_due(connect: Callable[..., MongoBroker], kind: str, when: str) -> None:
    """A delayed message of a lane reaches a worker that has nothing to do, whenever it was sent."""
    url = f"mongodb://{shared_lone().address}/lanes" if kind == "lone" else None
    prefix = unique_name("t")
    worker, sender = connect(url, prefix=prefix), connect(url, prefix=prefix)
    later = [message("later", "a", delay=0.05)]
    if when == "before":
        sender.send(later)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(worker.receive, ["q"], limit=1, wait=PATIENCE, lease=30)
        if when == "meanwhile":
            sender.send(later)

        assert [each.id for each in waiting.result()] == ["later"]


class Counting(monitoring.CommandListener):
    """Counts commands, except those that find the server and its time."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Note the name."""
        if event.command_name not in ("hello", "ping"):
            self.names.append(event.command_name)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing more."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing more."""


def test_round_trips_are_for_a_batch_and_for_lanes_alone(
    connect: Callable[..., MongoBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without lanes none is added; 500 messages of 500 lanes add two to their send, and none to claim and ack."""
    counting = Counting()
    monkeypatch.setattr(engine, "MongoClient", partial(MongoClient, event_listeners=[counting]))
    broker = connect(prefix=unique_name("t"))

    def commands(call: Callable[[], object]) -> list[str]:
        counting.names.clear()
        call()
        return counting.names[:]

    def take_all() -> None:
        # Without the upkeep, which depends on the time.
        taken = broker._claimer.claim("q", limit=600, lease=30)
        assert len(taken) == 500
        broker.settle([Ack(each) for each in taken])

    broker.send([message("first", "first", delay=9_999.0)])
    plain = [commands(lambda: broker.send([message(f"plain-{one}") for one in range(500)])), commands(take_all)]
    many = [[message(f"laned-{turn}-{one}", f"lane-{one}") for one in range(500)] for turn in range(2)]
    laned = [commands(lambda: broker.send(many[0])), commands(take_all)]
    again = commands(lambda: broker.send(many[1]))
    single = commands(lambda: broker.send([message("single", "lane")]))

    assert plain[0] == ["insert"]
    assert laned[0] == again == ["aggregate", "update", "insert"]
    assert single == ["aggregate", "findAndModify", "insert"]
    assert laned[1] == plain[1]


def test_commit_enters_lanes_before_its_transaction(broker: MongoBroker) -> None:
    """What follows takes its turn, though the transaction cannot be rolled back together with the lane."""
    broker.send(in_lane("long", 9))
    (taken,) = broker.receive(["q"], limit=1, wait=0, lease=30)
    sends = (message("quiet-0", "quiet"),)

    assert broker.commit([CommitItem(settlement=Ack(taken), sends=sends)]) == [True]

    assert turns(broker, 2)["quiet"] == 1


def test_worker_that_loses_claims_stays_near_the_head(broker: MongoBroker) -> None:
    """What started far before its turn would take the turns of others; and what comes first begins soon."""
    broker.send([message(f"{number:03}", f"lane-{number}") for number in range(400)])

    def claimed() -> list[str]:
        return [one.id for one in broker.receive(["q"], limit=10, wait=0, lease=30)]

    first, claimer = claimed(), broker._claimer
    while claimer._breadth < claiming.WIDEST:
        claimer._learn(asked=10, won=0)
    claimer._share = claiming.WIDEST - 1
    later = [*claimed(), *claimed()]

    assert first == [f"{number:03}" for number in range(10)]
    assert "010" in later
    assert max(later) < f"{10 + 10 * (claiming.NARROWEST + 1):03}"
