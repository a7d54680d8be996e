"""The layout of documents, the names of all their fields, and their indexes.

A message is one document, whose ``_id`` is its queue and its id, ``"default/0190..."``. So an id can be in a queue only
once, and the ``_id`` alone, as in a change stream, gives the queue. ``state`` is one of:

- ``waiting``: delivered once ``due`` has passed, be it now or in ten years; in a lane, ``due`` is a timestamp, by which
  lanes take turns, and ``due_at`` the time;
- ``delayed``: in a lane, and not due before ``until``;
- ``leased``: held until ``until`` by the holder of ``claim``;
- ``dead``: a dead letter, with ``task``, ``reason``, ``error``, ``holder`` and ``died_at``; ``until`` is the same time
  as a timestamp of the server, which sorts them;
- ``done``: ended; a small document that remembers the id until ``forget_at``, when the TTL index removes it.

``seq`` is a timestamp that the server creates in the order of its writes; it breaks ties of ``due``. ``key`` exists
while the message holds its unique key; the unique index on it makes taking the key one step with the send.

There are as few indexes as possible: before version 7, a server reads the catalog again for each index and document
that a transaction updates, which is then most of its work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bson.datetime_ms import DatetimeMS
from bson.int64 import Int64
from bson.timestamp import Timestamp
from pymongo import ASCENDING, DESCENDING, IndexModel

from queuekit.broker import Delivery, Place, Stored
from queuekit.envelope import TURN, Envelope, Lane, Unique, split_frame
from queuekit.errors import DecodeError

__all__ = [
    "BACK",
    "CLAIM_FIELDS",
    "CLAIM_ORDER",
    "DEAD",
    "DEAD_LETTERED_NOW",
    "DELAYED",
    "DELAYED_ORDER",
    "DONE",
    "GROUP_INDEXES",
    "HAS_PLACE",
    "IS_DELAYABLE",
    "LANE_INDEXES",
    "LAYOUT",
    "LEASED",
    "MESSAGE_INDEXES",
    "PLACE_ORDER",
    "RECORD_INDEXES",
    "WAITING",
    "WHOLE",
    "Doc",
    "MalformedError",
    "at",
    "claim_of",
    "delivery_of",
    "envelope_of",
    "hashable",
    "is_later",
    "lane_of",
    "message_id",
    "moment",
    "new_message",
    "new_messages",
    "queue_of",
    "step_of",
    "stored_of",
    "task_of",
    "text",
    "token_of",
    "unique_of",
    "whole",
]

Doc = dict[str, Any]

LAYOUT = 1
"""Version of collections and documents, stored in the collection ``layout``. A release with another refuses them."""
WAITING, DELAYED, LEASED, DEAD, DONE = "waiting", "delayed", "leased", "dead", "done"

NEXT_STAMP = Timestamp(0, 0)
"""The server replaces this by its own timestamp when it inserts a document."""
_LONGEST_TIME = 2**62
BACK = DatetimeMS(1)
"""``due`` of a message of a lane that comes back after a claim: it is before all others of its priority."""

CLAIM_ORDER = [("priority", DESCENDING), ("due", ASCENDING), ("seq", ASCENDING)]
"""The order in which messages of a queue are delivered."""

DELAYED_ORDER = [("due", ASCENDING), ("seq", ASCENDING)]
"""The order in which delayed messages become due; the index of waiting messages has it for each priority."""
IS_DELAYABLE: Doc = {"state": WAITING, "priority": {"$in": list(range(10))}}
"""Filter for waiting messages that names each priority, so that :data:`DELAYED_ORDER` can use their index."""
PLACE_ORDER = [("until", ASCENDING), ("seq", ASCENDING)]
"""The order in which leases and delays in lanes end, and in which messages were dead-lettered."""

CLAIM_FIELDS = ("claim", "until", "session")
"""Fields of leased messages only. ``session`` is the session of its holder's transactions."""

HAS_PLACE: Doc = {"until": {"$exists": True}}
"""Filter for leased and dead messages, and delayed ones of lanes; queries need it to use the index of these."""
DEAD_LETTERED_NOW: Doc = {"died_at": True, "until": {"$type": "timestamp"}}
"""Fields that ``$currentDate`` sets in a dead letter."""

MESSAGE_INDEXES = [
    IndexModel(
        [("queue", ASCENDING), ("state", ASCENDING), *CLAIM_ORDER, ("due_at", ASCENDING)],
        name="queuekit_waiting",
        partialFilterExpression={"state": WAITING},
    ),
    IndexModel(
        [("queue", ASCENDING), ("state", ASCENDING), *PLACE_ORDER],
        name="queuekit_place",
        partialFilterExpression=HAS_PLACE,
    ),
    IndexModel(
        [("forget_at", ASCENDING)],
        name="queuekit_forget",
        expireAfterSeconds=0,
        partialFilterExpression={"state": DONE},
    ),
    IndexModel(
        [("key", ASCENDING)],
        name="queuekit_unique",
        unique=True,
        partialFilterExpression={"key": {"$exists": True}},
    ),
]
RECORD_INDEXES = [IndexModel([("expires_at", ASCENDING)], name="queuekit_expire", expireAfterSeconds=0)]
LANE_INDEXES = [IndexModel([("level", ASCENDING), ("tail", DESCENDING)], name="queuekit_turns")]
GROUP_INDEXES = [IndexModel([("expires_at", ASCENDING)], name="queuekit_expire", expireAfterSeconds=0)]


def WHOLE(field: str) -> Doc:  # noqa: N802 - reads as an operator among operators
    """Return an expression: the number in *field*, or 0 if it is not a number, so that updates never fail on it."""
    return {"$cond": [{"$isNumber": field}, field, 0]}


class MalformedError(Exception):
    """A document is not a message: a field is missing, or has another type."""


def message_id(queue: str, id: str) -> str:
    """Return the ``_id`` of a message. Names contain no slash."""
    return f"{queue}/{id}"


def queue_of(message_id: object) -> str:
    """Return the queue of an ``_id``; empty if it is foreign."""
    return message_id.partition("/")[0] if isinstance(message_id, str) else ""


def hashable(id: object) -> object:
    """Return a hashable value for an ``_id``; that of a foreign document may be of any type, even a document."""
    return id if type(id) is str else (repr(id),)


def moment(seconds: float) -> DatetimeMS:
    """Return UTC epoch *seconds* as MongoDB stores them, in milliseconds, rounded up so that nothing is early."""
    return DatetimeMS(math.ceil(round(min(seconds * 1000, _LONGEST_TIME), 3)))


def at(value: object) -> float:
    """Return a time of a document in UTC epoch seconds; 0 if it is not a time."""
    return int(value) / 1000 if isinstance(value, DatetimeMS) else 0.0


def text(value: str) -> str:
    """Return *value* without lone surrogates, which UTF-8 cannot encode."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def task_of(body: bytes) -> str | None:
    """Return the name of the task in *body*, if any, for operators who query dead letters."""
    try:
        task = split_frame(body)[0].get("task")
    except DecodeError:
        return None
    return text(task) if isinstance(task, str) else None


def new_message(envelope: Envelope, now: float, tags: Mapping[str, Timestamp]) -> Doc:
    """Return the document of a new message; *now* is a time that the server's clock has reached."""
    return new_messages([envelope], now, tags)[0]


def new_messages(envelopes: Sequence[Envelope], now: float, tags: Mapping[str, Timestamp]) -> list[Doc]:
    """Return the documents of new messages that are sent together at *now*; *tags* has the ready ones of lanes."""
    # Rounded down, so that a message without delay is due at once.
    stamp = DatetimeMS(int(now * 1000))
    return [_new_message(envelope, now, stamp, tags) for envelope in envelopes]


def is_later(envelope: Envelope, now: float) -> bool:
    """Return whether *envelope*, sent at *now*, is delayed."""
    return envelope.delay > 0 or (envelope.not_before is not None and envelope.not_before > now)


def _new_message(envelope: Envelope, now: float, stamp: DatetimeMS, tags: Mapping[str, Timestamp]) -> Doc:
    doc = {
        "_id": f"{envelope.queue}/{envelope.id}",
        "queue": envelope.queue,
        "id": envelope.id,
        "state": WAITING,
        "sent_at": stamp,
        "due": stamp,
        "seq": NEXT_STAMP,
        "number": 0,
        "crashes": 0,
        **fields_of(envelope),
    }
    if envelope.delay > 0 or envelope.not_before is not None:
        doc["due"] = moment(max(now + max(envelope.delay, 0.0), envelope.not_before or 0.0))
    if envelope.unique is not None:
        doc["key"] = envelope.unique.key
        doc["key_until"] = moment(now + envelope.unique.ttl)
    if envelope.lane is not None:
        doc["due_at"] = due = doc["due"]
        tag = tags.get(doc["_id"])
        doc |= {"state": DELAYED, "until": due} if tag is None else {"due": tag}
    return doc


def fields_of(envelope: Envelope) -> Doc:
    """Return the fields that change from attempt to attempt."""
    fields: Doc = {
        "priority": envelope.priority,
        "attempt": envelope.attempt,
        "generation": envelope.generation,
        "hop": envelope.hop,
        "body": envelope.body,
    }
    if envelope.not_before is not None:
        fields["not_before"] = envelope.not_before
    if envelope.expires is not None:
        fields["expires"] = envelope.expires
    if envelope.unique is not None:
        unique = envelope.unique
        fields["unique"] = {"key": unique.key, "until": unique.until, "ttl": unique.ttl}
    if envelope.lane is not None:
        fields["lane"] = {"key": text(envelope.lane.key), "weight": envelope.lane.weight}
    return fields


def step_of(doc: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return generation, attempt and hop of a message."""
    generation, attempt, hop = (doc.get(name) for name in ("generation", "attempt", "hop"))
    return whole(generation), whole(attempt), whole(hop)


def token_of(claim: str, place: int) -> str:
    """Return the token of one delivery: its claim, which covers many messages, and its index there."""
    return f"{claim}.{place}"


def claim_of(token: str) -> str:
    """Return the claim of a delivery's token."""
    return token.rpartition(".")[0]


def envelope_of(doc: Mapping[str, Any]) -> Envelope:
    """Return the message of a document.

    Raises:
        MalformedError: It is not a message.
    """
    try:
        envelope = Envelope(
            id=doc["id"],
            queue=doc["queue"],
            body=doc["body"],
            priority=doc["priority"],
            not_before=doc.get("not_before"),
            expires=doc.get("expires"),
            attempt=doc["attempt"],
            generation=doc["generation"],
            hop=doc["hop"],
            unique=unique_of(doc),
            lane=lane_of(doc),
        )
    except KeyError as error:
        raise MalformedError(f"field {error} is missing") from error
    _check(envelope, doc)
    return envelope


def delivery_of(doc: Mapping[str, Any], place: int) -> Delivery:
    """Return a claimed document as a delivery.

    Raises:
        MalformedError: It is not a message.
    """
    return Delivery(
        envelope=envelope_of(doc),
        token=token_of(doc["claim"], place),
        number=doc["number"],
        crashes=doc["crashes"],
        sent_at=at(doc["sent_at"]),
        claimed_at=at(doc["claimed_at"]),
    )


def stored_of(doc: Mapping[str, Any], place: Place) -> Stored:
    """Return a document as an operator sees it; of a malformed one, the fields that can be read."""
    try:
        envelope = envelope_of(doc)
    except MalformedError:
        body = doc.get("body")
        id = doc.get("id")
        envelope = Envelope(
            id=id if type(id) is str else str(doc["_id"]),  # bson.Code is a str, but cannot be hashed
            queue=str(doc.get("queue", "")),
            body=body if isinstance(body, bytes) else b"",
        )
    died_at = doc.get("died_at")
    return Stored(
        envelope=envelope,
        place=place,
        due=at(doc.get("until") if place is Place.LEASED else doc.get("due_at", doc.get("due"))),
        sent_at=at(doc.get("sent_at")),
        number=whole(doc.get("number")),
        crashes=whole(doc.get("crashes")),
        reason=str(doc.get("reason", "")),
        error=str(doc.get("error", "")),
        holder=str(doc.get("holder", "")),
        died_at=None if died_at is None else at(died_at),
    )


def whole(value: object) -> int:
    """Return an integer of a document; 0 if it is not one."""
    return int(value) if isinstance(value, int) else 0


def unique_of(doc: Mapping[str, Any]) -> Unique | None:
    """Return the unique key of a document.

    Raises:
        MalformedError: It cannot be read.
    """
    value = doc.get("unique")
    if value is None:
        return None
    match value:
        case {"key": str(key), "until": "start" | "done" | "ttl" as until, "ttl": float() | int() as ttl} if type(
            key
        ) is str and math.isfinite(ttl):
            return Unique(key=key, until=until, ttl=float(ttl))
        case _:
            raise MalformedError("field 'unique' is not a unique key")


def lane_of(doc: Mapping[str, Any]) -> Lane | None:
    """Return the lane of a document.

    Raises:
        MalformedError: It cannot be read.
    """
    match doc.get("lane"):
        case None:
            return None
        case {"key": str(key), "weight": float() | int() as weight} if type(key) is str and 0 < weight < TURN:
            return Lane(key, float(weight))
        case _:
            raise MalformedError("field 'lane' is not a lane")


_TYPES: Sequence[tuple[str, tuple[type, ...]]] = (
    ("id", (str,)),
    ("queue", (str,)),
    ("body", (bytes,)),
    ("priority", (int, Int64)),
    ("attempt", (int, Int64)),
    ("generation", (int, Int64)),
    ("hop", (int, Int64)),
    ("number", (int, Int64)),
    ("crashes", (int, Int64)),
    ("sent_at", (DatetimeMS,)),
    ("expires", (float, int, type(None))),
    ("not_before", (float, int, type(None))),
)


def _check(envelope: Envelope, doc: Mapping[str, Any]) -> None:
    due = ("due", (DatetimeMS,) if envelope.lane is None else (DatetimeMS, Timestamp))
    for name, kinds in (*_TYPES, due):
        if type(doc.get(name)) not in kinds:
            raise MalformedError(f"field {name!r} has the type {type(doc.get(name)).__name__}")
    for name, moment_ in (("expires", envelope.expires), ("not_before", envelope.not_before)):
        if moment_ is not None and not math.isfinite(moment_):
            raise MalformedError(f"field {name!r} is not a time")
    if doc["_id"] != message_id(envelope.queue, envelope.id):
        raise MalformedError("field '_id' does not match queue and id")
