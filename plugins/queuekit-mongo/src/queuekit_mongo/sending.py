"""Send messages with one ``insert_many``, and resolve those that a unique index refuses."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo.client_session import ClientSession
from pymongo.errors import BulkWriteError, DuplicateKeyError

from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit_mongo import lanes
from queuekit_mongo.engine import Engine
from queuekit_mongo.failures import DUPLICATE, refused_by
from queuekit_mongo.layout import DONE, Doc, at, message_id, new_message, new_messages, step_of

__all__ = ["register", "send_all"]

_TRIES = 20


def register(engine: Engine, queues: set[str], known: set[str]) -> None:
    """Store the names of *queues* that are not in *known*, and add them to it."""
    for queue in queues - known:
        engine.queues.update_one({"_id": queue}, {"$setOnInsert": {"_id": queue}}, upsert=True)
        known.add(queue)


def send_all(engine: Engine, envelopes: Sequence[Envelope], now: float) -> list[str]:
    """Put *envelopes* on their queues and return, for each, its own id or the id that holds its unique key."""
    tags = lanes.enter_sent(engine, envelopes, now)
    docs = new_messages(envelopes, now, tags)
    holders = [envelope.id for envelope in envelopes]
    refused = _insert(engine, docs)
    for index, holder in _find_holders(engine, envelopes, refused, now).items():
        holders[index] = holder or _resolve(engine, envelopes[index], now, tags)
    if refused:
        lanes.give_back(engine, envelopes, tags)
    return holders


def _insert(engine: Engine, docs: list[Doc]) -> list[int]:
    """Insert *docs* and return the indexes of those that a unique index refused, in order."""
    try:
        engine.insist(lambda: engine.messages.insert_many(docs, ordered=False))
    except BulkWriteError as error:
        refused = refused_by(error)
        if any(each["code"] != DUPLICATE for each in refused):
            raise
        return sorted(each["index"] for each in refused)
    return []


def _find_holders(
    engine: Engine, envelopes: Sequence[Envelope], refused: Sequence[int], now: float
) -> dict[int, str | None]:
    """Return, for each *refused* message, its own id or that of its key's holder; ``None``: :func:`_resolve` decides.

    It reads for all at once, since a whole batch is refused if the reply to its first send was lost.
    """
    if not refused:
        return {}
    ids = [message_id(envelopes[index].queue, envelopes[index].id) for index in refused]
    earlier = {doc["_id"]: doc for doc in engine.messages.find({"_id": {"$in": ids}}, {"body": False})}
    holders = _key_holders(engine, [envelopes[index] for index in refused], now)
    found: dict[int, str | None] = {}
    for index, id in zip(refused, ids, strict=True):
        envelope = envelopes[index]
        holder = None if envelope.unique is None else holders.get(envelope.unique.key)
        if id in earlier and is_known(earlier[id], envelope, now):
            found[index] = envelope.id
        else:
            found[index] = None if holder in (None, id) else str(holder).rpartition("/")[2]
    return found


def _key_holders(engine: Engine, envelopes: Sequence[Envelope], now: float) -> dict[str, str]:
    """Return the ``_id`` of the message that holds each unique key of *envelopes*, if any."""
    keys = [unique.key for envelope in envelopes if (unique := envelope.unique) is not None]
    held = engine.messages.find({"key": {"$in": keys}}, {"key": True, "key_until": True}) if keys else ()
    return {doc["key"]: str(doc["_id"]) for doc in held if at(doc.get("key_until")) > now}


def _resolve(engine: Engine, envelope: Envelope, now: float, tags: lanes.Tags) -> str:
    """Send a refused message: its id is known, it is a later step of a known one, or its key is held."""
    for _ in range(_TRIES):
        holder = _try_again(engine, envelope, now, tags)
        if holder is not None:
            return holder
    raise UnavailableError(f"cannot send message {envelope.id}: other clients keep writing the same id or key")


def _try_again(engine: Engine, envelope: Envelope, now: float, tags: lanes.Tags) -> str | None:
    """Return its own id or the id that holds its key; ``None`` to try again, since another client interfered."""
    doc = new_message(envelope, now, tags)
    earlier = engine.messages.find_one({"_id": doc["_id"]}, {"body": False})
    if earlier is not None and is_known(earlier, envelope, now):
        return envelope.id
    if envelope.unique is not None:
        holder = holder_of(engine, envelope.unique.key, now)
        if holder not in (None, doc["_id"]):
            return str(holder).rpartition("/")[2]
    try:
        if earlier is not None:
            return envelope.id if replace(engine, earlier, doc) else None
        engine.messages.insert_one(doc)
    except DuplicateKeyError:
        return None
    return envelope.id


def is_known(earlier: Doc, envelope: Envelope, now: float) -> bool:
    """Return whether this send, or a later step of the same id, was accepted before."""
    if earlier.get("state") == DONE and at(earlier.get("forget_at")) <= now:
        return False
    return step_of(earlier) >= (envelope.generation, envelope.attempt, envelope.hop)


def replace(engine: Engine, earlier: Doc, doc: Doc, session: ClientSession | None = None) -> bool:
    """Replace *earlier*, an earlier step of the same id, by *doc*; return false if it has changed meanwhile."""
    guard = {name: earlier.get(name) for name in ("_id", "state", "generation", "attempt", "hop")}
    return engine.messages.replace_one(guard, doc, session=session).matched_count > 0


def holder_of(engine: Engine, key: str, now: float, session: ClientSession | None = None) -> str | None:
    """Return the ``_id`` of the message that holds *key*; free an expired key."""
    held = engine.messages.find_one({"key": key}, {"key_until": True}, session=session)
    if held is None:
        return None
    if at(held.get("key_until")) > now:
        return str(held["_id"])
    free = {"$unset": {"key": True, "key_until": True}}
    still = {"_id": held["_id"], "key": key, "key_until": held.get("key_until")}
    engine.messages.update_one(still, free, session=session)
    return None
