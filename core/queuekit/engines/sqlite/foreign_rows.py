"""Dead-letters foreign rows, which queuekit did not write, so that the rest of a claim can proceed.

A batch is read at once (see ``rows``), which fails as a whole if one of its rows holds text instead of a number, or
bytes instead of text. Only then is it read again here, row by row.
"""

# ruff: noqa: S608 - statements are built from constants of this package, never from a caller's text
from __future__ import annotations

from queuekit.engines.sqlite.database import Database
from queuekit.engines.sqlite.rows import PACKED_BODIES, PACKED_ROWS, MessageRow, unpack

__all__ = ["large_body", "valid_rows"]

_LARGE = "typeof(body) = 'integer' AND EXISTS (SELECT 1 FROM bodies WHERE bodies.number = messages.body)"
_TYPES = {
    **dict.fromkeys(("priority", "number", "crashes", "generation", "attempt", "hop", "tag"), "'integer'"),
    **dict.fromkeys(("due", "sent_at"), "'real'"),
    **dict.fromkeys(
        ("not_before", "expires", "unique_key", "unique_until", "unique_ttl", "lane", "weight"), "'text', 'null'"
    ),
    "id": "'text'",
}
_SEQS = """
SELECT seq FROM messages INDEXED BY messages_leased
WHERE state = 2 AND lease_until = ? AND queue = ? AND token = ?"""
_WRONG = """
SELECT {} || CASE WHEN typeof(body) = 'blob' OR {} THEN '' ELSE ' body' END, CAST(id AS BLOB)
FROM messages WHERE seq = ?""".format(
    " || ".join(f"CASE WHEN typeof({name}) IN ({types}) THEN '' ELSE ' {name}' END" for name, types in _TYPES.items()),
    _LARGE,
)
# As bytes, since text that is not valid UTF-8 would make the whole statement fail.
_ONE = f"SELECT CAST({PACKED_ROWS} AS BLOB), {PACKED_BODIES} FROM messages WHERE seq = ?"
_SET_ASIDE = f"""
UPDATE messages SET state = 3, reason = 'malformed', error = ?, died_at = ?, token = NULL, lease_until = NULL,
    id = ifnull(?, 'row-' || seq || '-' || token), priority = 4, due = ?,
    body = CASE WHEN {_LARGE} THEN body ELSE CAST(body AS BLOB) END,
    sent_at = ?, generation = 0, attempt = 0, hop = 0, number = 1, crashes = 0, not_before = NULL, expires = NULL,
    unique_key = NULL, unique_until = NULL, unique_ttl = NULL, lane = NULL, weight = NULL, tag = 0
WHERE seq = ? AND state = 2 AND token = ?"""


def valid_rows(database: Database, queue: str, *, claim: str, until: float) -> list[MessageRow]:
    """Return the messages of the valid rows of a claim; move the foreign rows to the dead letters.

    Args:
        database: The file.
        queue: Queue of the claim.
        claim: Text of the claim.
        until: End of its leases.
    """
    valid: list[MessageRow] = []
    for (seq,) in database.read(_SEQS, (until, queue, claim)):
        ((wrong, raw_id),) = database.read(_WRONG, (seq,))
        try:
            valid += _read_one(database, seq, queue, wrong.split())
        except (TypeError, ValueError) as problem:
            id = None if " id" in wrong else _text(raw_id)
            now = database.time.now()
            database.write(_SET_ASIDE, (str(problem), now, id, now, now, seq, claim))
            if database.on_set_aside is not None:
                database.on_set_aside(queue, id or f"row-{seq}", str(problem))
    return valid


def _read_one(database: Database, seq: int, queue: str, wrong: list[str]) -> list[MessageRow]:
    """Return the message of a row.

    Raises:
        TypeError: A column has a value of the wrong type.
        ValueError: A text is not Unicode, or not a number where one is expected.
    """
    if wrong:
        raise TypeError(f"a value of the wrong type in {', '.join(wrong)}")
    ((packed, bodies),) = database.read(_ONE, (seq,))
    return list(unpack(packed, bodies, queue, lambda number: large_body(database, number)))


def large_body(database: Database, number: int) -> bytes:
    """Return the body with that number.

    Raises:
        ValueError: There is none, since its message has just been removed, or since the row is foreign.
    """
    for (body,) in database.read("SELECT body FROM bodies WHERE number = ?", (number,)):
        return bytes(body)
    raise ValueError("its body is missing")


def _text(raw: bytes) -> str | None:
    """Return *raw* as text; ``None`` if it is empty or not valid UTF-8."""
    try:
        return raw.decode() or None
    except UnicodeDecodeError:
        return None
