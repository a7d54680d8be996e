"""Documents as people see them, and documents that nobody of ours wrote."""

import threading
from collections.abc import Callable
from typing import Any

import bson
import pytest
from bson import Binary, Code, Decimal128, ObjectId
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp

from queuekit.backend import Record
from queuekit.broker import Ack, CommitItem, Dead, Place
from queuekit.envelope import Envelope, join_frame
from queuekit.ids import new_id
from queuekit.urls import EngineURL
from queuekit_mongo import checks
from queuekit_mongo.backend import MongoBackend
from queuekit_mongo.broker import MongoBroker
from queuekit_mongo.layout import new_message
from queuekit_mongo.leases import PERIOD, Upkeep
from queuekit_testing.kit import unique_name
from support.mongod import shared_lone, shared_url
from support.waiting import PATIENCE

LEASE = 60.0


def test_a_dead_letter_can_be_queried(broker: MongoBroker, queue: str) -> None:
    """Task, queue, reason, error, holder and times are plain fields of one document."""
    body = join_frame({"v": 1, "task": "shop.mail"}, b"payload")
    broker.send([Envelope(id=new_id(), queue=queue, body=body, priority=7)])
    (delivery,) = broker.receive([queue], limit=1, wait=PATIENCE, lease=LEASE)

    broker.settle([Dead(delivery, reason="failed", error="ValueError: no", holder="host-1")])

    query = {"queue": queue, "task": "shop.mail", "reason": "failed", "error": {"$regex": "^ValueError"}}
    doc = broker._engine.messages.find_one(query)
    assert doc is not None
    assert (doc["state"], doc["holder"], doc["priority"], doc["body"]) == ("dead", "host-1", 7, body)
    assert int(doc["sent_at"]) <= int(doc["claimed_at"]) <= int(doc["died_at"])


def test_a_record_can_be_queried(backend: MongoBackend) -> None:
    """Task, state, error and time are plain fields beside the body."""
    key = f"result:{new_id()}"
    backend.put([Record(key=key, body=b"x", task="shop.mail", state="FAILURE", error="no", at=1_700_000_000.5, ttl=60)])

    doc = backend._engine.records.find_one({"task": "shop.mail", "state": "FAILURE", "_id": key})

    assert doc is not None
    assert (doc["error"], int(doc["at"])) == ("no", 1_700_000_000_500)


MALFORMED: dict[str, dict[str, Any]] = {
    "due-is-text": {"due": "soon"},
    "due-is-missing": {"due": ...},
    "due-is-a-number": {"due": 17},
    "crashes-is-a-list": {"crashes": [1]},
    "body-is-text": {"body": "text"},
    "body-is-missing": {"body": ...},
    "priority-is-text": {"priority": "high"},
    "id-is-a-number": {"id": 5},
    "id-is-code": {"id": Code("x")},
    "key-is-code": {"unique": {"key": Code("k"), "until": "done", "ttl": 1}},
    "id-is-another": {"id": "another"},
    "attempt-is-missing": {"attempt": ...},
    "unique-is-text": {"unique": "key"},
    "unique-is-strange": {"unique": {"key": 1, "until": "never"}},
    "expires-is-text": {"expires": "tomorrow"},
    "expires-is-never": {"expires": float("inf")},
    "not-before-is-not-a-number": {"not_before": float("nan")},
    "identity-is-strange": {"_id": ObjectId()},
    "identity-is-a-document": {"_id": {"from": "elsewhere"}},
    "identity-is-a-decimal": {"_id": Decimal128("1.5")},
    "key-lives-for-text": {"unique": {"key": "k", "until": "done", "ttl": "long"}},
    "sent-at-is-text": {"sent_at": "yesterday"},
    "lane-is-text": {"lane": "a"},
    "lane-weighs-nothing": {"lane": {"key": "a", "weight": 0}, "due": Timestamp(0, 1)},
    "due-is-a-tag-without-a-lane": {"due": Timestamp(0, 1)},
}


@pytest.mark.parametrize("wrong", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_document_is_set_aside(broker: MongoBroker, queue: str, wrong: dict[str, Any]) -> None:
    """Whatever is wrong with a field, the document goes to the dead letters as it is, and stops no other (QK9)."""
    good = Envelope(id=new_id(), queue=queue, body=b"good")
    broker.send([good])
    doc = new_message(Envelope(id=new_id(), queue=queue, body=b"bad"), broker._engine.time.earliest(), {})
    doc = {name: value for name, value in {**doc, **wrong}.items() if value is not ...}
    broker._engine.messages.insert_one(doc)

    taken = [one.id for _ in range(2) for one in broker.receive([queue], limit=10, wait=0, lease=LEASE)]

    assert taken == [good.id]
    (dead,) = broker.peek(queue, place=Place.DEAD).items
    assert dead.reason == "malformed"
    assert dead.error
    kept = broker._engine.messages.find_one({"_id": doc["_id"]}) or {}
    # As text, since what is not a number equals nothing.
    assert {name: repr(kept.get(name)) for name in wrong if wrong[name] is not ...} == {
        name: repr(value) for name, value in wrong.items() if value is not ...
    }
    assert len(broker.find(queue, [dead.envelope.id])) <= 1
    assert broker.requeue(queue) is not None


def test_a_letter_that_keeps_its_key_for_ages_can_be_replayed(broker: MongoBroker, queue: str) -> None:
    """A dead letter whose key lives longer than any time can be told keeps neither itself nor others from that."""
    sent = [Envelope(id=new_id(), queue=queue, body=b"") for _ in range(2)]
    broker.send(sent)
    broker.settle([Dead(one, reason="failed") for one in broker.receive([queue], limit=2, wait=PATIENCE, lease=LEASE)])
    broker._engine.messages.update_one(
        {"id": sent[0].id}, {"$set": {"unique": {"key": unique_name("k"), "until": "done", "ttl": 1e308}}}
    )

    assert broker.requeue(queue) == [one.id for one in sent]


def unreadable(queue: str, now: float, field: str = "extra") -> RawBSONDocument:
    """Return a message that comes first and has bytes that are no BSON in a *field*."""
    doc = new_message(Envelope(id=new_id(), queue=queue, body=b"", priority=9), now, {})
    # A binary of the old kind says its length twice; here the two differ.
    raw = bson.encode({**doc, field: Binary(b"\x01\0\0\0abcd", 128)}).replace(b"\x80\x01\0\0", b"\x02\x01\0\0")
    return RawBSONDocument(raw)


@pytest.mark.parametrize("limit", [1, 10])
@pytest.mark.parametrize("field", ["body", "extra"])
def test_a_document_that_nobody_can_read_is_set_aside(
    broker: MongoBroker, queue: str, *, field: str, limit: int
) -> None:
    """Bytes that are no BSON in a field, which a server may hold, take no other message along (QK8, QK9)."""
    good = Envelope(id=new_id(), queue=queue, body=b"good")
    broker.send([good])
    broker._engine.messages.insert_one(unreadable(queue, broker._engine.time.earliest(), field))

    taken = [one for _ in range(2) for one in broker.receive([queue], limit=limit, wait=0, lease=LEASE)]

    assert [(one.id, one.number) for one in taken] == [(good.id, 1)]
    (dead,) = broker.peek(queue, place=Place.DEAD).items
    assert (dead.envelope.queue, dead.reason) == (queue, "malformed")
    assert broker.requeue(queue) == [dead.envelope.id]


def test_who_is_called_sets_aside_what_nobody_can_read(broker: MongoBroker, queue: str) -> None:
    """So does a worker that takes the first message in one step."""
    broker._engine.messages.insert_one(unreadable(queue, broker._engine.time.earliest()))

    assert broker._claimer.claim_first(queue, lease=LEASE) == []
    assert broker.counts([queue])[queue].dead == 1


@pytest.mark.parametrize("session", [["x"], {"id": 1}, "x", Decimal128("NaN"), Binary(b"short", 4)], ids=repr)
def test_a_strange_session_keeps_no_lease_from_ending(broker: MongoBroker, queue: str, session: Any) -> None:
    """An expired lease whose document names no session that could be ended is taken back, and so are all others."""
    batch = [Envelope(id=new_id(), queue=queue, body=b"") for _ in range(2)]
    broker.send(batch)
    broker.receive([queue], limit=2, wait=0, lease=0)
    broker._engine.messages.update_one({"id": batch[0].id}, {"$set": {"session": session}})

    broker.receive([queue], limit=0, wait=0, lease=LEASE)
    taken = broker.receive([queue], limit=9, wait=0, lease=LEASE)

    assert [one.id for one in taken] == [one.id for one in batch]


def test_a_list_of_queues_is_counted_nowhere(broker: MongoBroker, queue: str) -> None:
    """A document whose queue is a list with our name in it does not keep the others from being counted."""
    broker.send([Envelope(id=new_id(), queue=queue, body=b"")])
    broker._engine.messages.insert_one({"_id": 1, "queue": [queue, "other"], "state": "waiting"})

    assert broker.counts([queue])[queue].ready == 1


def test_strange_dead_letters_can_be_paged(broker: MongoBroker, queue: str) -> None:
    """A page may end with a dead letter whose place in the order is of any type."""
    broker.send([Envelope(id=new_id(), queue=queue, body=b"") for _ in range(2)])
    broker._engine.messages.update_many({"queue": queue}, {"$set": {"seq": ObjectId(), "attempt": "first"}})
    assert broker.receive([queue], limit=9, wait=0, lease=LEASE) == []

    first = broker.peek(queue, place=Place.DEAD, limit=1)
    second = broker.peek(queue, place=Place.DEAD, limit=1, cursor=first.cursor)

    assert len({one.envelope.id for one in (*first.items, *second.items)}) == 2
    assert second.cursor is None


TAMPERED: dict[str, Any] = {
    "body": "text",
    "rank": "high",
    "version": [1],
    "task": 7,
    "state": {},
    "error": 1.5,
    "at": "now",
}


@pytest.mark.parametrize("field", TAMPERED)
def test_a_record_of_wrong_types_stops_nothing(broker: MongoBroker, backend: MongoBackend, field: str) -> None:
    """It can be read, listed, and written over; and a commit that writes it with others does so."""
    keys = [f"result:{new_id()}" for _ in range(2)]
    backend.put([Record(key=key, body=b"x", rank=1, ttl=60.0) for key in keys])
    backend._engine.records.update_one({"_id": keys[0]}, {"$set": {field: TAMPERED[field]}})

    read = backend.get(keys)
    listed = backend.scan("result:").items
    done = broker.commit([CommitItem(records=(Record(key=key, body=b"y", rank=2, ttl=60.0),)) for key in keys])
    backend.put([Record(key=key, body=b"z", rank=3, ttl=60.0) for key in keys])

    assert sorted(read) == [record.key for record in listed] == sorted(keys)
    assert done == [True, True]
    assert backend.get(keys)[keys[1]].body == b"z"


def test_foreign_documents_are_left_alone(broker: MongoBroker, queue: str) -> None:
    """Documents that have nothing to do with us stay where they are, and are in nobody's way."""
    foreign: list[dict[str, Any]] = [
        {"_id": 1, "hello": "world"},
        {"_id": 2, "state": "waiting"},
        {"_id": 3, "state": 7, "queue": queue},
        {"_id": 4, "state": "leased", "queue": queue, "until": "never"},
    ]
    broker.queues()
    broker._engine.messages.insert_many(foreign)
    envelope = Envelope(id=new_id(), queue=queue, body=b"")
    broker.send([envelope])

    taken = broker.receive([queue], limit=10, wait=PATIENCE, lease=LEASE)

    assert [one.id for one in taken] == [envelope.id]
    assert broker._engine.messages.count_documents({"_id": {"$in": [1, 2, 3, 4]}}) == 4


def test_a_lease_that_is_no_time_keeps_nobody_awake(broker: MongoBroker, queue: str) -> None:
    """A foreign document whose lease never ended in the past does not make an idle worker look again and again."""
    broker.queues()
    broker._engine.messages.insert_one({"_id": 1, "state": "leased", "queue": queue, "until": "never"})
    upkeep = Upkeep(broker._engine, [queue])

    upkeep.run(now=True)

    assert upkeep.pause() > PERIOD / 2


def test_a_woken_worker_knows_of_what_is_due_later(connect: Any, queue: str) -> None:
    """Who waits for a message hears of a delayed one, and is awake when that is due."""
    prefix = unique_name("t")
    sender, waiter = connect(prefix=prefix), connect(prefix=prefix)
    waiter.receive([queue], limit=1, wait=0, lease=LEASE)
    found: list[str] = []
    waiting = threading.Thread(
        target=lambda: found.extend(one.id for one in waiter.receive([queue], limit=1, wait=30, lease=LEASE))
    )
    waiting.start()
    delayed = Envelope(id=new_id(), queue=queue, body=b"", delay=0.4)

    sender.send([delayed])
    waiting.join(PATIENCE)

    assert found == [delayed.id]


def test_a_lone_server_commits_in_order(connect: Any, queue: str) -> None:
    """Without transactions the capability says so from the first connection on, and a commit still does its parts."""
    url = f"mongodb://{shared_lone().address}/jobs"
    broker = connect(url, prefix=unique_name("t"))
    backend = MongoBackend(EngineURL.parse(url), options=broker._engine.options)
    record = Record(key=f"result:{new_id()}", body=b"x", rank=5, ttl=60.0)
    first, second = (Envelope(id=new_id(), queue=queue, body=b"") for _ in range(2))
    hoped = broker.capabilities.commit
    broker.send([first])
    (held,) = broker.receive([queue], limit=1, wait=PATIENCE, lease=LEASE)

    done = broker.commit([CommitItem(settlement=Ack(held), records=(record,), sends=(second,))])
    again = broker.commit([CommitItem(settlement=Ack(held), records=(record,), sends=(second,))])

    assert (hoped, broker.capabilities.commit) == (True, False)
    assert (done, again) == ([True], [False])
    assert list(backend.get([record.key])) == [record.key]
    assert [one.id for one in broker.receive([queue], limit=9, wait=PATIENCE, lease=LEASE)] == [second.id]
    backend.close()


@pytest.mark.parametrize("verb", ["extend", "settle", "commit"])
def test_any_verb_may_be_the_first_call_to_a_lone_server(connect: Any, queue: str, verb: str) -> None:
    """A supervisor claims nothing, so its first call renews leases, before it knows of transactions."""
    url, prefix = f"mongodb://{shared_lone().address}/jobs", unique_name("t")
    worker, supervisor = connect(url, prefix=prefix), connect(url, prefix=prefix)
    worker.send([Envelope(id=new_id(), queue=queue, body=b"")])
    (held,) = worker.receive([queue], limit=1, wait=PATIENCE, lease=LEASE)
    calls: dict[str, Callable[[], list[Any]]] = {
        "extend": lambda: supervisor.extend([held.lease], lease=LEASE),
        "settle": lambda: supervisor.settle([Ack(held)]),
        "commit": lambda: supervisor.commit([CommitItem(settlement=Ack(held))]),
    }

    assert calls[verb]() == [True] * (verb == "commit")


def test_check_names_a_missing_index(broker: MongoBroker) -> None:
    """``check`` is silent on a whole deployment, and names an index that somebody dropped."""
    before = broker.check()
    broker._engine.messages.drop_index("queuekit_waiting")

    after = broker.check()

    assert before == []
    assert len(after) == 1
    assert "queuekit_waiting" in after[0]


@pytest.mark.parametrize(
    ("w", "members", "is_weak"),
    [("1", 1, True), ("1", 3, True), ("2", 3, False), ("3", 3, False), ("2", 5, True), ("dc", 3, False)],
)
def test_check_tells_of_writes_that_less_than_a_majority_confirms(
    connect: Any, w: str, members: int, *, is_weak: bool
) -> None:
    """And is silent where as many members confirm as a majority is, or those that somebody has given a name."""
    engine = connect(f"{shared_url('plugin')}&w={w}")._engine
    engine._client = engine._open()  # nothing is written, as there are fewer members here

    lines = checks._weak(engine, {"hosts": [f"host{number}" for number in range(members)]})

    assert [line.split(":")[0] for line in lines] == [f"w={w}"] * is_weak


def test_check_tells_of_a_lone_server(connect: Any) -> None:
    """A server without a replica set works, and ``check`` says what it lacks; its broker declares no commit."""
    broker = connect(f"mongodb://{shared_lone().address}/jobs?w=1")

    lines = broker.check()

    assert [line.split(":")[0] for line in lines] == ["the server is not a replica set", "w=1"]
    assert not broker.capabilities.commit


def test_a_commit_holds_more_records_than_one_change_can(
    broker: MongoBroker, backend: MongoBackend, queue: str
) -> None:
    """Several large records of one rank are written together, over nothing and over earlier ones."""
    broker.send([Envelope(id=new_id(), queue=queue, body=b"") for _ in range(2)])
    held = broker.receive([queue], limit=2, wait=PATIENCE, lease=LEASE)
    keys = [f"result:{new_id()}" for _ in range(3)]

    done = [
        broker.commit(
            [
                CommitItem(
                    settlement=Ack(one),
                    records=tuple(Record(key=key, body=b"%d" % rank * 7_000_000, rank=rank, ttl=60.0) for key in keys),
                )
            ]
        )
        for rank, one in enumerate(held, start=1)
    ]

    assert done == [[True], [True]]
    assert {record.body[:1] for record in backend.get(keys).values()} == {b"2"}


@pytest.mark.parametrize("large", ["first", "second"])
def test_a_record_of_any_size_is_written_beside_others(broker: MongoBroker, backend: MongoBackend, large: str) -> None:
    """A result as large as may be is committed with an empty one of the same rank, in either order."""
    sizes = [backend.limits.max_record, 0] if large == "first" else [0, backend.limits.max_record]
    keys = [f"result:{new_id()}" for _ in sizes]
    backend.put([Record(key=key, rank=1, ttl=60.0) for key in keys])
    records = tuple(Record(key=key, body=bytes(size), rank=2, ttl=60.0) for key, size in zip(keys, sizes, strict=True))

    broker.commit([CommitItem(records=records)])

    assert [len(backend.get(keys)[key].body) for key in keys] == sizes
