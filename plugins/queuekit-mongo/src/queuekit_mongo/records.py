"""Write and read records: the server writes each under its condition in one step, on its own clock.

A record is one document with the key as ``_id``. ``expires_at`` drives the TTL index. The index is swept about once a
minute, so every read skips expired records. A deletion sets the expiry to now, so that the version survives until the
sweep. A version is never less than the server's time, so that it also grows across the sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bson.int64 import Int64
from pymongo import ReturnDocument, UpdateMany, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.errors import BulkWriteError, DuplicateKeyError

from queuekit.backend import Condition, Record
from queuekit.rounds import in_rounds
from queuekit_mongo.engine import Engine
from queuekit_mongo.failures import DUPLICATE, refused_by
from queuekit_mongo.layout import Doc, at, moment, text, whole

__all__ = ["IS_LIVE", "expire", "insert_fresh", "prefix_end", "put_each", "read_record", "write_newer"]

IS_LIVE: Doc = {"$or": [{"expires_at": None}, {"$expr": {"$gt": ["$expires_at", "$$NOW"]}}]}
"""Filter for records that have not expired on the server's clock."""
_LIVE: Doc = {
    "$and": [
        {"$ne": [{"$type": "$version"}, "missing"]},
        {"$or": [{"$ne": [{"$type": "$expires_at"}, "date"]}, {"$gt": ["$expires_at", "$$NOW"]}]},
    ]
}
"""Expression: the record exists and has not expired."""
_VERSIONS_A_MILLISECOND = 1_024
_LARGEST_CHANGE = 8_000_000
"""Most bytes of all bodies in one update: the server accepts 16 MiB, including everything around them."""
_OLD_VERSION: Doc = {"$cond": [{"$in": [{"$type": "$version"}, ["int", "long"]]}, "$version", 0]}
"""Expression: the version of the existing record; 0 if foreign code changed its type, so that writes still work."""
_VERSION: Doc = {
    "$max": [{"$add": [_OLD_VERSION, 1]}, {"$multiply": [{"$toLong": "$$NOW"}, Int64(_VERSIONS_A_MILLISECOND)]}]
}
_TRIES = 10
_LAST_CHARACTER, _SURROGATES, _BEHIND_SURROGATES = 0x10FFFF, 0xD800, 0xE000


def put_each(
    engine: Engine, records: Sequence[Record], *, condition: Condition, expect: int | None = None
) -> list[bool]:
    """Write the *records* that *condition* and *expect* allow, and return whether each was written."""
    if len(records) == 1:
        return [_put_one(engine, records[0], condition, expect)]
    written = [False] * len(records)
    for part in in_rounds([record.key for record in records]):
        chosen = [records[place] for place in part]
        for place, yes in zip(part, _put_many(engine, chosen, condition, expect), strict=True):
            written[place] = yes
    return written


def insert_fresh(engine: Engine, records: Sequence[Record], session: ClientSession) -> None:
    """Insert *records* within a transaction; if one already exists, the transaction fails."""
    now = engine.time.latest()
    docs = [{**_plain(record, now, ""), "version": _first_version(now)} for record in records]
    engine.records.insert_many(docs, ordered=True, session=session)


def write_newer(engine: Engine, records: Sequence[Record], session: ClientSession) -> None:
    """Write *records* that are newer than the existing ones, within a transaction; those of one key in order."""
    for part in in_rounds([record.key for record in records]):
        _write_newer(engine, [records[place] for place in part], session)


def _write_newer(engine: Engine, records: Sequence[Record], session: ClientSession) -> None:
    mark, now = engine.new_mark(), engine.time.latest()
    quick = [_over(some, now, mark) for some in _by_rank(records)]
    matched = engine.records.bulk_write(quick, ordered=False, session=session).matched_count
    if matched == len(records):
        return
    # Usually an earlier record of the same message exists. For the others, compare one by one:
    wanted = {"_id": {"$in": [one.key for one in records]}, "mark": mark}
    written = {doc["_id"] for doc in engine.records.find(wanted, {"_id": True}, session=session)}
    rest = [one for one in records if one.key not in written]
    changes = [UpdateOne({"_id": one.key}, _change(one, Condition.NEWER, None, mark), upsert=True) for one in rest]
    if changes:
        engine.records.bulk_write(changes, ordered=False, session=session)


def _by_rank(records: Sequence[Record]) -> list[list[Record]]:
    """Return *records* in parts with one rank each that fit into one update."""
    parts: list[list[Record]] = []
    latest: dict[int, list[Record]] = {}
    sizes: dict[int, int] = {}
    for one in records:
        rank, size = one.rank, len(one.body)
        if rank not in latest or sizes[rank] + size > _LARGEST_CHANGE:
            latest[rank], sizes[rank] = [], 0
            parts.append(latest[rank])
        latest[rank].append(one)
        sizes[rank] += size
    return parts


def expire(engine: Engine, keys: Sequence[str], expect: int | None) -> int:
    """Expire *keys* now, with *expect* only those of that version, and return how many were live."""
    wanted: Doc = {"_id": {"$in": list(keys)}, **IS_LIVE}
    if expect is not None:
        wanted["version"] = expect
    change: list[Doc] = [{"$set": {"expires_at": "$$NOW"}}, {"$unset": ["body", "task", "state", "error", "at"]}]
    return engine.records.update_many(wanted, change).modified_count


def read_record(doc: Doc, now: float) -> Record:
    """Return the record of a document; *now* is the server's time, for its remaining lifetime.

    Foreign code may have changed it: a field of another type counts as missing.
    """
    body, expires_at, moved_at = doc.get("body"), doc.get("expires_at"), doc.get("at")
    return Record(
        key=doc["_id"],
        body=bytes(body) if isinstance(body, bytes) else b"",
        ttl=None if expires_at is None else max(0.0, at(expires_at) - now),
        rank=whole(doc.get("rank")),
        final=bool(doc.get("final", False)),
        version=whole(doc.get("version")),
        task=_words(doc.get("task")),
        state=_words(doc.get("state")),
        error=_words(doc.get("error")),
        at=None if moved_at is None else at(moved_at),
    )


def _words(value: object) -> str | None:
    return value if isinstance(value, str) else None


def prefix_end(prefix: str) -> str | None:
    """Return the first text after all texts that begin with *prefix*; ``None`` if there is none."""
    while prefix:
        last = ord(prefix[-1])
        if last < _LAST_CHARACTER:
            # Skip surrogates, which are not characters by themselves.
            return prefix[:-1] + chr(_BEHIND_SURROGATES if last + 1 == _SURROGATES else last + 1)
        prefix = prefix[:-1]
    return None


def _put_one(engine: Engine, record: Record, condition: Condition, expect: int | None) -> bool:
    mark = engine.new_mark()
    change = _change(record, condition, expect, mark)
    inserts = _may_insert(record, condition, expect)

    def write() -> bool:
        for left in range(_TRIES, -1, -1):
            try:
                doc = engine.records.find_one_and_update(
                    {"_id": record.key},
                    change,
                    {"mark": True},
                    upsert=inserts,
                    return_document=ReturnDocument.AFTER,
                )
                return doc is not None and doc.get("mark") == mark
            except DuplicateKeyError:
                if not left:
                    raise
        raise AssertionError("unreachable")

    return engine.insist(write)


def _put_many(engine: Engine, records: Sequence[Record], condition: Condition, expect: int | None) -> list[bool]:
    mark = engine.new_mark()
    changes = {
        record.key: UpdateOne(
            {"_id": record.key},
            _change(record, condition, expect, mark),
            upsert=_may_insert(record, condition, expect),
        )
        for record in records
    }
    changed = engine.insist(lambda: _write(engine, list(changes.values())))
    if changed == len(records):
        return [True] * len(records)
    found = engine.records.find({"_id": {"$in": list(changes)}}, {"mark": True, "before": True})
    marks = {doc["_id"]: {doc.get("mark"), doc.get("before")} for doc in found}
    return [mark in marks.get(record.key, ()) for record in records]


def _write(engine: Engine, changes: list[UpdateOne]) -> int:
    """Apply *changes* and return how many documents were changed."""
    done = 0
    for left in range(_TRIES, -1, -1):
        try:
            result = engine.records.bulk_write(changes, ordered=False)
            return done + result.modified_count + result.upserted_count
        except BulkWriteError as error:
            refused = refused_by(error)
            if not left or any(each["code"] != DUPLICATE for each in refused):
                raise
            # Another client inserted the same record at the same time: now it exists, and the update can compare.
            done += int(error.details["nModified"]) + int(error.details["nUpserted"])
            changes = [changes[each["index"]] for each in refused]
    return done


def _change(record: Record, condition: Condition, expect: int | None, mark: str) -> list[Doc]:
    """Return the update that replaces a document by *record*, if that is allowed."""
    computed: Doc = {"version": _VERSION, "before": "$mark"}
    if record.ttl is not None:
        computed["expires_at"] = {"$add": ["$$NOW", {"$literal": int(moment(record.ttl))}]}
    replaced = {"$mergeObjects": [{"$literal": _fields(record, mark)}, computed]}
    allowed = _allowed(record, condition, expect)
    if allowed is None:
        return [{"$replaceWith": replaced}]
    return [{"$replaceWith": {"$cond": [allowed, replaced, "$$ROOT"]}}]


def _over(records: Sequence[Record], now: float, mark: str) -> UpdateMany:
    """Return one update that replaces documents of a lower rank by *records*, which all have the same rank.

    Each document finds its replacement in a list, which the server indexes in a hash table. One update per record
    would be several times as expensive.
    """
    keys = [one.key for one in records]
    docs = [_plain(one, now, mark) for one in records]
    place = {"$indexOfArray": [{"$literal": keys}, "$_id"]}
    own = {"$arrayElemAt": [{"$literal": docs}, place]}
    change = [{"$replaceWith": {"$mergeObjects": [own, {"version": _VERSION}]}}]
    return UpdateMany({"_id": {"$in": keys}, "rank": {"$lt": Int64(records[0].rank)}}, change)


def _plain(record: Record, now: float, mark: str) -> Doc:
    """Return the document of *record*, without its version."""
    doc = _fields(record, mark)
    if record.ttl is not None:
        doc["expires_at"] = moment(now + record.ttl)
    return doc


def _first_version(now: float) -> Int64:
    return Int64(int(now * 1000) * _VERSIONS_A_MILLISECOND)


def _fields(record: Record, mark: str) -> Doc:
    fields: Doc = {
        "_id": record.key,
        "body": record.body,
        "rank": Int64(record.rank),
        "final": record.final,
        "mark": mark,
    }
    for name, value in (("task", record.task), ("state", record.state), ("error", record.error)):
        if value is not None:
            fields[name] = text(value)
    if record.at is not None:
        fields["at"] = moment(record.at)
    return fields


def _allowed(record: Record, condition: Condition, expect: int | None) -> Any:
    """Return the expression that decides whether to write; ``None`` for always."""
    terms: list[Doc] = []
    if condition is Condition.ABSENT:
        terms.append({"$not": [_LIVE]})
    elif condition is Condition.NEWER:
        terms.append({"$or": [{"$not": [_LIVE]}, {"$lt": ["$rank", Int64(record.rank)]}]})
    wanted = _wanted(record, condition, expect)
    if wanted is not None:
        terms.append({"$eq": [{"$cond": [_LIVE, "$version", 0]}, Int64(wanted)]})
    return {"$and": terms} if terms else None


def _wanted(record: Record, condition: Condition, expect: int | None) -> int | None:
    """Return the version that the record must have; 0: no record, ``None``: any version."""
    return record.version if condition is Condition.SAME else expect


def _may_insert(record: Record, condition: Condition, expect: int | None) -> bool:
    """Return whether *record* may be the first of its key. A refused upsert would leave an empty document."""
    return not _wanted(record, condition, expect)
