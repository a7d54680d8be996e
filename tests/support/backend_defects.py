"""Backends that are wrong on purpose, each in one way that a real store has been wrong in."""

# The docstring of a class says what each of its methods does wrong.
# ruff: noqa: D102
# pyright: reportPrivateUsage=false

from __future__ import annotations

import fnmatch
import time
from collections.abc import Sequence

import attrs

from queuekit.backend import Condition, Join, Page, Record
from queuekit.memory import MemoryBackend


class RankIgnored(MemoryBackend):
    """Takes NEWER for ALWAYS."""

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        loose = Condition.ALWAYS if condition is Condition.NEWER else condition
        return super().put(records, condition=loose, expect=expect)


class RanksAsFloats32(MemoryBackend):
    """Loses the last bits of a rank."""

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        rough = [attrs.evolve(record, rank=record.rank >> 24 << 24) for record in records]
        return super().put(rough, condition=condition, expect=expect)


class ExpectIgnored(MemoryBackend):
    """Writes whatever the version."""

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        return super().put(records, condition=condition)


class SplitPut(MemoryBackend):
    """Looks first and writes then, in two steps."""

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        if condition is not Condition.ABSENT:
            return super().put(records, condition=condition, expect=expect)
        there = self.get([record.key for record in records])
        time.sleep(0.01)
        super().put([record for record in records if record.key not in there])
        return [record.key not in there for record in records]


class NoEnd(MemoryBackend):
    """Keeps everything for ever."""

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        lasting = [attrs.evolve(record, ttl=1e6) for record in records]
        return super().put(lasting, condition=condition, expect=expect)


class ForgetsErrors(MemoryBackend):
    """Drops a field."""

    def get(self, keys: Sequence[str]) -> dict[str, Record]:
        return {key: attrs.evolve(record, error=None) for key, record in super().get(keys).items()}


class WaitsForAnything(MemoryBackend):
    """Ends a wait with a record that is not final."""

    def wait(self, keys: Sequence[str], *, timeout: float) -> dict[str, Record]:
        deadline = time.monotonic() + timeout
        while not (found := self.get(keys)) and time.monotonic() < deadline:
            time.sleep(0.001)
        return found


class SleepsThroughPut(MemoryBackend):
    """Looks again only when the time is over."""

    def wait(self, keys: Sequence[str], *, timeout: float) -> dict[str, Record]:
        found = super().wait(keys, timeout=0)
        if not found:
            time.sleep(timeout)
        return found or super().wait(keys, timeout=0)


class Wildcards(MemoryBackend):
    """Takes a prefix for a pattern."""

    def scan(self, prefix: str, *, limit: int = 100, cursor: str | None = None) -> Page[Record]:
        page = super().scan("", limit=10_000)
        return Page(items=tuple(each for each in page.items if fnmatch.fnmatchcase(each.key, f"{prefix}*")))


class OffsetScan(MemoryBackend):
    """Pages by counting, so that a deletion makes it skip."""

    def scan(self, prefix: str, *, limit: int = 100, cursor: str | None = None) -> Page[Record]:
        start = int(cursor or 0)
        items = super().scan(prefix, limit=10_000).items
        more = start + limit < len(items)
        return Page(items=items[start : start + limit], cursor=str(start + limit) if more else None)


class CountsTwice(MemoryBackend):
    """Counts arrivals, not members."""

    def join(self, group: str, member: int, size: int, *, ttl: float = 604_800.0) -> tuple[bool, int]:
        self._arrivals = getattr(self, "_arrivals", 0) + 1
        return super().join(group, self._arrivals, size, ttl=ttl)


class SplitJoin(MemoryBackend):
    """Counts first and joins then, in two steps."""

    def join(self, group: str, member: int, size: int, *, ttl: float = 604_800.0) -> tuple[bool, int]:
        kept = self._engine.records._groups.get(group)
        before = len(kept.members) if kept else 0
        time.sleep(0.01)
        first_time, _ = super().join(group, member, size, ttl=ttl)
        return first_time, before + first_time


class BatchOfOne(MemoryBackend):
    """Counts the first of each group in a batch, and forgets the others."""

    def join_many(self, joins: Sequence[Join]) -> list[int]:
        counts = dict(zip([one.group for one in joins], super().join_many(joins[:1]), strict=False))
        return [counts.get(one.group, 1) for one in joins]


class CountsBeforeTheBatch(MemoryBackend):
    """Tells how many there were, so that nobody sees a group complete."""

    def join_many(self, joins: Sequence[Join]) -> list[int]:
        groups = self._engine.records._groups
        before = [len(groups[one.group].members) if one.group in groups else 0 for one in joins]
        super().join_many(joins)
        return before
