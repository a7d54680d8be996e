"""Raw pymongo doing the least work that a queue on it can do, and the same writes that queuekit does."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from bson.int64 import Int64
from bson.timestamp import Timestamp
from pymongo import MongoClient
from pymongo.client_session import ClientSession

from queuekit_mongo.layout import MESSAGE_INDEXES, RECORD_INDEXES

__all__ = ["RawQueue", "SameWrites"]

Doc = dict[str, Any]
BATCH = 500
_HOUR = 3_600_000


class RawQueue:
    """One collection, one index: insert, claim one by one with ``find_one_and_update``, delete."""

    def __init__(self, client: MongoClient[Doc]) -> None:
        self._jobs = client.get_default_database()["raw"]
        self._jobs.drop()
        self._jobs.create_index([("state", 1), ("priority", -1), ("at", 1)])

    def bulk(self, count: int) -> float:
        """Return inserts a second."""
        since = time.perf_counter()
        for start in range(0, count, BATCH):
            self._jobs.insert_many([_job(start + number) for number in range(BATCH)])
        return count / (time.perf_counter() - since)

    def drain(self, count: int) -> float:
        """Return jobs a second claimed and deleted, one by one."""
        order = [("priority", -1), ("at", 1)]
        since = time.perf_counter()
        for _ in range(count):
            job = self._jobs.find_one_and_update({"state": "ready"}, {"$set": {"state": "held"}}, sort=order)
            self._jobs.delete_one({"_id": (job or {})["_id"]})
        return count / (time.perf_counter() - since)

    def close(self) -> None:
        """Drop the collection."""
        self._jobs.drop()


def _job(number: int) -> Doc:
    body = b'{"id":"%d","task":"benchapp.noop"}\n{"args":[%d],"kwargs":{}}' % (number, number)
    return {"_id": ObjectId(), "state": "ready", "priority": 4, "at": time.time(), "body": body}


class SameWrites:
    """A script that writes what queuekit writes: id, JSON, documents with all fields and indexes, PENDING records."""

    def __init__(self, client: MongoClient[Doc]) -> None:
        database = client.get_default_database()
        self._client = client
        self._messages, self._records = database["same_messages"], database["same_records"]
        for collection, indexes in ((self._messages, MESSAGE_INDEXES), (self._records, RECORD_INDEXES)):
            collection.drop()
            collection.create_indexes(indexes)

    def bulk(self, count: int, *, size: int = BATCH, results: bool) -> float:
        """Return sends a second, *size* at a time; with *results* a record each, in one transaction."""
        since = time.perf_counter()
        for start in range(0, count, size):
            docs = [_message(start + number) for number in range(size)]
            if results:
                records = [_pending(doc["id"]) for doc in docs]
                with self._client.start_session() as session, session.start_transaction():
                    self._records.insert_many(records, session=session)
                    self._messages.insert_many(docs, session=session)
            else:
                self._messages.insert_many(docs)
        return count / (time.perf_counter() - since)

    def drain(self, count: int, *, results: bool) -> float:
        """Return messages a second claimed under a lease by the batch, read, recorded as SUCCESS, and left as marks."""
        since = time.perf_counter()
        done = 0
        while done < count:
            docs = self._claim(uuid.uuid4().hex)
            for doc in docs:
                json.loads(doc["body"].partition(b"\n")[2])
            if results:
                with self._client.start_session() as session, session.start_transaction():
                    self._finish(docs, session)
            else:
                self._finish(docs, None)
            done += len(docs)
        return count / (time.perf_counter() - since)

    def _claim(self, token: str) -> list[Doc]:
        order = [("priority", -1), ("due", 1), ("seq", 1)]
        ready = {"queue": "default", "state": "waiting", "due": {"$lte": _now()}}
        ids = [doc["_id"] for doc in self._messages.find(ready, {"_id": 1}, sort=order, limit=BATCH, batch_size=BATCH)]
        lease = {"state": "leased", "claim": token, "until": _now(30_000), "claimed_at": _now()}
        self._messages.update_many({"_id": {"$in": ids}, "state": "waiting"}, {"$set": lease, "$inc": {"number": 1}})
        return list(self._messages.find({"_id": {"$in": ids}, "claim": token}, batch_size=BATCH + 1))

    def _finish(self, docs: list[Doc], session: ClientSession | None) -> None:
        ids = [doc["_id"] for doc in docs]
        if session is not None:
            keys = ["result:" + doc["id"] for doc in docs]
            self._records.delete_many({"_id": {"$in": keys}}, session=session)
            self._records.insert_many([_success(key) for key in keys], session=session)
        gone = {"$set": {"state": "done", "forget_at": _now(300_000)}, "$unset": {"body": 1, "claim": 1, "until": 1}}
        self._messages.update_many({"_id": {"$in": ids}, "state": "leased"}, gone, session=session)

    def close(self) -> None:
        """Drop the collections."""
        self._messages.drop()
        self._records.drop()


def _now(later: int = 0) -> DatetimeMS:
    return DatetimeMS(int(time.time() * 1000) + later)


def _message(number: int) -> Doc:
    id = str(uuid.uuid4())
    header = json.dumps({"v": 1, "id": id, "task": "benchapp.noop", "ct": "json"}, separators=(",", ":"))
    body = header + "\n" + json.dumps({"args": [number]}, separators=(",", ":"))
    return {
        "_id": "default/" + id,
        "queue": "default",
        "id": id,
        "state": "waiting",
        "sent_at": _now(),
        "due": _now(),
        "seq": Timestamp(0, 0),
        "number": 0,
        "crashes": 0,
        "priority": 4,
        "attempt": 0,
        "generation": 0,
        "hop": 0,
        "body": body.encode(),
    }


def _pending(id: str) -> Doc:
    body = {"v": 1, "state": "PENDING", "queue": "default", "sent": time.time()}
    return _record("result:" + id, "PENDING", body, final=False)


def _success(key: str) -> Doc:
    times = {"sent": time.time(), "started": time.time(), "finished": time.time()}
    body = {"v": 1, "state": "SUCCESS", "ct": "json", "queue": "default", "attempt": 0, "worker": "host-1", **times}
    return _record(key, "SUCCESS", body, final=True)


def _record(key: str, state: str, body: Doc, *, final: bool) -> Doc:
    return {
        "_id": key,
        "body": json.dumps(body, separators=(",", ":")).encode() + b"\n",
        "rank": Int64(100),
        "final": final,
        "mark": "",
        "task": "benchapp.noop",
        "state": state,
        "at": _now(),
        "expires_at": _now(_HOUR),
        "version": Int64(1),
    }
