"""Puts messages on their queues."""

from __future__ import annotations

from collections.abc import Sequence

from queuekit.engines.sqlite.lanes import enter_sent
from queuekit.engines.sqlite.rows import LARGE_BODY, insert, row_of
from queuekit.engines.sqlite.statements import Row, Statements
from queuekit.envelope import Envelope, Unique

__all__ = ["FREE_KEYS", "are_plain", "send_all", "take_key"]

FREE_KEYS = """
DELETE FROM unique_keys WHERE until <> 'ttl' AND (key, id, queue) IN (
    SELECT unique_key, id, queue FROM messages
    WHERE unique_key IS NOT NULL AND seq IN (SELECT value FROM json_each(?)))"""
"""Frees the keys that messages hold until they are done, given the messages' numbers as a JSON array."""

_IS_KNOWN = """
SELECT 1 FROM messages WHERE id = ? AND queue = ? AND (generation, attempt, hop) >= (?, ?, ?)
    AND NOT (state = 4 AND due <= ?)"""
_HOLDER = "SELECT id, queue FROM unique_keys WHERE key = ? AND ends > ?"
_TAKE_KEY = """
INSERT INTO unique_keys(key, id, queue, until, ends) VALUES (?, ?, ?, ?, ?)
ON CONFLICT(key) DO UPDATE SET id = excluded.id, queue = excluded.queue, until = excluded.until, ends = excluded.ends
WHERE unique_keys.ends <= ? OR (unique_keys.id = excluded.id AND unique_keys.queue = excluded.queue)"""


def are_plain(envelopes: Sequence[Envelope]) -> bool:
    """Return whether no envelope has a unique key, a lane or a large body: one statement can insert them all."""
    for envelope in envelopes:
        if envelope.unique is not None or envelope.lane is not None or len(envelope.body) > LARGE_BODY:
            return False
    return True


def send_all(on: Statements, envelopes: Sequence[Envelope], now: float) -> list[str]:
    """Put *envelopes* on their queues, within a transaction, and return an id for each; see ``Broker.send``."""
    if are_plain(envelopes):
        insert(on, [row_of(envelope, now) for envelope in envelopes])
        return [envelope.id for envelope in envelopes]
    holders: list[str] = []
    rows: list[Row] = []
    for envelope in envelopes:
        holder = envelope.id
        if envelope.unique is not None:
            insert(on, rows)
            rows = []
            holder = _holder(on, envelope, envelope.unique, now)
        if holder == envelope.id:
            rows.append(row_of(envelope, now))
        holders.append(holder)
    insert(on, rows)
    enter_sent(on, envelopes)
    return holders


def take_key(on: Statements, unique: Unique, holder: tuple[str, str], now: float) -> None:
    """Give the unique key to *holder*, an id and its queue, if it is free or already theirs."""
    id, queue = holder
    on.write(_TAKE_KEY, (unique.key, id, queue, unique.until, now + unique.ttl, now))


def _holder(on: Statements, envelope: Envelope, unique: Unique, now: float) -> str:
    """Return the id that holds the key; *envelope* takes it if it is free."""
    name = (envelope.id, envelope.queue)
    step = (envelope.generation, envelope.attempt, envelope.hop)
    if on.read(_IS_KNOWN, (*name, *step, now)):
        return envelope.id  # sent before: leave the key as it is
    for holder in on.read(_HOLDER, (unique.key, now)):
        if holder != name:
            return str(holder[0])
    take_key(on, unique, name, now)
    return envelope.id
