"""Finds foreign rows, which queuekit did not write, and sets them aside so that the rest of a claim goes on.

A batch is read in one go (see ``rows``), which fails as a whole if one of its rows holds text where a number belongs,
or bytes where text does. Then, and only then, it is read again from here.
"""

# ruff: noqa: S608 - statements are put together from constants of this module, never from a caller's text
from __future__ import annotations

from typing import Any

from queuekit.engines.sqlite.database import Database
from queuekit.engines.sqlite.rows import Message
from queuekit.engines.sqlite.statements import Row
from queuekit.envelope import Envelope, Unique

__all__ = ["valid_rows"]

_NUMBERS = ("priority", "number", "crashes", "generation", "attempt", "hop", "due", "sent_at")
_TEXTS = ("id", "not_before", "expires", "unique_key", "unique_until", "unique_ttl")
_SEQS = """
SELECT seq FROM messages INDEXED BY messages_leased
WHERE state = 2 AND lease_until = ? AND queue = ? AND token = ?"""
# Text as bytes, since invalid UTF-8 would make the whole statement fail; and nothing at all for a wrong type.
_ONE = "SELECT {} FROM messages WHERE seq = ?".format(
    ", ".join(
        [
            "CASE WHEN typeof(body) = 'blob' THEN body END",
            *(f"CASE WHEN typeof({name}) IN ('integer', 'real') THEN {name} END" for name in _NUMBERS),
            *(
                f"CASE WHEN {name} IS NULL THEN 0 WHEN typeof({name}) = 'text' THEN CAST({name} AS BLOB) END"
                for name in _TEXTS
            ),
        ]
    )
)
_SET_ASIDE = """
UPDATE messages SET state = 3, reason = 'malformed', error = ?, died_at = ?, token = NULL, lease_until = NULL,
    id = CASE WHEN ? THEN id ELSE 'row-' || seq || '-' || token END, body = CAST(body AS BLOB), priority = 4, due = ?,
    sent_at = ?, generation = 0, attempt = 0, hop = 0, number = 1, crashes = 0, not_before = NULL, expires = NULL,
    unique_key = NULL, unique_until = NULL, unique_ttl = NULL
WHERE seq = ? AND state = 2 AND token = ?"""


def valid_rows(database: Database, queue: str, *, claim: str, until: float) -> list[Message]:
    """Return the messages of the valid rows of a claim; move the foreign rows to the dead letters.

    Args:
        database: The file.
        queue: Queue that was claimed from.
        claim: Text of the claim.
        until: When its leases end.
    """
    valid = []
    for (seq,) in database.read(_SEQS, (until, queue, claim)):
        (row,) = database.read(_ONE, (seq,))
        try:
            valid.append(_message(seq, row, queue))
        except (TypeError, ValueError) as problem:
            now = database.time.now()
            id = row[-len(_TEXTS)]
            named = _is_text(id)
            database.write(_SET_ASIDE, (str(problem), now, named, now, now, seq, claim))
            if database.on_set_aside is not None:
                database.on_set_aside(queue, id.decode() if named else f"row-{seq}", str(problem))
    return valid


def _message(seq: int, row: Row, queue: str) -> Message:
    """Return the message of *row*.

    Raises:
        TypeError: A column has a value of another type than its own.
        ValueError: Text is not Unicode, or is not a number where it should be.
    """
    body, numbers, texts = _parted(row)
    priority, number, crashes, generation, attempt, hop = (_whole(value) for value in numbers[:-2])
    due, sent_at = map(float, numbers[-2:])
    id, not_before, expires, key, until, ttl = ("" if value == 0 else value.decode() for value in texts)
    if not id or (key and until not in ("start", "done", "ttl")):
        raise ValueError("no id, or a unique key without an end")
    envelope = Envelope(
        id=id,
        queue=queue,
        body=body,
        priority=priority,
        not_before=_moment(not_before),
        expires=_moment(expires),
        attempt=attempt,
        generation=generation,
        hop=hop,
        unique=Unique(key=key, until=until, ttl=float(ttl)) if key else None,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )
    return Message(seq, due, envelope, sent_at, number, crashes)


def _parted(row: Row) -> tuple[bytes, Row, Row]:
    """Return the body, the numbers and the texts of *row*.

    Raises:
        TypeError: A column has a value of another type than its own.
    """
    body, *rest = row
    if body is None:
        raise TypeError("a value of the wrong type in body")
    missing = [name for name, value in zip((*_NUMBERS, *_TEXTS), rest, strict=True) if value is None]
    if missing:
        raise TypeError(f"a value of the wrong type in {', '.join(missing)}")
    return body, tuple(rest[: len(_NUMBERS)]), tuple(rest[len(_NUMBERS) :])


def _moment(text: str) -> float | None:
    return float(text) if text else None


def _whole(value: float) -> int:
    if value != int(value):
        raise ValueError(f"{value} where a whole number belongs")
    return int(value)


def _is_text(value: Any) -> bool:
    """Return whether the bytes of a column are valid text."""
    try:
        return isinstance(value, bytes) and bool(value.decode())
    except UnicodeDecodeError:
        return False
