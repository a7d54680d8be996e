"""Reads and writes expiring records and groups."""

# ruff: noqa: S608 - statements are built from constants of this package, never from a caller's text
from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache

from queuekit.backend import Condition, Record
from queuekit.engines.sqlite.file_clock import next_version
from queuekit.engines.sqlite.rows import batches, plain_text, values
from queuekit.engines.sqlite.statements import Row, Statements

__all__ = ["LIVE", "READ", "join", "prefix_end", "put_each", "read_record", "write"]

COLUMNS = "key, body, expires_at, rank, final, version, task, state, error, at"
_WIDTH = COLUMNS.count(",") + 1

LIVE = "(expires_at IS NULL OR expires_at > ?)"
READ = f"SELECT {COLUMNS} FROM records"

_CONDITIONS = {
    Condition.ALWAYS: "",
    Condition.ABSENT: " WHERE records.expires_at <= ?",
    Condition.NEWER: " WHERE excluded.rank > records.rank OR records.expires_at <= ?",
}
_PRESENT = f"""
SELECT json_group_array(json_array(key, rank, version)) FROM records
WHERE key IN (SELECT value FROM json_each(?)) AND {LIVE}"""

_GROUP = "SELECT count, expires_at FROM groups WHERE name = ?"
_FORGET_MEMBERS = "DELETE FROM members WHERE grp = ?"
_ADD_MEMBERS = "INSERT OR IGNORE INTO members(grp, member) SELECT ?, value FROM json_each(?)"
_SET_GROUP = """
INSERT INTO groups(name, count, expires_at) VALUES (?, ?, ?)
ON CONFLICT(name) DO UPDATE SET count = excluded.count, expires_at = excluded.expires_at"""


@lru_cache(maxsize=16)
def _write_sql(count: int, condition: Condition) -> str:
    """Return the statement that writes *count* records; for one record, without the condition that skips NULL rows."""
    source = f"SELECT * FROM {values(count, _WIDTH)} WHERE column1 IS NOT NULL"
    if count == 1:
        source = f"VALUES ({', '.join('?' * _WIDTH)})"
    names = COLUMNS.split(", ")
    sets = ", ".join(f"{name} = excluded.{name}" for name in names if name not in {"key", "version"})
    return (
        f"INSERT INTO records({COLUMNS}) {source} ON CONFLICT(key) DO UPDATE SET {sets}, "
        # The version must grow even if this process's versions are behind another's.
        f"version = max(version + 1, excluded.version){_CONDITIONS[condition]}"
    )


def write(on: Statements, records: Sequence[Record], *, condition: Condition, now: float) -> int:
    """Write *records* in order, each under *condition*, and return how many were written."""
    if not records:
        return 0
    first = next_version(now, len(records))
    if len(records) == 1:
        row = _row_of(records[0], now, first)
        return on.write(_write_sql(1, condition), row if condition is Condition.ALWAYS else (*row, now))
    rows = [_row_of(record, now, version) for version, record in enumerate(records, start=first)]
    written = 0
    for size, parameters in batches(rows):
        if condition is not Condition.ALWAYS:
            parameters.append(now)
        written += on.write(_write_sql(size, condition), parameters)
    return written


def put_each(
    on: Statements, records: Sequence[Record], *, condition: Condition, expect: int | None, now: float
) -> list[bool]:
    """Write what *condition* and *expect* allow, within a transaction, and return which of *records* were written."""
    keys = json.dumps([record.key for record in records])
    ((found,),) = on.read(_PRESENT, (keys, now))
    present = {key: (rank, version) for key, rank, version in json.loads(found)}
    allowed: list[bool] = []
    for record in records:
        rank, version = present.get(record.key, (None, 0))
        wanted = record.version if condition is Condition.SAME else expect
        allowed.append((wanted is None or version == wanted) and _allows(condition, record.rank, rank))
        if allowed[-1]:
            present[record.key] = (record.rank, -1)  # later records of this call cannot know its version
    write(
        on,
        [record for record, yes in zip(records, allowed, strict=True) if yes],
        condition=Condition.ALWAYS,
        now=now,
    )
    return allowed


def read_record(row: Row, now: float) -> Record:
    """Return the record of a row selected by :data:`READ`."""
    key, body, expires_at, rank, final, version, task, state, error, at = row
    return Record(
        key=key,
        body=body,
        ttl=None if expires_at is None else expires_at - now,
        rank=rank,
        final=bool(final),
        version=version,
        task=task,
        state=state,
        error=error,
        at=at,
    )


def prefix_end(prefix: str) -> str | None:
    """Return the smallest text after all texts that start with *prefix*, or ``None`` if there is none."""
    for length in range(len(prefix), 0, -1):
        last = ord(prefix[length - 1])
        if last < 0x10FFFF:  # noqa: PLR2004 - the last character of Unicode
            # Skip the surrogates between D7FF and E000, which are not characters.
            return prefix[: length - 1] + chr(0xE000 if last == 0xD7FF else last + 1)  # noqa: PLR2004
    return None


def join(on: Statements, group: str, members: Iterable[int], *, ttl: float, now: float) -> tuple[int, int]:
    """Count *members* into *group*, within a transaction; return the number of new members, and of all members."""
    count = 0
    for before, expires_at in on.read(_GROUP, (group,)):
        if expires_at > now:
            count = before
        else:
            on.write(_FORGET_MEMBERS, (group,))
    new = on.write(_ADD_MEMBERS, (group, json.dumps(list(members))))
    on.write(_SET_GROUP, (group, count + new, now + ttl))
    return new, count + new


def _row_of(record: Record, now: float, version: int) -> Row:
    return (
        record.key,
        record.body,
        None if record.ttl is None else now + record.ttl,
        record.rank,
        int(record.final),
        version,
        plain_text(record.task),
        plain_text(record.state),
        plain_text(record.error),
        record.at,
    )


def _allows(condition: Condition, rank: int, present: int | None) -> bool:
    """Return whether a record with *rank* may replace the live record, if any, whose rank is *present*."""
    if present is None or condition in (Condition.ALWAYS, Condition.SAME):
        return True
    return condition is Condition.NEWER and rank > present
