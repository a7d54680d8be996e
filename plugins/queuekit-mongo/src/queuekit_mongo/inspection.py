"""What an operator sees and does: counts, pages, dead letters, removal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from bson.datetime_ms import DatetimeMS
from bson.timestamp import Timestamp
from pymongo import ASCENDING, UpdateOne
from pymongo.errors import BulkWriteError

from queuekit.backend import Page
from queuekit.broker import Place, QueueCounts, Stored
from queuekit_mongo.documents import (
    CLAIM_ORDER,
    DEAD,
    DELAYED_ORDER,
    DONE,
    HAS_PLACE,
    IS_DELAYABLE,
    LEASED,
    PLACE_ORDER,
    WAITING,
    Doc,
    at,
    message_id,
    moment,
    stored_of,
)
from queuekit_mongo.engine import Engine
from queuekit_mongo.settling import gone

__all__ = ["counts", "find", "peek", "queues", "remove", "requeue"]

BATCH = 500
"""Messages that one call changes, so that workers get their turn in between."""
Order = list[tuple[str, int]]
ORDERS: dict[Place, Order] = {
    Place.READY: CLAIM_ORDER,
    Place.DELAYED: DELAYED_ORDER,
    Place.LEASED: PLACE_ORDER,
    Place.DEAD: [(name, -direction) for name, direction in PLACE_ORDER],
}
_IS_LATER = {"$and": [{"$eq": [{"$type": "$due"}, "date"]}, {"$gt": ["$due", "$$NOW"]}]}


def queues(engine: Engine) -> list[str]:
    """Return the names of all queues, sorted."""
    return sorted(str(doc["_id"]) for doc in engine.queues.find({}, {"_id": True}))


def counts(engine: Engine, names: Sequence[str]) -> dict[str, QueueCounts]:
    """Return how many messages are where, of all queues in one round trip."""
    wanted = {"$in": list(names)}
    messages = engine.messages
    others = [{"$unionWith": {"coll": messages.name, "pipeline": _counted(wanted, state)}} for state in (LEASED, DEAD)]
    rows = list(messages.aggregate([*_counted(wanted, WAITING), *others]))
    now = engine.time.earliest()
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    for row in rows:
        fields = found[row["_id"]["queue"]]
        place = row["_id"]["place"]
        fields[place] = row["count"]
        if place == "ready" and isinstance(row["oldest"], DatetimeMS):
            fields["oldest_age"] = max(0.0, now - at(row["oldest"]))
    return {name: QueueCounts(**fields) for name, fields in found.items()}


def _counted(queues: Doc, state: str) -> list[Doc]:
    place: Any = {"$cond": [_IS_LATER, "delayed", "ready"]} if state == WAITING else state
    group = {
        "_id": {"queue": "$queue", "place": place},
        "count": {"$sum": 1},
        "oldest": {"$min": "$due"} if state == WAITING else {"$min": None},
    }
    some = {} if state == WAITING else HAS_PLACE
    return [{"$match": {"queue": queues, "state": state, **some}}, {"$group": group}]


def peek(engine: Engine, queue: str, *, place: Place, limit: int, cursor: str | None) -> Page[Stored]:
    """Return messages in *place*, next first; the cursor tells the last one's place in the order."""
    order = ORDERS[place]
    wanted = _in_place(engine, place) | {"queue": queue}
    if cursor is not None:
        wanted["$or"] = _behind(order, json.loads(cursor))
    docs = list(engine.messages.find(wanted, sort=order, limit=limit + 1)) if limit > 0 else []
    more = len(docs) > limit
    return Page(
        items=tuple(stored_of(doc, place) for doc in docs[:limit]),
        cursor=json.dumps(_position(order, docs[limit - 1])) if more else None,
    )


def find(engine: Engine, queue: str, ids: Sequence[str]) -> list[Stored]:
    """Return those of *ids* that the queue holds."""
    wanted = {"_id": {"$in": [message_id(queue, id) for id in ids]}, "state": {"$ne": DONE}}
    now = engine.time.latest()
    found = {doc["_id"]: doc for doc in engine.messages.find(wanted)}
    docs = (found.get(message_id(queue, id)) for id in dict.fromkeys(ids))
    return [stored_of(doc, _place_of(doc, now)) for doc in docs if doc is not None]


def requeue(engine: Engine, queue: str, ids: Sequence[str] | None) -> list[str]:
    """Replay dead letters, the one that died first at the front, and return their ids."""
    replayed: list[str] = []
    wanted: Doc = {"queue": queue, "state": DEAD, **HAS_PLACE}
    if ids is not None:
        wanted["_id"] = {"$in": [message_id(queue, id) for id in ids]}
    skipped: list[Any] = []
    while True:
        # What cannot be replayed, because it is no message at all, is left where it is.
        some = wanted if not skipped else {"$and": [wanted, {"_id": {"$nin": skipped}}]}
        docs = list(engine.messages.find(some, {"body": False}, sort=PLACE_ORDER, limit=BATCH))
        done = _replay(engine, docs)
        replayed += [str(doc.get("id")) for doc in docs if doc["_id"] in done]
        skipped += [doc["_id"] for doc in docs if doc["_id"] not in done]
        if len(docs) < BATCH:
            return replayed


def _replay(engine: Engine, docs: Sequence[Doc]) -> set[Any]:
    """Replay *docs*, with their unique keys where those are free, and return the ``_id`` of each that was."""
    now = engine.time.earliest()
    done: set[Any] = set()
    keyed = [doc for doc in docs if isinstance(doc.get("unique"), dict) and "key" not in doc]
    for with_key in (True, False):
        part = keyed if with_key else [doc for doc in docs if doc["_id"] not in done]
        done |= _replay_some(engine, part, with_key=with_key, now=now)
    return done


def _replay_some(engine: Engine, docs: Sequence[Doc], *, with_key: bool, now: float) -> set[Any]:
    changes = [UpdateOne({"_id": doc["_id"], "state": DEAD}, _alive(doc, with_key=with_key, now=now)) for doc in docs]
    if not changes:
        return set()
    try:
        engine.insist(lambda: engine.messages.bulk_write(changes, ordered=False))
    except BulkWriteError as error:
        refused = {each["index"] for each in error.details.get("writeErrors", [])}
        return {doc["_id"] for place, doc in enumerate(docs) if place not in refused}
    return {doc["_id"] for doc in docs}


def _alive(doc: Doc, *, with_key: bool, now: float) -> Doc:
    change: Doc = {
        "$set": {"state": WAITING, "attempt": 0, "hop": 0, "crashes": 0, "due": DatetimeMS(int(now * 1000))},
        "$inc": {"generation": 1},
        "$currentDate": {"seq": {"$type": "timestamp"}},
        "$unset": dict.fromkeys(("task", "reason", "error", "holder", "until", "died_at"), True),
    }
    if with_key:
        unique = doc["unique"]
        change["$set"] |= {"key": unique.get("key"), "key_until": moment(now + float(unique.get("ttl", 0)))}
    return change


def remove(engine: Engine, queue: str, ids: Sequence[str] | None, *, places: Iterable[Place]) -> list[str]:
    """Take messages in *places* out, those of *ids* or all, and remember their ids for a while."""
    window = engine.options.dedup_window
    removed: list[str] = []
    for place in sorted(places):
        wanted = _in_place(engine, place) | {"queue": queue}
        if ids is not None:
            wanted["_id"] = {"$in": [message_id(queue, id) for id in ids]}
        while True:
            found = [doc["_id"] for doc in engine.messages.find(wanted, {"_id": True}, limit=BATCH)]
            if found:
                removed += _remove_some(engine, wanted, found, window)
            if len(found) < BATCH:
                break
    return removed


def _remove_some(engine: Engine, wanted: Doc, found: list[Any], window: float) -> list[str]:
    mark = engine.new_mark()
    still = {**wanted, "_id": {"$in": found}}
    engine.insist(lambda: engine.messages.update_many(still, gone(window, mark)))
    marked = engine.messages.find({"_id": {"$in": found}, "settled": mark}, {"id": True})
    return [str(doc.get("id")) for doc in marked]


def _in_place(engine: Engine, place: Place) -> Doc:
    """Return the filter for messages in *place*."""
    if place is Place.READY:
        return {"state": WAITING, "due": {"$not": {"$gt": moment(engine.time.latest())}}}
    if place is Place.DELAYED:
        return {**IS_DELAYABLE, "due": {"$gt": moment(engine.time.latest())}}
    return {"state": LEASED if place is Place.LEASED else DEAD, **HAS_PLACE}


def _place_of(doc: Doc, now: float) -> Place:
    if doc.get("state") == WAITING:
        return Place.DELAYED if at(doc.get("due")) > now else Place.READY
    return Place.LEASED if doc.get("state") == LEASED else Place.DEAD


def _behind(order: Order, position: list[Any]) -> list[Doc]:
    """Return the terms, one of which holds for what stands behind *position* in *order*."""
    values = [_unpacked(value) for value in position]
    terms: list[Doc] = []
    for place, (name, direction) in enumerate(order):
        equal = {earlier: values[index] for index, (earlier, _) in enumerate(order[:place])}
        terms.append({**equal, name: {"$gt" if direction == ASCENDING else "$lt": values[place]}})
    return terms


def _position(order: Order, doc: Doc) -> list[Any]:
    return [_packed(doc.get(name)) for name, _ in order]


def _packed(value: object) -> Any:
    if isinstance(value, Timestamp):
        return {"t": value.time, "i": value.inc}
    return {"ms": int(value)} if isinstance(value, DatetimeMS) else value


def _unpacked(value: Any) -> Any:
    match value:
        case {"t": int(seconds), "i": int(count)}:
            return Timestamp(seconds, count)
        case {"ms": int(milliseconds)}:
            return DatetimeMS(milliseconds)
        case _:
            return value
