"""Expiring records and groups, each step as a few statements in the transaction of a cursor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from queuekit.backend import Condition, Record

from queuekit_postgres.database import Cursor, clean
from queuekit_postgres.schema import NOW

__all__ = ["delete", "expire", "get", "join", "put", "scan"]

_EXPIRED = 200
"""Most rows that one write forgets."""
_CONDITIONS = {
    Condition.ALWAYS: "true",
    Condition.ABSENT: "false",
    Condition.NEWER: "live.rank < %(rank)s",
}
_SET = f"""
    body = %(body)s, ends = {NOW} + %(ttl)s, rank = %(rank)s, final = %(final)s, version = nextval('record_version'),
    task = %(task)s, state = %(state)s, error = %(error)s, at = %(at)s
"""


def expire(cursor: Cursor) -> None:
    """Forget what has expired."""
    for table, key in (("record", "key"), ("gathering", "name")):
        cursor.execute(
            f"""
            DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table}
                WHERE ends <= {NOW} LIMIT {_EXPIRED} FOR UPDATE SKIP LOCKED)
            """
        )


def put(cursor: Cursor, record: Record, condition: Condition, expect: int | None = None) -> bool:
    """Write *record* if *condition* and *expect* allow it, and tell whether they did."""
    values = _values(record) | {"expect": expect}
    allowed = _CONDITIONS[condition] + (" AND live.version = %(expect)s" if expect is not None else "")
    if expect:
        statement = f"UPDATE record AS live SET {_SET} WHERE key = %(key)s AND live.ends > {NOW} AND {allowed}"
    else:
        statement = f"""
            INSERT INTO record AS live (key, body, ends, rank, final, version, task, state, error, at)
            VALUES (%(key)s, %(body)s, {NOW} + %(ttl)s, %(rank)s, %(final)s, nextval('record_version'),
                    %(task)s, %(state)s, %(error)s, %(at)s)
            ON CONFLICT (key) DO UPDATE SET {_SET} WHERE live.ends <= {NOW} OR ({allowed})
        """
    cursor.execute(statement, values)
    return cursor.rowcount == 1


def _values(record: Record) -> dict[str, Any]:
    return {
        "key": record.key,
        "body": record.body,
        "ttl": math.inf if record.ttl is None else record.ttl,
        "rank": record.rank,
        "final": record.final,
        "task": clean(record.task),
        "state": clean(record.state),
        "error": clean(record.error),
        "at": record.at,
    }


def get(cursor: Cursor, keys: Sequence[str], *, final: bool = False) -> dict[str, Record]:
    """Return the live records among *keys*; only final ones, if *final*."""
    cursor.execute(
        f"SELECT *, ends - {NOW} AS ttl FROM record WHERE key = ANY(%s) AND ends > {NOW} AND (final OR NOT %s)",
        (list(keys), final),
    )
    return {row["key"]: _record_of(row) for row in cursor.fetchall()}


def scan(cursor: Cursor, prefix: str, *, limit: int, after: str) -> list[Record]:
    """Return live records behind the key *after*, in the order of their keys."""
    cursor.execute(
        f"""
        SELECT *, ends - {NOW} AS ttl FROM record
        WHERE key >= %s AND starts_with(key, %s) AND key > %s AND ends > {NOW} ORDER BY key LIMIT %s
        """,
        (prefix, prefix, after, limit),
    )
    return [_record_of(row) for row in cursor.fetchall()]


def delete(cursor: Cursor, keys: Sequence[str], expect: int | None) -> int:
    """Remove live records and return how many there were; with *expect* only those of that version."""
    cursor.execute(
        f"""
        DELETE FROM record
        WHERE key = ANY(%s) AND ends > {NOW} AND (%s::bigint IS NULL OR version = %s::bigint)
        """,
        (list(keys), expect, expect),
    )
    return cursor.rowcount


def join(cursor: Cursor, group: str, member: int, ttl: float) -> tuple[bool, int]:
    """Count *member* into *group*, whose row is locked until the transaction ends."""
    cursor.execute("INSERT INTO gathering VALUES (%s, 'infinity') ON CONFLICT DO NOTHING", (group,))
    cursor.execute(f"SELECT ends <= {NOW} AS over FROM gathering WHERE name = %s FOR UPDATE", (group,))
    row = cursor.fetchone()
    if row is None:  # forgotten between the two statements
        return join(cursor, group, member, ttl)
    if row["over"]:
        cursor.execute("DELETE FROM member WHERE name = %s", (group,))
    cursor.execute("INSERT INTO member VALUES (%s, %s) ON CONFLICT DO NOTHING", (group, member))
    first_time = cursor.rowcount == 1
    cursor.execute(f"UPDATE gathering SET ends = {NOW} + %s WHERE name = %s", (ttl, group))
    cursor.execute("SELECT count(*) AS count FROM member WHERE name = %s", (group,))
    counted = cursor.fetchone()
    return first_time, int(counted["count"]) if counted else 0


def _record_of(row: Mapping[str, Any]) -> Record:
    return Record(
        key=row["key"],
        body=bytes(row["body"]),
        ttl=None if math.isinf(row["ttl"]) else row["ttl"],
        rank=row["rank"],
        final=row["final"],
        version=row["version"],
        task=row["task"],
        state=row["state"],
        error=row["error"],
        at=row["at"],
    )
