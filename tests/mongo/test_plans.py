"""No query walks over a whole collection: the server's own profile of every verb shows an index, and few keys read."""

from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from queuekit.backend import Condition, Record
from queuekit.broker import Ack, CommitItem, Dead, Place, Release, Retry
from queuekit.envelope import Envelope, Unique
from queuekit.names import new_id
from queuekit.testing.kit import unique_name
from queuekit.urls import EngineURL
from queuekit_mongo.backend import MongoBackend
from queuekit_mongo.broker import MongoBroker
from support.mongod import shared_url

LEASE = 60.0
WAITING = 2_000
"""Messages that lie about while the verbs are tried."""
INDEXED = {"IXSCAN", "IDHACK", "EOF"}


@pytest.fixture
def url() -> EngineURL:
    """Return the URL of a database that is profiled, and that nobody else uses."""
    return EngineURL.parse(shared_url(unique_name("profiled")))


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
    kinds = ("messages", "records", "groups")
    names = [broker._engine.collection(name).full_name for name in kinds]
    wanted = {"ns": {"$in": names}, "op": {"$in": ["query", "update", "remove", "command", "getmore"]}}
    return [doc for doc in broker._engine.database()["system.profile"].find(wanted) if "planSummary" in doc]


def use_every_verb(broker: MongoBroker, backend: MongoBackend, queue: str) -> None:
    """Send, claim, extend, settle, commit, look, mend; records and groups as well."""
    key = Unique(key=unique_name("key"))
    for _ in range(2):
        broker.send([Envelope(id=new_id(), queue=queue, body=b"", priority=9, unique=key)])
    held = broker.receive([queue, "other"], limit=40, wait=0, lease=LEASE)
    broker.extend([one.lease for one in held], lease=LEASE)
    later = attrs.evolve(held[4].envelope, attempt=1, delay=60.0)
    broker.settle([Ack(held[0]), Release(held[1]), Release(held[2], delay=9.0), Dead(held[3], reason="failed")])
    broker.settle([Retry(held[4], later), Ack(held[0]), *map(Ack, held[5:20])])
    records = [Record(key=f"result:{one.id}", body=b"x", rank=2, ttl=60.0, final=True) for one in held[20:]]
    pairs = zip(held[20:], records, strict=True)
    broker.commit([CommitItem(settlement=Ack(one), records=(record,)) for one, record in pairs])
    broker.receive([queue], limit=0, wait=0, lease=LEASE)
    broker.counts([queue, "other"])
    for place in Place:
        page = broker.peek(queue, place=place, limit=5)
        broker.peek(queue, place=place, limit=5, cursor=page.cursor)
    broker.find(queue, [one.id for one in held])
    broker.requeue(queue, [held[3].id])
    broker.requeue(queue)
    broker.remove(queue, [held[1].id])
    broker.purge(queue, place=Place.DELAYED)
    use_backend(backend, records)


def use_backend(backend: MongoBackend, records: list[Record]) -> None:
    """Put, get, wait, scan, delete, join."""
    for condition in Condition:
        backend.put(records, condition=condition)
        backend.put(records[:1], condition=condition)
    keys = [record.key for record in records]
    backend.get(keys)
    backend.wait(keys, timeout=0)
    backend.scan("result:", limit=5)
    for member in (0, 0, 5_000):
        backend.join("group", member, 6_000)
    backend.delete(keys)


def test_every_verb_goes_by_an_index(broker: MongoBroker, backend: MongoBackend) -> None:
    """Each operation of each verb is planned over an index or an ``_id``, with thousands of messages lying about."""
    queue = unique_name("q")
    broker.send([Envelope(id=new_id(), queue=queue, body=b"", priority=number % 10) for number in range(WAITING // 2)])
    broker.send([Envelope(id=new_id(), queue=queue, body=b"", delay=9_999.0) for _ in range(WAITING // 2)])
    broker._engine.database().command("profile", 2)

    use_every_verb(broker, backend, queue)

    plans = profile(broker)
    assert len(plans) > 30
    assert [doc for doc in plans if doc["planSummary"].split(" ")[0].rstrip(",") not in INDEXED] == []


def test_a_claim_reads_no_more_than_it_takes(broker: MongoBroker) -> None:
    """Finding the head of a queue reads the keys of what is claimed, and skips thousands that are delayed."""
    queue = unique_name("q")
    broker.send([Envelope(id=new_id(), queue=queue, body=b"", delay=9_999.0, priority=9) for _ in range(WAITING)])
    broker.send([Envelope(id=new_id(), queue=queue, body=b"", priority=number % 10) for number in range(100)])
    broker._engine.database().command("profile", 2)

    claimed = broker.receive([queue], limit=50, wait=0, lease=LEASE)

    reads = [doc for doc in profile(broker) if "queuekit_messages" in doc["ns"]]
    assert len(claimed) == 50
    assert max(doc["keysExamined"] for doc in reads) <= 2 * len(claimed) + 30
