"""Expiring records and groups, as plain steps on plain data."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable

import attrs

from queuekit.backend import Condition, Page, Record
from queuekit.engines.memory.priority_queue import PriorityQueue
from queuekit.values import define, frozen, quickly

__all__ = ["RecordStore"]

MAX_EXPIRED = 1_000
"""Most expired records and groups that one write deletes."""
_FOREVER = float("inf")


@frozen
class _Kept:
    record: Record
    ends: float


@define
class _Group:
    name: str
    members: set[int] = attrs.field(factory=set)
    ends: float = _FOREVER


class RecordStore:
    """All records and groups of an engine. All methods run under its lock and take the time as an argument."""

    def __init__(self) -> None:
        self._records: dict[str, _Kept] = {}
        self._by_end: PriorityQueue[str] = PriorityQueue()
        self._groups: dict[str, _Group] = {}
        self._groups_by_end: PriorityQueue[_Group] = PriorityQueue()
        # One counter for all keys, so that a key that was deleted never gets a version that it had before.
        self._next_version = itertools.count(1).__next__

    def put(self, record: Record, condition: Condition, expect: int | None, now: float) -> bool:
        """Write *record* if *condition* and *expect* allow it, and return whether it was written."""
        self._expire(now)
        live = self.get(record.key, now)
        if condition is Condition.SAME:
            expect = record.version
        if expect is not None and expect != (live.version if live else 0):
            return False
        if live is not None and not _replaces(record, live, condition):
            return False
        if record.ttl is None:
            ends = _FOREVER
            self._by_end.discard(record.key)
        else:
            ends = now + record.ttl
            self._by_end.add(record.key, (ends,), record.key)
        self._records[record.key] = _Kept(_copy(record, ttl=record.ttl, version=self._next_version()), ends)
        return True

    def get(self, key: str, now: float) -> Record | None:
        """Return the live record of *key*, with its remaining ``ttl``."""
        kept = self._records.get(key)
        if kept is None or kept.ends <= now:
            return None
        return (
            kept.record
            if kept.ends == _FOREVER
            else _copy(kept.record, ttl=kept.ends - now, version=kept.record.version)
        )

    def delete(self, key: str, expect: int | None, now: float) -> bool:
        """Delete the live record of *key*; with *expect*, only that version."""
        live = self.get(key, now)
        if live is None or expect not in (None, live.version):
            return False
        self._forget(key)
        return True

    def scan(self, prefix: str, *, limit: int, cursor: str | None, now: float) -> Page[Record]:
        """Return live records in the order of their keys; the cursor is the last key of the page."""
        keys = (key for key in self._records if key.startswith(prefix) and (cursor is None or key > cursor))
        live = (record for key in keys if (record := self.get(key, now)) is not None)
        found = heapq.nsmallest(limit + 1, live, key=lambda record: record.key)
        items = tuple(found[:limit])
        return Page(items=items, cursor=items[-1].key if items and len(found) > limit else None)

    def join(self, name: str, member: int, ttl: float, now: float) -> tuple[bool, int]:
        """Count *member* into a group; return whether it is new, and the number of members."""
        self._expire(now)
        group = self._groups.get(name)
        if group is None or group.ends <= now:
            group = self._groups[name] = _Group(name)
        first_time = member not in group.members
        group.members.add(member)
        group.ends = now + ttl
        self._groups_by_end.add(name, (group.ends,), group)
        return first_time, len(group.members)

    def final(self, keys: Iterable[str], now: float) -> dict[str, Record]:
        """Return the final records among *keys*."""
        found = ((key, self.get(key, now)) for key in keys)
        return {key: record for key, record in found if record is not None and record.final}

    def __len__(self) -> int:
        return len(self._records) + len(self._groups)

    def _expire(self, now: float) -> None:
        for _ in range(MAX_EXPIRED):
            key = self._by_end.first()
            if key is None or self._records[key].ends > now:
                break
            self._forget(key)
        for _ in range(MAX_EXPIRED):
            group = self._groups_by_end.first()
            if group is None or group.ends > now:
                break
            del self._groups[group.name]
            self._groups_by_end.discard(group.name)

    def _forget(self, key: str) -> None:
        del self._records[key]
        self._by_end.discard(key)


def _copy(record: Record, *, ttl: float | None, version: int) -> Record:
    """Return *record* with another time and version; ``attrs.evolve`` takes five times as long."""
    return _record(
        key=record.key,
        body=record.body,
        ttl=ttl,
        rank=record.rank,
        final=record.final,
        version=version,
        task=record.task,
        state=record.state,
        error=record.error,
        at=record.at,
    )


_record = quickly(Record)


def _replaces(record: Record, live: Record, condition: Condition) -> bool:
    """Return whether *record* may replace *live*."""
    if condition is Condition.NEWER:
        return record.rank > live.rank
    return condition is not Condition.ABSENT
