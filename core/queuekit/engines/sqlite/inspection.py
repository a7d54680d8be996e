"""Shows stored messages, and replays or deletes them."""

# ruff: noqa: S608 - statements are built from constants of this package, never from a caller's text
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from queuekit.backend import Page
from queuekit.broker import Place, QueueCounts, Stored
from queuekit.engines.sqlite.database import Database
from queuekit.engines.sqlite.lanes import enter, entrants, lane_in
from queuekit.engines.sqlite.layout import DEAD, DELAYED, LEASED, READY
from queuekit.engines.sqlite.sending import FREE_KEYS, take_key
from queuekit.engines.sqlite.statements import Row
from queuekit.envelope import Envelope, Unique
from queuekit.timelimit import made_progress

__all__ = ["COUNTS", "counts", "dead_beyond", "find", "peek", "queues", "remove", "requeue", "search"]

BATCH = 500
"""Most messages that one transaction changes, so that workers can write in between."""
STATES = {Place.READY: READY, Place.DELAYED: DELAYED, Place.LEASED: LEASED, Place.DEAD: DEAD}

_GROUPED = "WHERE state = {} AND queue IN (SELECT value FROM json_each(?)) GROUP BY queue"
# Without a lane, the first of a level is the oldest. Those in lanes are in another order, and all of them are read.
_FIRST = "(SELECT min(due) FROM messages WHERE state = 0 AND queue = value AND priority = level AND tag {} 0)"
_FIRSTS = f"SELECT {_FIRST.format('=')} AS due FROM levels UNION ALL SELECT {_FIRST.format('>')} FROM levels"
COUNTS = f"""
WITH levels(level) AS (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9))
SELECT 0, value, json_array(
    (SELECT count(*) FROM messages WHERE state = 0 AND queue = value), (SELECT min(due) FROM ({_FIRSTS})))
FROM json_each(?)
UNION ALL SELECT 1, queue, json_array(count(*), 0) FROM messages {_GROUPED.format(1)}
UNION ALL SELECT 2, queue, json_array(count(*), 0) FROM messages {_GROUPED.format(2)}
UNION ALL SELECT 3, queue, json_array(count(*), 0) FROM messages {_GROUPED.format(3)}"""
"""Counts by one range of an index for each queue, or, of delayed and leased messages, by one for all queues.

A subselect for each queue counts waiting messages in half the time of a GROUP BY.
"""

_STORED = """
SELECT seq, id, queue, ifnull((SELECT body FROM bodies WHERE bodies.number = messages.body), body),
    priority, not_before, expires, attempt, generation, hop, unique_key, unique_until, unique_ttl,
    state, due, lease_until, sent_at, number, crashes, reason, error, holder, died_at, lane, weight, tag
FROM messages"""
_ORDERS = {
    # The columns of the order, each with its place in a row of _STORED and the sign of what is behind.
    Place.READY: (("priority", 4, "<"), ("tag", 25, ">"), ("due", 14, ">"), ("seq", 0, ">")),
    Place.DELAYED: (("due", 14, ">"), ("seq", 0, ">")),
    Place.LEASED: (("lease_until", 15, ">"), ("seq", 0, ">")),
    Place.DEAD: (("died_at", 22, "<"), ("seq", 0, "<")),
}
_DEAD_BEYOND = """
SELECT id FROM messages WHERE state = 3 AND queue = ? AND died_at < ? ORDER BY died_at, seq LIMIT ?"""
_DEAD_OVER = """
SELECT id FROM messages WHERE state = 3 AND queue = ? ORDER BY died_at, seq
LIMIT max(0, min(?, (SELECT count(*) FROM messages WHERE state = 3 AND queue = ?) - ?))"""
_DEAD_ONES = """
SELECT seq, queue, priority, hex(lane), hex(weight), id, unique_key, unique_until, unique_ttl FROM messages
WHERE state = 3 AND queue = ?"""
_REPLAY = """
UPDATE messages SET state = 0, generation = generation + 1, attempt = 0, hop = 0, crashes = 0, due = ?, tag = 0,
    reason = NULL, error = NULL, holder = NULL, died_at = NULL
WHERE seq IN (SELECT value FROM json_each(?))"""
_REMOVE = """
UPDATE messages SET state = 4, body = x'', due = ?, token = NULL, lease_until = NULL
WHERE seq IN (SELECT value FROM json_each(?))"""


def queues(database: Database) -> list[str]:
    """Return the names of all queues, sorted."""
    return [name for (name,) in database.read("SELECT name FROM queues ORDER BY name")]


def counts(database: Database, names: Sequence[str]) -> dict[str, QueueCounts]:
    """Return the number of messages of each queue in each place."""
    found: dict[str, dict[int, tuple[int, float | None]]] = {name: {} for name in names}
    for state, name, numbers in database.read(COUNTS, (json.dumps(list(found)),) * len(STATES)):
        found[name][state] = json.loads(numbers)
    now = database.time.now()
    return {name: _counts(states, now) for name, states in found.items()}


def _counts(states: Mapping[int, tuple[int, float | None]], now: float) -> QueueCounts:
    numbers: dict[str, Any] = {place.value: states[state][0] for place, state in STATES.items() if state in states}
    _, oldest = states[READY]
    return QueueCounts(**numbers, oldest_age=None if oldest is None else max(0.0, now - oldest))


def peek(database: Database, queue: str, *, place: Place, limit: int, cursor: str | None) -> Page[Stored]:
    """Return messages in *place*, next first; the cursor is the position of the last one."""
    columns = _ORDERS[place]
    order = ", ".join(name + (" DESC" if sign == "<" else "") for name, _, sign in columns)
    rows: list[Row] = []
    for condition, values in _ranges(place, json.loads(cursor)) if cursor else [("", [])]:
        if len(rows) <= limit:
            sql = f"{_STORED} WHERE state = {STATES[place]} AND queue = ? {condition} ORDER BY {order} LIMIT ?"
            rows += database.read(sql, (queue, *values, limit + 1 - len(rows)))
    more = limit > 0 and len(rows) > limit
    position = [rows[limit - 1][at] for _, at, _ in columns] if more else None
    return Page(items=tuple(map(_stored, rows[:limit])), cursor=json.dumps(position) if more else None)


def _ranges(place: Place, after: list[Any]) -> list[tuple[str, list[Any]]]:
    """Return conditions, and their values, for what is behind the position *after*, nearest first.

    Each is one range of the index, so that a page costs the same wherever it begins.
    """
    columns = list(zip(_ORDERS[place], after, strict=True))
    found = []
    for last in reversed(range(len(columns))):
        same = "".join(f"AND {name} = ? " for (name, _, _), _ in columns[:last])
        name, _, sign = columns[last][0]
        found.append((f"{same}AND {name} {sign} ?", after[: last + 1]))
    return found


def find(database: Database, queue: str, ids: Sequence[str]) -> list[Stored]:
    """Return the messages among *ids* that the queue holds."""
    wanted = json.dumps(list(ids))
    sql = f"{_STORED} WHERE queue = ? AND state < 4 AND id IN (SELECT value FROM json_each(?))"
    found = {stored.envelope.id: stored for stored in map(_stored, database.read(sql, (queue, wanted)))}
    return [found[id] for id in dict.fromkeys(ids) if id in found]


def search(database: Database, queues: Sequence[str], id: str) -> Stored | None:
    """Return the message from the first of *queues* that holds it, by its id alone."""
    held = {
        stored.envelope.queue: stored
        for stored in map(_stored, database.read(f"{_STORED} WHERE id = ? AND state < 4", (id,)))
    }
    return next((held[queue] for queue in queues if queue in held), None)


def dead_beyond(database: Database, queue: str, *, count: int | None, before: float | None, limit: int) -> list[str]:
    """Return the ids of dead letters beyond the bounds, oldest first."""
    found: dict[str, None] = {}
    if count is not None:
        found |= dict.fromkeys(id for (id,) in database.read(_DEAD_OVER, (queue, limit, queue, count)))
    if before is not None:
        found |= dict.fromkeys(id for (id,) in database.read(_DEAD_BEYOND, (queue, before, limit)))
    return list(found)[:limit]


def requeue(database: Database, queue: str, ids: Sequence[str] | None) -> list[str]:
    """Replay dead letters, oldest first, and return their ids."""
    condition, parameters = _among(ids)
    replayed: list[str] = []
    now = database.time.now()
    while True:
        with database.transaction() as transaction:
            sql = f"{_DEAD_ONES} AND died_at <= ? {condition} ORDER BY died_at, seq LIMIT {BATCH}"
            rows = transaction.read(sql, (queue, now, *parameters))
            for *_, id, key, until, ttl in rows:
                if key is not None:
                    take_key(transaction, Unique(key=key, until=until, ttl=float(ttl)), (id, queue), now)
            transaction.write(_REPLAY, (database.time.now(), json.dumps([row[0] for row in rows])))
            enter(transaction, entrants([row[:5] for row in rows]))
        made_progress()
        replayed += [row[5] for row in rows]
        if len(rows) < BATCH:
            return replayed


def remove(
    database: Database, queue: str, ids: Sequence[str] | None, *, places: set[Place], window: float
) -> list[str]:
    """Delete messages in *places*, those with *ids* or all, and remember their ids for *window* seconds."""
    condition, parameters = _among(ids)
    removed: list[str] = []
    for place in sorted(places):
        sql = f"SELECT seq, id FROM messages WHERE state = {STATES[place]} AND queue = ? {condition} LIMIT {BATCH}"
        while True:
            with database.transaction() as transaction:
                rows = transaction.read(sql, (queue, *parameters))
                seqs = json.dumps([seq for seq, _ in rows])
                transaction.write(FREE_KEYS, (seqs,))
                transaction.write(_REMOVE, (database.time.now() + window, seqs))
            made_progress()
            removed += [id for _, id in rows]
            if len(rows) < BATCH:
                break
    return removed


def _among(ids: Sequence[str] | None) -> tuple[str, tuple[str, ...]]:
    """Return the condition that selects *ids*; empty for all."""
    if ids is None:
        return "", ()
    return "AND id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),)


def _stored(row: Row) -> Stored:
    state, due, lease_until, sent_at, number, crashes, reason, error, holder, died_at = row[13:23]
    place = Place.LEASED if state == LEASED else next(name for name, value in STATES.items() if value == state)
    return Stored(
        envelope=_envelope(row),
        place=place,
        due=lease_until if place is Place.LEASED else due,
        sent_at=sent_at,
        number=number,
        crashes=crashes,
        reason=reason or "",
        error=error or "",
        holder=holder or "",
        died_at=died_at,
    )


def _envelope(row: Row) -> Envelope:
    _, id, queue, body, priority, not_before, expires, attempt, generation, hop, key, until, ttl = row[:13]
    return Envelope(
        id=id,
        queue=queue,
        body=body,
        priority=priority,
        not_before=None if not_before is None else float(not_before),
        expires=None if expires is None else float(expires),
        attempt=attempt,
        generation=generation,
        hop=hop,
        unique=None if key is None else Unique(key=key, until=until, ttl=float(ttl)),
        lane=lane_in(row[23], row[24]),
    )
