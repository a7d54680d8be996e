"""Backends that are wrong on purpose, each in one way that a real store has been wrong in."""

# The docstring of a class says what each of its methods does wrong.
# ruff: noqa: D102
# pyright: reportPrivateUsage=false

from __future__ import annotations

import fnmatch
import threading
import time
import unicodedata
from collections.abc import Sequence
from typing import Any

import attrs

from queuekit.backend import Condition, Join, Page, Record
from queuekit.engines.memory import MemoryBackend


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


# -- lives ---------------------------------------------------------------------------------------------------------


class VersionInTheRecord(MemoryBackend):
    """Keeps the version in the record, so that it begins anew when that has ended."""

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        store = self._engine.records
        answers = []
        for record in records:
            live = self.get([record.key]).get(record.key)
            version = live.version if live else 0
            answers += super().put([record], condition=condition, expect=expect)
            if answers[-1]:
                kept = store._records[record.key]
                numbered = attrs.evolve(kept.record, version=version + 1)
                store._records[record.key] = attrs.evolve(kept, record=numbered)
        return answers


class LifeAsWritten(MemoryBackend):
    """Tells the whole life of a record, and not what is left."""

    def get(self, keys: Sequence[str]) -> dict[str, Record]:
        found = super().get(keys)
        kept = self._engine.records._records
        return {key: attrs.evolve(each, ttl=kept[key].record.ttl) for key, each in found.items()}


class RefusalProlongs(MemoryBackend):
    """Touches what it does not write."""

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        answers = super().put(records, condition=condition, expect=expect)
        for record, written in zip(records, answers, strict=True):
            if not written and (live := self.get([record.key]).get(record.key)) is not None:
                super().put([attrs.evolve(live, ttl=record.ttl)])
        return answers


class MonthsAreMoments(MemoryBackend):
    """Takes a life of more than 30 days for a date, long past; as memcached does."""

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        ended = [attrs.evolve(each, ttl=-1.0) if (each.ttl or 0.0) > 2_592_000 else each for each in records]
        return super().put(ended, condition=condition, expect=expect)


class ClockSinceStart(MemoryBackend):
    """Tells how long the machine has been running."""

    def now(self) -> float | None:
        return time.monotonic()


# -- names ---------------------------------------------------------------------------------------------------------


class Folding(MemoryBackend):
    """Compares keys as a column of text may: without case, or without spaces at the end."""

    @staticmethod
    def fold(key: str) -> str:
        """Return what the store takes *key* for."""
        return key.lower()

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        folded = [attrs.evolve(each, key=self.fold(each.key)) for each in records]
        return super().put(folded, condition=condition, expect=expect)

    def get(self, keys: Sequence[str]) -> dict[str, Record]:
        found = super().get([self.fold(key) for key in keys])
        return {key: found[self.fold(key)] for key in keys if self.fold(key) in found}

    def delete(self, keys: Sequence[str], *, expect: int | None = None) -> int:
        return super().delete([self.fold(key) for key in keys], expect=expect)


class Padding(Folding):
    """Ignores spaces at the end."""

    @staticmethod
    def fold(key: str) -> str:
        return key.rstrip(" ")


class Composing(Folding):
    """Composes letters and their accents."""

    @staticmethod
    def fold(key: str) -> str:
        return unicodedata.normalize("NFC", key)


class CutNames(Folding):
    """Cuts keys after 200 characters."""

    @staticmethod
    def fold(key: str) -> str:
        return key[:200]


class ShortNames(Folding):
    """Cuts keys after 255 bytes."""

    @staticmethod
    def fold(key: str) -> str:
        return key.encode()[:255].decode(errors="ignore")


class GroupsAreRecords(MemoryBackend):
    """Keeps the members of a group as the record of its name."""

    def join(self, group: str, member: int, size: int, *, ttl: float = 604_800.0) -> tuple[bool, int]:
        live = self.get([group]).get(group)
        members = set(live.body.split()) if live else set()
        name = b"%d" % member
        super().put([Record(key=group, body=b" ".join({*members, name}), ttl=ttl)])
        return name not in members, len({*members, name})

    def join_many(self, joins: Sequence[Join]) -> list[int]:
        return [self.join(one.group, one.member, one.size, ttl=one.ttl)[1] for one in joins]


# -- many ----------------------------------------------------------------------------------------------------------


class AHundredAtMost(MemoryBackend):
    """Asks its service for all keys at once, which answers for a hundred."""

    def get(self, keys: Sequence[str]) -> dict[str, Record]:
        return super().get(keys[:100])


class OneAtATime(MemoryBackend):
    """Lets one call through at a time, as over one connection, also while it waits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._alone = threading.Lock()

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        with self._alone:
            return super().put(records, condition=condition, expect=expect)

    def wait(self, keys: Sequence[str], *, timeout: float) -> dict[str, Record]:
        with self._alone:
            return super().wait(keys, timeout=timeout)


class SameForAll(MemoryBackend):
    """Compares all records of a batch with the version of the first."""

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        if condition is Condition.SAME:
            return super().put(records, expect=records[0].version)
        return super().put(records, condition=condition, expect=expect)


class SameIsAlways(MemoryBackend):
    """Compares nothing."""

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        loose = Condition.ALWAYS if condition is Condition.SAME else condition
        return super().put(records, condition=loose, expect=expect)


class SameOrNothing(MemoryBackend):
    """Writes a batch where each record is the same, and else none of it."""

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        if condition is Condition.SAME:
            found = self.get([record.key for record in records])
            if any(record.version != (found[record.key].version if record.key in found else 0) for record in records):
                return [False] * len(records)
        return super().put(records, condition=condition, expect=expect)


class SameByTheStart(MemoryBackend):
    """Compares all records with what was there before the batch."""

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        if condition is not Condition.SAME:
            return super().put(records, condition=condition, expect=expect)
        found = self.get([record.key for record in records])
        same = [one.version == (found[one.key].version if one.key in found else 0) for one in records]
        super().put([record for record, yes in zip(records, same, strict=True) if yes])
        return same


class SameSplit(SameByTheStart):
    """Looks first and writes then, in two steps."""

    def get(self, keys: Sequence[str]) -> dict[str, Record]:
        found = super().get(keys)
        time.sleep(0.01)
        return found


class SameAsTheDead(MemoryBackend):
    """Takes a record that has expired for one that is there."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._last: dict[str, int] = {}

    def get(self, keys: Sequence[str]) -> dict[str, Record]:
        found = super().get(keys)
        self._last.update({key: record.version for key, record in found.items()})
        return found

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        if condition is not Condition.SAME:
            return super().put(records, condition=condition, expect=expect)
        there = super().get([record.key for record in records])
        dead = [one for one in records if one.key not in there and self._last.get(one.key) == one.version]
        super().put(dead)
        return [one in dead or super(SameAsTheDead, self).put([one], condition=condition)[0] for one in records]
