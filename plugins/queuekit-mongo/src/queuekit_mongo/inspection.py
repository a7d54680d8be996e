"""Show, replay and remove stored messages.

Functions that change messages work in batches, each with its own deadline, since a queue may have any length.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.errors import InvalidBSON
from bson.timestamp import Timestamp
from pymongo import ASCENDING, UpdateOne
from pymongo.errors import BulkWriteError

from queuekit.backend import Page
from queuekit.broker import Place, Stored
from queuekit.timelimit import made_progress
from queuekit_mongo import lanes
from queuekit_mongo.engine import Engine
from queuekit_mongo.failures import refused_by
from queuekit_mongo.layout import (
    CLAIM_ORDER,
    DEAD,
    DELAYED,
    DELAYED_ORDER,
    DONE,
    HAS_PLACE,
    IS_DELAYABLE,
    LEASED,
    PLACE_ORDER,
    WAITING,
    Doc,
    MalformedError,
    at,
    hashable,
    message_id,
    moment,
    stored_of,
    unique_of,
)
from queuekit_mongo.settling import gone

__all__ = ["dead_beyond", "find", "peek", "queues", "remove", "requeue", "search"]

BATCH = 500
"""Messages that one call changes, so that workers can run calls in between."""
_AS_READ: CodecOptions[Doc] = CodecOptions(document_class=dict, datetime_conversion=DatetimeConversion.DATETIME_MS)
Order = list[tuple[str, int]]
ORDERS: dict[Place, Order] = {
    Place.READY: CLAIM_ORDER,
    Place.DELAYED: DELAYED_ORDER,
    Place.LEASED: PLACE_ORDER,
    Place.DEAD: [(name, -direction) for name, direction in PLACE_ORDER],
}
_PLAIN = dict.fromkeys(
    ("queue", "id", "state", "priority", "due", "due_at", "seq", "until", "reason", "error", "holder", "died_at"), True
)
"""The fields to read of a document that cannot be read as a whole."""
_REPLAYED = dict.fromkeys(("id", "queue", "priority", "unique", "key", "lane"), True)
"""The fields to read of a dead letter to replay it."""
_REMOVED = dict.fromkeys(("id", "queue", "priority", "lane", "due", "session"), True)
"""The fields to read of a message to remove it."""


def queues(engine: Engine) -> list[str]:
    """Return the names of all queues, sorted."""
    return sorted(str(doc["_id"]) for doc in engine.queues.find({}, {"_id": True}))


def peek(engine: Engine, queue: str, *, place: Place, limit: int, cursor: str | None) -> Page[Stored]:
    """Return messages in *place*, in order; the cursor is the position of the last one."""
    order = ORDERS[place]
    wanted: Doc = {"queue": queue}
    if cursor is not None:
        wanted["$or"] = _behind(order, _read_position(cursor))
    some = [_page(engine, wanted | each, order, limit + 1) for each in _in_place(engine, place)] if limit > 0 else []
    docs = some[0] if len(some) == 1 else sorted(chain(*some), key=_due_order)
    more = len(docs) > limit
    return Page(
        items=tuple(stored_of(doc, place) for doc in docs[:limit]),
        cursor=_write_position(order, docs[limit - 1]) if more else None,
    )


def _due_order(doc: Doc) -> tuple[float, object]:
    """Return the position of a delayed message."""
    seq = doc.get("seq")
    return at(doc.get("due")), seq if isinstance(seq, Timestamp) else Timestamp(0, 0)


def _page(engine: Engine, wanted: Doc, order: Order, limit: int) -> list[Doc]:
    """Return the first documents; for unreadable ones, only the fields of :data:`_PLAIN`."""
    messages = engine.messages
    try:
        return list(messages.find(wanted, sort=order, limit=limit))
    except InvalidBSON:
        docs: list[Doc] = []
        for some in list(messages.find(wanted, _PLAIN, sort=order, limit=limit)):
            try:
                docs += messages.find({"_id": some["_id"]})
            except InvalidBSON:
                docs.append(some)
        return docs


def find(engine: Engine, queue: str, ids: Sequence[str]) -> list[Stored]:
    """Return those of *ids* that *queue* holds."""
    return _held(engine, [message_id(queue, id) for id in dict.fromkeys(ids)])


def search(engine: Engine, queues: Sequence[str], id: str) -> Stored | None:
    """Return the message from the first of *queues* that holds it."""
    return next(iter(_held(engine, [message_id(queue, id) for queue in queues])), None)


def _held(engine: Engine, ids: Sequence[str]) -> list[Stored]:
    """Return the messages with these ``_id``, in this order."""
    now = engine.time.latest()
    found = {doc["_id"]: doc for doc in engine.messages.find({"_id": {"$in": list(ids)}, "state": {"$ne": DONE}})}
    docs = (found.get(id) for id in ids)
    return [stored_of(doc, _place_of(doc, now)) for doc in docs if doc is not None]


def dead_beyond(engine: Engine, queue: str, *, count: int | None, before: float | None, limit: int) -> list[str]:
    """Return the ids of dead letters beyond the bounds, oldest first."""
    dead: Doc = {"queue": queue, "state": DEAD, **HAS_PLACE}
    docs: list[Doc] = []
    if count is not None:  # one call: between a count and a look, another worker may drop some
        latest = ORDERS[Place.DEAD]
        docs += list(engine.messages.find(dead, {"id": True}, sort=latest, skip=count, limit=limit))[::-1]
    if before is not None:
        old = dead | {"until": {"$lt": Timestamp(int(before), 0)}}
        docs += engine.messages.find(old, {"id": True}, sort=PLACE_ORDER, limit=limit)
    return list(dict.fromkeys(str(doc.get("id")) for doc in docs))[:limit]


def requeue(engine: Engine, queue: str, ids: Sequence[str] | None) -> list[str]:
    """Replay dead letters, the oldest first, and return their ids."""
    replayed: list[str] = []
    with engine.calls():
        wanted = _dead_by_now(engine, queue)
    if ids is not None:
        wanted["_id"] = {"$in": [message_id(queue, id) for id in ids]}
    skipped: list[Any] = []
    while True:
        # Skip documents that cannot be replayed because they are not messages.
        some = wanted if not skipped else {"$and": [wanted, {"_id": {"$nin": skipped}}]}
        with engine.calls():
            docs = list(engine.messages.find(some, _REPLAYED, sort=PLACE_ORDER, limit=BATCH))
            done = _replay(engine, docs)
        made_progress()
        replayed += [str(doc.get("id")) for doc in docs if hashable(doc["_id"]) in done]
        skipped += [doc["_id"] for doc in docs if hashable(doc["_id"]) not in done]
        if len(docs) < BATCH:
            return replayed


def _dead_by_now(engine: Engine, queue: str) -> Doc:
    """Return the filter for the current dead letters: a replayed message may be dead-lettered again at once."""
    dead: Doc = {"queue": queue, "state": DEAD, **HAS_PLACE}
    latest = engine.messages.find_one(dead, {"until": True}, sort=ORDERS[Place.DEAD])
    return dead if latest is None else {**dead, "until": {"$exists": True, "$not": {"$gt": latest["until"]}}}


def _replay(engine: Engine, docs: Sequence[Doc]) -> set[object]:
    """Replay *docs*, with their unique keys if those are free, and return the ``_id`` of each replayed one."""
    now = engine.time.earliest()
    tags = lanes.enter_again(engine, docs)
    done: set[object] = set()
    keyed = [doc for doc in docs if _has_unique(doc) and "key" not in doc]
    for with_key in (True, False):
        part = keyed if with_key else [doc for doc in docs if hashable(doc["_id"]) not in done]
        done |= _replay_some(engine, part, tags, with_key=with_key, now=now)
    return done


def _has_unique(doc: Doc) -> bool:
    """Return whether *doc* has a unique key; if it is malformed, its next claim handles that."""
    try:
        return unique_of(doc) is not None
    except MalformedError:
        return False


def _replay_some(engine: Engine, docs: Sequence[Doc], tags: lanes.Tags, *, with_key: bool, now: float) -> set[object]:
    changes = [
        UpdateOne({"_id": doc["_id"], "state": DEAD}, _alive(doc, tags, with_key=with_key, now=now)) for doc in docs
    ]
    if not changes:
        return set()
    try:
        engine.insist(lambda: engine.messages.bulk_write(changes, ordered=False))
    except BulkWriteError as error:
        refused = {each["index"] for each in refused_by(error)}
        return {hashable(doc["_id"]) for place, doc in enumerate(docs) if place not in refused}
    return {hashable(doc["_id"]) for doc in docs}


def _alive(doc: Doc, tags: lanes.Tags, *, with_key: bool, now: float) -> Doc:
    due = DatetimeMS(int(now * 1000))
    tag = tags.get(doc["_id"]) if type(doc["_id"]) is str else None
    change: Doc = {
        "$set": {"state": WAITING, "attempt": 0, "hop": 0, "crashes": 0, "due": tag or due},
        "$inc": {"generation": 1},
        "$currentDate": {"seq": {"$type": "timestamp"}},
        "$unset": dict.fromkeys(("task", "reason", "error", "holder", "until", "died_at"), True),
    }
    if tag is not None:
        change["$set"]["due_at"] = due
    if with_key:
        unique = unique_of(doc)
        if unique is not None:
            change["$set"] |= {"key": unique.key, "key_until": moment(now + unique.ttl)}
    return change


def remove(engine: Engine, queue: str, ids: Sequence[str] | None, *, places: Iterable[Place]) -> list[str]:
    """Remove messages in *places*, those of *ids* or all, and remember their ids for a while."""
    window = engine.options.dedup_window
    removed: list[str] = []
    for place in sorted(places):
        with engine.calls():
            parts = _in_place(engine, place)
        for wanted in parts:
            wanted["queue"] = queue
            if ids is not None:
                wanted["_id"] = {"$in": [message_id(queue, id) for id in ids]}
            is_full = True
            while is_full:
                with engine.calls():
                    is_full = _remove_some(engine, wanted, removed, window, leased=place is Place.LEASED)
                made_progress()
    return removed


def _remove_some(engine: Engine, wanted: Doc, removed: list[str], window: float, *, leased: bool) -> bool:
    """Remove a batch of *wanted* messages, add their ids to *removed*, and return whether there may be more."""
    docs = list(engine.messages.find(wanted, _REMOVED, limit=BATCH))
    if leased:
        # A process that died during a commit may have left them locked.
        engine.kill_sessions(doc.get("session") for doc in docs)
    if docs:
        found = _mark_gone(engine, wanted, [doc["_id"] for doc in docs], window)
        lanes.leave(engine, [doc for doc in docs if str(doc.get("id")) in set(found)])
        removed += found
    return len(docs) >= BATCH


def _mark_gone(engine: Engine, wanted: Doc, found: list[Any], window: float) -> list[str]:
    mark = engine.new_mark()
    still = {**wanted, "_id": {"$in": found}}
    engine.insist(lambda: engine.messages.update_many(still, gone(window, mark)))
    marked = engine.messages.find({"_id": {"$in": found}, "settled": mark}, {"id": True})
    return [str(doc.get("id")) for doc in marked]


def _in_place(engine: Engine, place: Place) -> list[Doc]:
    """Return filters for messages in *place*; delayed messages of lanes are found by another index."""
    if place is Place.READY:
        return [{"state": WAITING, "due": {"$not": {"$gt": moment(engine.time.latest())}}}]
    if place is Place.DELAYED:
        later = {**IS_DELAYABLE, "due": {"$gt": moment(engine.time.latest())}}
        return [later, {"state": DELAYED, **HAS_PLACE}]
    return [{"state": LEASED if place is Place.LEASED else DEAD, **HAS_PLACE}]


def _place_of(doc: Doc, now: float) -> Place:
    if doc.get("state") == WAITING:
        return Place.DELAYED if at(doc.get("due")) > now else Place.READY
    if doc.get("state") == DELAYED:
        return Place.DELAYED
    return Place.LEASED if doc.get("state") == LEASED else Place.DEAD


def _behind(order: Order, values: list[Any]) -> list[Doc]:
    """Return alternative filters for documents behind the position of *values* in *order*."""
    terms: list[Doc] = []
    for place, (name, direction) in enumerate(order):
        equal = {earlier: values[index] for index, (earlier, _) in enumerate(order[:place])}
        terms.append({**equal, name: {"$gt" if direction == ASCENDING else "$lt": values[place]}})
        if name == "due" and isinstance(values[place], DatetimeMS):
            terms.append({**equal, name: {"$type": "timestamp"}})  # lanes, which are behind
    return terms


def _write_position(order: Order, doc: Doc) -> str:
    """Return the position of *doc* in *order* as text; the fields of malformed documents may have any type."""
    return b64encode(bson.encode({"at": [doc.get(name) for name, _ in order]})).decode()


def _read_position(cursor: str) -> list[Any]:
    values: list[Any] = bson.decode(b64decode(cursor), _AS_READ)["at"]
    return values
