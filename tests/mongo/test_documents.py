"""Documents as people see them, and documents that nobody of ours wrote."""

from typing import Any

import pytest
from bson import ObjectId

from queuekit.backend import Record
from queuekit.broker import Dead, Place
from queuekit.envelope import Envelope
from queuekit.names import new_id
from queuekit_mongo.backend import MongoBackend
from queuekit_mongo.broker import MongoBroker
from queuekit_mongo.documents import new_message
from support.mongod import shared_lone

LEASE = 60.0


def test_a_dead_letter_can_be_queried(broker: MongoBroker, queue: str) -> None:
    """Queue, reason, error, holder and times are plain fields of one document."""
    broker.send([Envelope(id=new_id(), queue=queue, body=b"body", priority=7)])
    (delivery,) = broker.receive([queue], limit=1, wait=1, lease=LEASE)

    broker.settle([Dead(delivery, reason="failed", error="ValueError: no", holder="host-1")])

    query = {"queue": queue, "state": "dead", "reason": "failed", "error": {"$regex": "^ValueError"}}
    doc = broker._engine.messages.find_one(query)
    assert doc is not None
    assert (doc["holder"], doc["priority"], doc["body"]) == ("host-1", 7, b"body")
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
    "id-is-another": {"id": "another"},
    "attempt-is-missing": {"attempt": ...},
    "unique-is-text": {"unique": "key"},
    "unique-is-strange": {"unique": {"key": 1, "until": "never"}},
    "expires-is-text": {"expires": "tomorrow"},
    "identity-is-strange": {"_id": ObjectId()},
    "sent-at-is-text": {"sent_at": "yesterday"},
}


@pytest.mark.parametrize("wrong", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_document_is_set_aside(broker: MongoBroker, queue: str, wrong: dict[str, Any]) -> None:
    """Whatever is wrong with a field, the document goes to the dead letters as it is, and stops no other (QK9)."""
    good = Envelope(id=new_id(), queue=queue, body=b"good")
    broker.send([good])
    doc = new_message(Envelope(id=new_id(), queue=queue, body=b"bad"), broker._engine.time.earliest())
    doc = {name: value for name, value in {**doc, **wrong}.items() if value is not ...}
    broker._engine.messages.insert_one(doc)

    taken = [one.id for _ in range(2) for one in broker.receive([queue], limit=10, wait=0, lease=LEASE)]

    assert taken == [good.id]
    (dead,) = broker.peek(queue, place=Place.DEAD).items
    assert dead.reason == "malformed"
    assert dead.error
    kept = broker._engine.messages.find_one({"_id": doc["_id"]}) or {}
    assert {name: kept.get(name) for name in wrong if wrong[name] is not ...} == {
        name: value for name, value in wrong.items() if value is not ...
    }
    assert broker.requeue(queue) is not None


def test_foreign_documents_are_left_alone(broker: MongoBroker, queue: str) -> None:
    """Documents that have nothing to do with us stay where they are, and are in nobody's way."""
    foreign: list[dict[str, Any]] = [
        {"_id": 1, "hello": "world"},
        {"_id": 2, "state": "waiting"},
        {"_id": 3, "state": 7, "queue": queue},
        {"_id": 4, "state": "leased", "queue": queue, "lease_until": "never"},
    ]
    broker.queues()
    broker._engine.messages.insert_many(foreign)
    envelope = Envelope(id=new_id(), queue=queue, body=b"")
    broker.send([envelope])

    taken = broker.receive([queue], limit=10, wait=1, lease=LEASE)

    assert [one.id for one in taken] == [envelope.id]
    assert broker._engine.messages.count_documents({"_id": {"$in": [1, 2, 3, 4]}}) == 4


def test_check_names_a_missing_index(broker: MongoBroker) -> None:
    """``check`` is silent on a whole deployment, and names an index that somebody dropped."""
    before = broker.check()
    broker._engine.messages.drop_index("queuekit_claim")

    after = broker.check()

    assert before == []
    assert len(after) == 1
    assert "queuekit_claim" in after[0]


def test_check_tells_of_a_lone_server(connect: Any) -> None:
    """A server without a replica set works, and ``check`` says what it lacks; its broker declares no commit."""
    broker = connect(f"mongodb://{shared_lone().address}/jobs?w=1")

    lines = broker.check()

    assert [line.split(":")[0] for line in lines] == ["the server is no replica set", "w=1"]
    assert not broker.capabilities.commit
