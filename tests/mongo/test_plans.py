"""No query walks over a whole collection: the server's own profile of every verb shows an index, and few keys read."""

from collections.abc import Iterator
from typing import Any

import pytest

from queuekit.broker import Dead
from queuekit.envelope import Envelope, Lane
from queuekit.ids import new_id
from queuekit.urls import EngineURL
from queuekit_mongo import counting
from queuekit_mongo.backend import MongoBackend
from queuekit_mongo.broker import MongoBroker
from queuekit_testing.kit import unique_name
from support.mongo_verbs import LEASE, use_every_verb
from support.mongod import shared_url

WAITING = 2_000
"""Messages that lie about while the verbs are tried."""
INDEXED = {"IXSCAN", "IDHACK", "EOF"}


@pytest.fixture
def url() -> EngineURL:
    """Return the URL of a database that is profiled, and that nobody else uses."""
    return EngineURL.parse(shared_url(unique_name("profiled")))


def fill(broker: MongoBroker, envelopes: list[Envelope]) -> None:
    """Send *envelopes* in batches that even a busy server stores in time."""
    for start in range(0, len(envelopes), 200):
        broker.send(envelopes[start : start + 200])


@pytest.fixture
def broker(url: EngineURL) -> Iterator[MongoBroker]:
    """Return a broker whose database writes down every operation."""
    made = MongoBroker(url)
    made.queues()
    yield made
    made._engine.database().command("profile", 0)
    made.close()


@pytest.fixture
def backend(url: EngineURL) -> Iterator[MongoBackend]:
    """Return a backend of the same database."""
    made = MongoBackend(url)
    yield made
    made.close()


def profile(broker: MongoBroker) -> list[dict[str, Any]]:
    """Return what was done on messages, records and groups."""
    kinds = ("messages", "records", "groups", "lanes")
    names = [broker._engine.collection(name).full_name for name in kinds]
    wanted = {"ns": {"$in": names}, "op": {"$in": ["query", "update", "remove", "command", "getmore"]}}
    return [doc for doc in broker._engine.database()["system.profile"].find(wanted) if "planSummary" in doc]


@pytest.mark.parametrize("lane", [None, Lane("a", 2)], ids=["no-lane", "lanes"])
def test_every_verb_goes_by_an_index(broker: MongoBroker, backend: MongoBackend, lane: Lane | None) -> None:
    """Each operation of each verb is planned over an index or an ``_id``, with thousands of messages lying about."""
    queue = unique_name("q")
    half = WAITING // 2
    fill(broker, [Envelope(id=new_id(), queue=queue, body=b"", priority=one % 10, lane=lane) for one in range(half)])
    fill(broker, [Envelope(id=new_id(), queue=queue, body=b"", delay=9_999.0, lane=lane) for _ in range(half)])
    broker._engine.database().command("profile", 2)

    use_every_verb(broker, backend, queue, lane)

    plans = profile(broker)
    assert len(plans) > 30
    assert [doc for doc in plans if doc["planSummary"].split(" ")[0].rstrip(",") not in INDEXED] == []


def test_a_claim_reads_no_more_than_it_takes(broker: MongoBroker) -> None:
    """Finding the head of a queue reads the keys of what is claimed, and skips thousands that are delayed."""
    queue = unique_name("q")
    fill(broker, [Envelope(id=new_id(), queue=queue, body=b"", delay=9_999.0, priority=9) for _ in range(WAITING)])
    fill(broker, [Envelope(id=new_id(), queue=queue, body=b"", priority=number % 10) for number in range(100)])
    broker._engine.database().command("profile", 2)

    claimed = broker.receive([queue], limit=50, wait=0, lease=LEASE)

    reads = [doc for doc in profile(broker) if "queuekit_messages" in doc["ns"]]
    assert len(claimed) == 50
    assert max(doc["keysExamined"] for doc in reads) <= 2 * len(claimed) + 30


def test_a_claim_of_the_first_reads_few_keys(broker: MongoBroker) -> None:
    """A worker that was called reads neither what is delayed nor what comes behind the first."""
    queue = unique_name("q")
    fill(broker, [Envelope(id=new_id(), queue=queue, body=b"", delay=9_999.0, priority=9) for _ in range(WAITING)])
    fill(broker, [Envelope(id=new_id(), queue=queue, body=b"", priority=number % 10) for number in range(100)])
    broker._engine.database().command("profile", 2)

    (taken,) = broker._claimer.claim_first(queue, lease=LEASE)

    (done,) = [doc for doc in profile(broker) if doc["command"].get("findAndModify")]
    assert taken.envelope.priority == 9
    assert done["planSummary"].startswith("IXSCAN")
    assert done["keysExamined"] < 30


@pytest.mark.parametrize("most", [10_000, 50], ids=["at-a-glance", "by-itself"])
def test_counting_reads_no_document(broker: MongoBroker, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Messages in all places, of lanes and without, are counted from keys, however large their bodies are."""
    monkeypatch.setattr(counting, "LOOKED_AT", most)
    queue = unique_name("q")
    for lane in (None, Lane("a", 2)):
        fill(broker, [Envelope(id=new_id(), queue=queue, body=b"", lane=lane) for _ in range(100)])
        fill(broker, [Envelope(id=new_id(), queue=queue, body=b"", lane=lane, delay=9_999.0) for _ in range(100)])
    broker.settle([Dead(one, reason="failed") for one in broker.receive([queue], limit=80, wait=0, lease=LEASE)])
    broker.receive([queue], limit=70, wait=0, lease=LEASE)
    broker._engine.database().command("profile", 2)

    found = broker.counts([queue])[queue]

    assert (found.ready, found.delayed, found.leased, found.dead) == (50, 200, 70, 80)
    assert {doc["docsExamined"] for doc in profile(broker)} == {0}


def test_entering_a_lane_reads_few_keys(broker: MongoBroker) -> None:
    """A send finds the time of all lanes at the head, however many messages wait and are delayed."""
    queue = unique_name("q")
    fill(broker, [Envelope(id=new_id(), queue=queue, body=b"", delay=9_999.0, lane=Lane("a")) for _ in range(WAITING)])
    fill(broker, [Envelope(id=new_id(), queue=queue, body=b"", lane=Lane(f"{one}")) for one in range(WAITING)])
    broker._engine.database().command("profile", 2)

    broker.send([Envelope(id=new_id(), queue=queue, body=b"", lane=Lane("a"))])

    (read,) = [doc for doc in profile(broker) if "aggregate" in doc["command"]]
    assert read["keysExamined"] < 10
