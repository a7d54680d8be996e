"""The result backend of ``mongodb://``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random

from queuekit.backend import Backend, Condition, Join, Page, Record
from queuekit.clock import Clock
from queuekit.urls import EngineURL
from queuekit_mongo import checks, groups
from queuekit_mongo.capabilities import BACKEND_CAPABILITIES, BACKEND_LIMITS
from queuekit_mongo.engine import Engine
from queuekit_mongo.layout import Doc
from queuekit_mongo.options import MongoOptions
from queuekit_mongo.records import IS_LIVE, expire, prefix_end, put_each, read_record
from queuekit_mongo.waiting import Notifier

__all__ = ["MongoBackend"]

_MOST_AT_ONCE = 10_000
"""Most records in one reply of the server, if they are small enough."""
_CHANGES: list[Doc] = [
    {"$match": {"$or": [{"fullDocument.final": True}, {"updateDescription.updatedFields.final": True}]}},
    {"$project": {"documentKey": 1}},
]


class MongoBackend(Backend):
    """Records as documents; see :class:`~queuekit.backend.Backend`.

    Args:
        url: ``mongodb://HOSTS/DATABASE``; a broker with the same URL can commit together with the backend.
        options: Options of the connection and the stored data.
        clock: Not used: the server's clock decides.
        random: Not used: forks of a process would share its numbers, but no two writes may share a mark.
    """

    capabilities = BACKEND_CAPABILITIES
    limits = BACKEND_LIMITS

    def __init__(
        self,
        url: EngineURL,
        *,
        options: MongoOptions | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._engine = Engine(url, options=options, random=random)
        self.engine_id = self._engine.id
        self._notifier = Notifier(
            available=lambda: self._engine.has_streams,
            follow=lambda: self._engine.watch("records", _CHANGES),
            name_of=lambda change: str(change["documentKey"]["_id"]),
        )

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        """Write the *records* that *condition* and *expect* allow."""
        if not records:
            return []
        self.check_sizes(records)
        with self._engine.calls():
            return put_each(self._engine, records, condition=condition, expect=expect)

    def get(self, keys: Sequence[str]) -> dict[str, Record]:
        """Return the live records among *keys*."""
        return self._find({"_id": {"$in": list(keys)}}) if keys else {}

    def wait(self, keys: Sequence[str], *, timeout: float) -> dict[str, Record]:
        """Wait for a final record under one of *keys*; a write by any process wakes the waiter."""
        deadline = time.monotonic() + timeout
        wanted = {"_id": {"$in": list(keys)}, "final": True}
        found = self._find(wanted)
        if found or timeout <= 0:
            return found
        with self._notifier.listen(keys) as listener:
            while True:
                found = self._find(wanted)
                left = deadline - time.monotonic()
                if found or left <= 0:
                    return found
                listener.wait(left)

    def delete(self, keys: Sequence[str], *, expect: int | None = None) -> int:
        """Remove records."""
        if not keys:
            return 0
        with self._engine.calls():
            return expire(self._engine, keys, expect)

    def scan(self, prefix: str, *, limit: int = 100, cursor: str | None = None) -> Page[Record]:
        """Return live records in the order of their keys; the cursor is the last key of the page."""
        bounds: Doc = {"$gt": cursor} if cursor is not None else {"$gte": prefix}
        end = prefix_end(prefix)
        if end is not None:
            bounds["$lt"] = end
        with self._engine.calls():
            now = self._engine.time.earliest()
            wanted = {"_id": bounds, **IS_LIVE}
            docs = list(self._engine.records.find(wanted, sort=[("_id", 1)], limit=limit + 1))
        items = tuple(read_record(doc, now) for doc in docs[:limit])
        return Page(items=items, cursor=items[-1].key if items and len(docs) > limit else None)

    def join(self, group: str, member: int, size: int, *, ttl: float = 604_800.0) -> tuple[bool, int]:
        """Count *member* into *group*."""
        with self._engine.calls():
            return groups.join(self._engine, group, member, size=size, ttl=ttl)

    def now(self) -> float | None:
        """Return the server's time, in UTC epoch seconds."""
        with self._engine.calls():
            return self._engine.time.earliest()

    def join_many(self, joins: Sequence[Join]) -> list[int]:
        """Count members into their groups, with one write and one read for all."""
        if not joins:
            return []
        with self._engine.calls():
            return groups.join_many(self._engine, joins)

    def check(self) -> list[str]:
        """Return the problems of the deployment that an operator should know."""
        with self._engine.calls():
            return checks.check(self._engine)

    def close(self) -> None:
        """Close all connections."""
        self._notifier.close()
        self._engine.close()

    def _find(self, wanted: Doc) -> dict[str, Record]:
        with self._engine.calls():
            now = self._engine.time.earliest()
            found = self._engine.records.find({**wanted, **IS_LIVE}, batch_size=_MOST_AT_ONCE)
            return {doc["_id"]: read_record(doc, now) for doc in found}
