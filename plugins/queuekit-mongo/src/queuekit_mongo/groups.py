"""Count the members of groups: one bit per member, and their number, in one document per 4,096 members.

One update of one document sets a bit that is clear and increments the count, whatever the size of the group.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bson.int64 import Int64
from pymongo import ReturnDocument, UpdateMany, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.errors import BulkWriteError, DuplicateKeyError

from queuekit.backend import Join
from queuekit.errors import UnavailableError
from queuekit_mongo.engine import Engine
from queuekit_mongo.failures import DUPLICATE, refused_by
from queuekit_mongo.layout import Doc, at, moment

__all__ = ["join", "join_in", "join_many"]

CHUNK = 4_096
"""Members per document."""
_BITS = 32
_TRIES = 20


def join(engine: Engine, group: str, member: int, *, size: int, ttl: float) -> tuple[bool, int]:
    """Count *member* into *group*; return whether it is new, and the number of members."""
    now = engine.time.earliest()
    expires_at = moment(now + ttl)
    first_time, count = _arrive(engine, group, member, expires_at=expires_at, now=now)
    if max(size, member + 1) <= CHUNK:
        return first_time, count
    engine.groups.update_many(_all_live(group, now), {"$set": {"expires_at": expires_at}})
    return first_time, _count(engine, group, now)


def join_many(engine: Engine, joins: Sequence[Join]) -> list[int]:
    """Count members into their groups, with one write and one read for all; return the new count of each group."""
    now = engine.time.earliest()
    _write_arrivals(engine, joins, now)
    docs = _live(engine, list(dict.fromkeys(one.group for one in joins)), now)
    counts = {group: sum(int(doc["count"]) for doc in some.values()) for group, some in docs.items()}
    for one in joins:
        if not _has_arrived(one, docs[one.group]):
            # Refused although it has not arrived: the group has expired, or another client just created it.
            _, counts[one.group] = join(engine, one.group, one.member, size=one.size, ttl=one.ttl)
    return [counts[one.group] for one in joins]


def _write_arrivals(engine: Engine, joins: Sequence[Join], now: float) -> None:
    """Set the bits of all members that have not arrived, if a single update can; leave the others unchanged."""
    sizes = {one.group: max(one.size, one.member + 1) for one in joins}
    ends = {one.group: moment(now + one.ttl) for one in joins}
    writes: list[UpdateOne | UpdateMany] = []
    for one in joins:
        wanted, arrive = _arrival(one.group, one.member, expires_at=ends[one.group], now=now)
        writes.append(UpdateOne(wanted, arrive, upsert=True))
    large = [group for group, size in sizes.items() if size > CHUNK]
    writes += [UpdateMany(_all_live(group, now), {"$set": {"expires_at": ends[group]}}) for group in large]
    _write_new(engine, writes)


def _write_new(engine: Engine, writes: Sequence[UpdateOne | UpdateMany]) -> None:
    """Apply *writes*; those of members that have already arrived are refused as duplicates."""
    try:
        engine.insist(lambda: engine.groups.bulk_write(writes, ordered=False))
    except BulkWriteError as error:
        if any(one.get("code") != DUPLICATE for one in refused_by(error)):
            raise


def _has_arrived(one: Join, docs: dict[str, Doc]) -> bool:
    """Return whether *docs*, the documents of its group, have counted *one*."""
    id, word, bit = _place(one.group, one.member)
    return bool(int(docs.get(id, {}).get(word, 0)) & bit)


def _live(engine: Engine, groups: Sequence[str], now: float) -> dict[str, dict[str, Doc]]:
    """Return the documents of each of *groups* that have not expired, by id."""
    found: dict[str, dict[str, Doc]] = {group: {} for group in groups}
    for doc in engine.groups.find({"$or": [_all(group) for group in groups], "expires_at": {"$gt": moment(now)}}):
        found[doc["group"]][doc["_id"]] = doc
    return found


def join_in(engine: Engine, session: ClientSession, group: str, members: Iterable[int], *, ttl: float) -> int:
    """Count *members* into *group* within a transaction, and return the number of members."""
    now = engine.time.earliest()
    chunks: dict[str, Doc] = {}
    for doc in engine.groups.find(_all(group), session=session):
        if at(doc.get("expires_at")) > now:
            chunks[doc["_id"]] = doc
    # Always write the first document, so that of two concurrent transactions one sees the other's members.
    chunks.setdefault(_place(group, 0)[0], {"_id": _place(group, 0)[0], "group": group, "count": 0})
    for member in members:
        id, word, bit = _place(group, member)
        doc = chunks.setdefault(id, {"_id": id, "group": group, "count": 0})
        bits = int(doc.get(word, 0))
        if not bits & bit:
            doc[word] = Int64(bits | bit)
            doc["count"] += 1
    for doc in chunks.values():
        doc["expires_at"] = moment(now + ttl)
        engine.groups.replace_one({"_id": doc["_id"]}, doc, upsert=True, session=session)
    return sum(int(doc["count"]) for doc in chunks.values())


def _arrive(engine: Engine, group: str, member: int, *, expires_at: Any, now: float) -> tuple[bool, int]:
    """Set the bit of *member*; return whether it was clear, and the count of its document."""
    id, word, bit = _place(group, member)
    alive = {"expires_at": {"$gt": moment(now)}}
    wanted, arrive = _arrival(group, member, expires_at=expires_at, now=now)
    groups = engine.groups
    for _ in range(_TRIES):
        try:
            arrived: Any = groups.find_one_and_update(wanted, arrive, upsert=True, return_document=ReturnDocument.AFTER)
            return True, int(arrived["count"])
        except DuplicateKeyError:
            # The document exists: either the bit is set, or the document has expired.
            known = {"_id": id, **alive, word: {"$bitsAllSet": bit}}
            renew = {"$set": {"expires_at": expires_at}}
            doc = groups.find_one_and_update(known, renew, return_document=ReturnDocument.AFTER)
            if doc is not None:
                return False, int(doc["count"])
            groups.delete_one({"_id": id, "expires_at": {"$lte": moment(now)}})
    raise UnavailableError(f"other clients keep changing group {group}")


def _arrival(group: str, member: int, *, expires_at: Any, now: float) -> tuple[Doc, Doc]:
    """Return the filter for the document of *member* if its bit is clear, and the update that sets it."""
    id, word, bit = _place(group, member)
    is_clear = {"$or": [{word: {"$exists": False}}, {word: {"$bitsAllClear": bit}}]}
    arrive = {
        "$bit": {word: {"or": Int64(bit)}},
        "$inc": {"count": 1},
        "$set": {"group": group, "expires_at": expires_at},
    }
    return {"_id": id, "expires_at": {"$gt": moment(now)}, **is_clear}, arrive


def _count(engine: Engine, group: str, now: float) -> int:
    found = engine.groups.find(_all_live(group, now), {"count": True})
    return sum(int(doc["count"]) for doc in found)


def _place(group: str, member: int) -> tuple[str, str, int]:
    """Return the document, the field and the bit of a member."""
    chunk, rest = divmod(member, CHUNK)
    word, bit = divmod(rest, _BITS)
    return f"{group}\0{chunk:08d}", f"w{word}", 1 << bit


def _all(group: str) -> Doc:
    """Return the filter for all documents of *group*."""
    return {"_id": {"$gte": f"{group}\0", "$lt": f"{group}\1"}}


def _all_live(group: str, now: float) -> Doc:
    """Return the filter for the documents of *group* that have not expired."""
    return {**_all(group), "expires_at": {"$gt": moment(now)}}
