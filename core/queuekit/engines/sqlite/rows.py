"""Converts envelopes to rows and rows to envelopes, many with one statement.

Python's ``sqlite3`` releases the interpreter lock for every row that it fetches or inserts with ``executemany``, and
then waits for it while other threads compute. Thousands of times a second, that would be the slowest part of a worker.
So rows are written by statements with many VALUES, and read as one JSON array and one string of all bodies.
"""

# ruff: noqa: S608 - statements are built from constants of this package, never from a caller's text
from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

from queuekit.engines.sqlite.layout import DELAYED, READY
from queuekit.engines.sqlite.statements import Row, Statements
from queuekit.envelope import Envelope, Lane, Unique
from queuekit.values import quickly

__all__ = [
    "LARGEST_BATCH",
    "LARGE_BODY",
    "PACKED",
    "PACKED_BODIES",
    "PACKED_ROWS",
    "MessageRow",
    "batches",
    "due_of",
    "exact",
    "insert",
    "keep",
    "plain_text",
    "row_of",
    "unpack",
    "values",
]

LARGEST_BATCH = 128
"""Most rows in one statement; a power of two."""
LARGE_BODY = 65_536
"""Bytes above which a body is in a table of its own, and the row that changes has its number: see ``layout``."""
SENT_AT_DIGITS = 5
"""Decimals of ``sent_at`` that survive in SQLite's JSON, which prints 15 digits."""

COLUMNS = (
    "id, queue, state, priority, due, body, generation, attempt, hop, sent_at, not_before, expires, "
    "unique_key, unique_until, unique_ttl"
)
_WIDTH = COLUMNS.count(",") + 1
_BODY = COLUMNS.split(", ").index("body")
_DROP_UNUSED = """
DELETE FROM bodies WHERE number = ? AND NOT EXISTS (SELECT 1 FROM messages WHERE id = ? AND queue = ? AND body = ?)"""
# A later step of an id replaces an earlier one, whatever its state; the same step adds nothing as long as the id is
# remembered (QK13).
_ON_KNOWN_ID = (
    " ON CONFLICT(id, queue) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS.split(", ")[2:])
    + ", lane = NULL, weight = NULL, tag = 0, number = 0, crashes = 0, token = NULL,"
    " lease_until = NULL, reason = NULL, error = NULL, holder = NULL,"
    " died_at = NULL WHERE (excluded.generation, excluded.attempt, excluded.hop) > (generation, attempt, hop)"
    " OR (messages.state = 4 AND messages.due <= excluded.sent_at)"
)

_LENGTH = "CASE typeof(body) WHEN 'integer' THEN -body ELSE length(body) END"
PACKED_ROWS = (
    "json_group_array(CASE WHEN generation + attempt + hop = 0 AND expires IS NULL AND not_before IS NULL"
    " AND unique_key IS NULL AND lane IS NULL"
    f" THEN json_array(seq, id, priority, due, {_LENGTH}, sent_at, number, crashes)"
    f" ELSE json_array(seq, id, priority, due, {_LENGTH}, sent_at, number, crashes, generation, attempt, hop,"
    " not_before, expires, unique_key, unique_until, unique_ttl, lane, weight, tag) END)"
)
PACKED_BODIES = "CAST(group_concat(CASE typeof(body) WHEN 'integer' THEN x'' ELSE body END, '') AS BLOB)"
PACKED = f"{PACKED_ROWS}, {PACKED_BODIES}"
"""Columns to select for :func:`unpack`."""


class MessageRow(NamedTuple):
    """The parts of a row of ``messages`` that a delivery needs."""

    seq: int
    due: float
    envelope: Envelope
    sent_at: float
    number: int
    crashes: int
    tag: int = 0


def due_of(envelope: Envelope, now: float) -> float:
    """Return when *envelope* is due: the later of its delay and its ``not_before``."""
    due = now + envelope.delay if envelope.delay > 0 else now
    not_before = envelope.not_before
    return due if not_before is None or not_before <= due else not_before


def exact(value: float | None) -> str | None:
    """Return *value* as text that ``float`` reads exactly; SQLite's JSON keeps only 15 digits."""
    return None if value is None else repr(value)


def row_of(envelope: Envelope, now: float) -> Row:
    """Return the values of :data:`COLUMNS`."""
    due = due_of(envelope, now)
    unique = envelope.unique
    return (
        envelope.id,
        envelope.queue,
        DELAYED if due > now else READY,
        envelope.priority,
        due,
        envelope.body,
        envelope.generation,
        envelope.attempt,
        envelope.hop,
        round(now, SENT_AT_DIGITS),
        exact(envelope.not_before),
        exact(envelope.expires),
        *((None, None, None) if unique is None else (unique.key, unique.until, exact(unique.ttl))),
    )


def batches(rows: Sequence[Row]) -> Iterator[tuple[int, list[Any]]]:
    """Split *rows* into a few statements: for each, yield the number of rows for :func:`values`, and the values.

    Sizes are powers of two, so that few statements are compiled; at most a quarter of the last may be NULL rows.
    """
    start = 0
    while (left := len(rows) - start) > 0:
        size = min(LARGEST_BATCH, 1 << (left - 1).bit_length())
        if size - left > size // 4:
            size //= 2
        part = rows[start : start + size]
        yield size, [*chain.from_iterable(part), *(None,) * (len(rows[0]) * (size - len(part)))]
        start += size


@lru_cache(maxsize=64)
def values(count: int, width: int) -> str:
    """Return ``(VALUES (?, ...), ...)`` with *count* rows of *width* columns, named column1, column2 ..."""
    row = "(" + ", ".join("?" * width) + ")"
    return f"(VALUES {', '.join([row] * count)})"


@lru_cache(maxsize=16)
def _insert_sql(count: int) -> str:
    return (
        f"INSERT INTO messages({COLUMNS}) SELECT * FROM {values(count, _WIDTH)} WHERE column1 IS NOT NULL{_ON_KNOWN_ID}"
    )


_INSERT_ONE = f"INSERT INTO messages({COLUMNS}) VALUES ({', '.join('?' * _WIDTH)}){_ON_KNOWN_ID}"


def insert(on: Statements, rows: Sequence[Row]) -> None:
    """Insert *rows*, made by :func:`row_of`; rows that exist already add nothing.

    Where a body is large, *on* is a transaction.
    """
    apart = [place for place, row in enumerate(rows) if len(row[_BODY]) > LARGE_BODY]
    if apart:
        rows = list(rows)
        for place in apart:
            rows[place] = (*rows[place][:_BODY], keep(on, rows[place][_BODY]), *rows[place][_BODY + 1 :])
    if len(rows) == 1:
        on.write(_INSERT_ONE, rows[0])
    else:
        for size, parameters in batches(rows):
            on.write(_insert_sql(size), parameters)
    for place in apart:
        id, queue, number = rows[place][0], rows[place][1], rows[place][_BODY]
        on.write(_DROP_UNUSED, (number, id, queue, number))


def keep(on: Statements, body: bytes) -> int:
    """Store a large body, in a transaction, and return its number, for the row of its message."""
    on.write("INSERT INTO bodies(body) VALUES (?)", (body,))
    number: int = on.read("SELECT last_insert_rowid()")[0][0]
    return number


_envelope = quickly(Envelope)


def unpack(
    packed: str | bytes, bodies: bytes | None, queue: str, large: Callable[[int], bytes]
) -> Iterable[MessageRow]:
    """Yield the messages of a row selected as :data:`PACKED`; *large* fetches a large body by its number.

    Raises:
        TypeError, ValueError: One of the rows is foreign, i.e. :func:`row_of` did not write it.
    """
    start, rest = 0, bodies or b""
    for row in json.loads(packed):
        seq, id, priority, due, length, sent_at, number, crashes = row[:8]
        if not (type(id) is str and type(priority) is type(crashes) is int and type(due) is type(sent_at) is float):
            raise TypeError("a foreign row")
        if length < 0:
            body = large(-length)
        else:
            body = rest[start : start + length]
            start += length
        if len(row) == 8:  # noqa: PLR2004 - columns of the short form
            envelope, tag = _envelope(id=id, queue=queue, body=body, priority=priority), 0
        else:
            envelope, tag = _full_envelope(row, queue, body), row[-1]
        yield MessageRow(seq, due, envelope, sent_at, number, crashes, tag)
    if start != len(rest):
        raise ValueError("a body that is text: its length is not in bytes")


def _full_envelope(row: list[Any], queue: str, body: bytes) -> Envelope:
    generation, attempt, hop, not_before, expires, key, until, ttl, lane, weight, tag = row[8:]
    if not type(generation) is type(attempt) is type(hop) is type(tag) is int:
        raise TypeError("a foreign row")
    return Envelope(
        id=row[1],
        queue=queue,
        body=body,
        priority=row[2],
        not_before=None if not_before is None else float(not_before),
        expires=None if expires is None else float(expires),
        attempt=attempt,
        generation=generation,
        hop=hop,
        unique=None if key is None else Unique(key=key, until=until, ttl=float(ttl)),
        lane=None if lane is None else Lane(lane, float(weight)),
    )


def plain_text(text: str | None) -> str | None:
    """Return *text* with lone surrogates, e.g. from a file name that is not UTF-8, replaced by ``?`` for SQLite."""
    return text if text is None or text.isascii() else text.encode("utf-8", "replace").decode()
