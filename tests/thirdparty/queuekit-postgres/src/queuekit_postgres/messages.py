"""Every move that a message can make, each as a few statements in the transaction of a cursor."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb
from queuekit.broker import Ack, Dead, Delivery, Lease, Place, Release, Retry, Settlement, Stored
from queuekit.envelope import Envelope, Unique

from queuekit_postgres.database import Cursor, clean
from queuekit_postgres.schema import NOW

__all__ = ["accept", "claim", "delivery_of", "drop", "extend", "next_event", "requeue", "settle", "stored_of", "upkeep"]

_UPKEEP = 1_000
"""Most rows that one upkeep moves or forgets."""
_REMEMBERED = 300.0
"""Seconds that an id is remembered after its message is gone."""
_ERROR_CHARACTERS = 2_000


# -- sending ----------------------------------------------------------------------------------------------------------


def accept(cursor: Cursor, envelope: Envelope) -> str:
    """Put *envelope* on its queue, unless it is known or its key is held; return the id that holds the place."""
    step = [envelope.generation, envelope.attempt, envelope.hop]
    cursor.execute(
        f"""
        SELECT 1 FROM message
        WHERE queue = %s AND id = %s AND step >= %s::integer[] AND (place <> 'gone' OR ends > {NOW})
        """,
        (envelope.queue, envelope.id, step),
    )
    if cursor.fetchone():
        return envelope.id
    holder = _take_key(cursor, envelope)
    if holder != envelope.id:
        return holder
    cursor.execute(
        f"""
        INSERT INTO message AS old (queue, id, place, level, due, line, body, fields, step, sent_at)
        VALUES (%(queue)s, %(id)s, 'waiting', %(level)s, greatest({NOW} + %(delay)s, %(not_before)s),
                nextval('place_in_line'), %(body)s, %(fields)s, %(step)s, {NOW})
        ON CONFLICT (queue, id) DO UPDATE SET
            place = 'waiting', level = excluded.level, due = excluded.due, line = excluded.line, body = excluded.body,
            fields = excluded.fields, step = excluded.step, sent_at = excluded.sent_at, number = 0, crashes = 0,
            token = '', ends = NULL, reason = '', error = '', holder = '', died_at = NULL
        WHERE old.step < excluded.step OR (old.place = 'gone' AND old.ends <= {NOW})
        """,
        _values(envelope),
    )
    return envelope.id


def _values(envelope: Envelope) -> dict[str, Any]:
    """Return what the columns of a waiting message hold."""
    unique = envelope.unique
    fields = {
        "priority": envelope.priority,
        "delay": envelope.delay,
        "not_before": envelope.not_before,
        "expires": envelope.expires,
        "unique": None if unique is None else [unique.key, unique.until, unique.ttl],
    }
    return {
        "queue": envelope.queue,
        "id": envelope.id,
        "level": min(max(envelope.priority, 0), 9),
        "delay": max(envelope.delay, 0.0),
        "not_before": envelope.not_before or 0.0,
        "body": envelope.body,
        "fields": Jsonb(fields),
        "step": [envelope.generation, envelope.attempt, envelope.hop],
    }


def _take_key(cursor: Cursor, envelope: Envelope) -> str:
    """Return the id that holds the envelope's key now: its own, if it has none or the key was free."""
    unique = envelope.unique
    if unique is None:
        return envelope.id
    cursor.execute(
        f"""
        INSERT INTO unique_key AS held (key, queue, id, until, ends)
        VALUES (%(key)s, %(queue)s, %(id)s, %(until)s, {NOW} + %(ttl)s)
        ON CONFLICT (key) DO UPDATE SET
            queue = excluded.queue, id = excluded.id, until = excluded.until, ends = excluded.ends
        WHERE held.ends <= {NOW} OR (held.queue, held.id) = (excluded.queue, excluded.id)
        RETURNING id
        """,
        {
            "key": unique.key.encode("utf-8", "surrogatepass"),
            "queue": envelope.queue,
            "id": envelope.id,
            "until": unique.until,
            "ttl": unique.ttl,
        },
    )
    if cursor.fetchone():
        return envelope.id
    cursor.execute("SELECT id FROM unique_key WHERE key = %s", (unique.key.encode("utf-8", "surrogatepass"),))
    row = cursor.fetchone()
    # Freed between the two statements: whoever asks again gets it, and nobody was told that it was sent.
    return str(row["id"]) if row else _take_key(cursor, envelope)


def _free_key(cursor: Cursor, queue: str, id: str, *untils: str) -> None:
    cursor.execute("DELETE FROM unique_key WHERE queue = %s AND id = %s AND until = ANY(%s)", (queue, id, list(untils)))


# -- receiving --------------------------------------------------------------------------------------------------------


def upkeep(cursor: Cursor, queues: Sequence[str]) -> None:
    """Do what time alone brings about: reclaim what is no longer held, forget what is long gone."""
    values = {"queues": list(queues), "most": _UPKEEP}
    cursor.execute(
        f"""
        UPDATE message SET place = 'waiting', crashes = crashes + 1, token = '', ends = NULL
        WHERE (queue, id) IN (SELECT queue, id FROM message
            WHERE queue = ANY(%(queues)s) AND place = 'leased' AND ends <= {NOW}
            LIMIT %(most)s FOR UPDATE SKIP LOCKED)
        """,
        values,
    )
    cursor.execute(
        f"""
        DELETE FROM message WHERE (queue, id) IN (SELECT queue, id FROM message
            WHERE queue = ANY(%(queues)s) AND place = 'gone' AND ends <= {NOW}
            LIMIT %(most)s FOR UPDATE SKIP LOCKED)
        """,
        values,
    )
    cursor.execute(
        f"""
        DELETE FROM unique_key WHERE key IN (SELECT key FROM unique_key
            WHERE ends <= {NOW} LIMIT %(most)s FOR UPDATE SKIP LOCKED)
        """,
        values,
    )


def claim(cursor: Cursor, queues: Sequence[str], *, limit: int, lease: float) -> list[Delivery]:
    """Take up to *limit* ready messages under a lease, those of the first queue first."""
    claimed: list[Delivery] = []
    for queue in queues:
        if len(claimed) >= limit:
            break
        # MATERIALIZED: a subquery with LIMIT may run more than once, and then takes more than it should.
        cursor.execute(
            f"""
            WITH chosen AS MATERIALIZED (SELECT id AS chosen_id FROM message
                WHERE queue = %(queue)s AND place = 'waiting' AND due <= {NOW}
                ORDER BY level DESC, due, line LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
            UPDATE message SET place = 'leased', number = number + 1, token = %(token)s,
                claimed_at = {NOW}, ends = {NOW} + %(lease)s
            FROM chosen WHERE queue = %(queue)s AND id = chosen_id
            RETURNING message.*
            """,
            {"queue": queue, "token": uuid.uuid4().hex, "lease": lease, "limit": limit - len(claimed)},
        )
        rows = sorted(cursor.fetchall(), key=lambda row: (-row["level"], row["due"], row["line"]))
        claimed += [delivery_of(row) for row in rows]
    for delivery in claimed:
        if delivery.envelope.unique is not None:
            _free_key(cursor, delivery.queue, delivery.id, "start")
    return claimed


def next_event(cursor: Cursor, queues: Sequence[str]) -> float | None:
    """Return the seconds until the next message is due or the next lease ends; ``None`` if there is none."""
    cursor.execute(
        f"""
        SELECT least(
            (SELECT min(due) FROM message WHERE queue = ANY(%(queues)s) AND place = 'waiting'),
            (SELECT min(ends) FROM message WHERE queue = ANY(%(queues)s) AND place = 'leased')) - {NOW} AS soon
        """,
        {"queues": list(queues)},
    )
    row = cursor.fetchone()
    return None if row is None or row["soon"] is None else float(row["soon"])


# -- settling ---------------------------------------------------------------------------------------------------------


def extend(cursor: Cursor, lease: Lease, *, seconds: float) -> bool:
    """Make *lease* end later; false if it is lost."""
    cursor.execute(
        f"UPDATE message SET ends = {NOW} + %s WHERE queue = %s AND id = %s AND token = %s AND place = 'leased'",
        (seconds, lease.queue, lease.id, lease.token),
    )
    return cursor.rowcount == 1


def settle(cursor: Cursor, settlement: Settlement) -> bool:
    """Carry out *settlement*; false, with nothing changed, if its lease is lost."""
    lease = settlement.delivery.lease
    cursor.execute(
        "SELECT 1 FROM message WHERE queue = %s AND id = %s AND token = %s AND place = 'leased' FOR UPDATE",
        (lease.queue, lease.id, lease.token),
    )
    if not cursor.fetchone():
        return False
    if isinstance(settlement, Ack):
        drop(cursor, lease.queue, lease.id)
    elif isinstance(settlement, Release):
        _release(cursor, lease, settlement)
    elif isinstance(settlement, Retry):
        _retry(cursor, lease, settlement.envelope)
    else:
        _bury(cursor, lease, settlement)
    return True


def drop(cursor: Cursor, queue: str, id: str) -> None:
    """Take a message out for good: its row, without the body, remembers the id for a while."""
    _free_key(cursor, queue, id, "start", "done")
    cursor.execute(
        f"""
        UPDATE message SET place = 'gone', ends = {NOW} + %s, body = '', fields = '{{}}', token = '', error = ''
        WHERE queue = %s AND id = %s
        """,
        (_REMEMBERED, queue, id),
    )


def _release(cursor: Cursor, lease: Lease, release: Release) -> None:
    """Give it back: to its old place, or to the end of the line at a later time."""
    cursor.execute(
        f"""
        UPDATE message SET place = 'waiting', token = '', ends = NULL, crashes = crashes + %(counted)s,
            due = CASE WHEN %(delay)s > 0 THEN {NOW} + %(delay)s ELSE due END,
            line = CASE WHEN %(delay)s > 0 THEN nextval('place_in_line') ELSE line END
        WHERE queue = %(queue)s AND id = %(id)s
        """,
        {"counted": int(release.counted), "delay": float(release.delay), "queue": lease.queue, "id": lease.id},
    )


def _retry(cursor: Cursor, lease: Lease, envelope: Envelope) -> None:
    """Put *envelope* in the message's row: number, time of the send and unique key stay."""
    cursor.execute(
        "DELETE FROM message WHERE queue = %s AND id = %s AND (queue, id) <> (%s, %s)",
        (envelope.queue, envelope.id, lease.queue, lease.id),
    )
    cursor.execute(
        f"""
        UPDATE message SET queue = %(queue)s, id = %(id)s, place = 'waiting', level = %(level)s,
            due = greatest({NOW} + %(delay)s, %(not_before)s), line = nextval('place_in_line'), body = %(body)s,
            fields = %(fields)s, step = %(step)s, crashes = 0, token = '', ends = NULL
        WHERE queue = %(old_queue)s AND id = %(old_id)s
        """,
        {**_values(envelope), "old_queue": lease.queue, "old_id": lease.id},
    )
    cursor.execute(
        "UPDATE unique_key SET queue = %s, id = %s WHERE queue = %s AND id = %s",
        (envelope.queue, envelope.id, lease.queue, lease.id),
    )


def _bury(cursor: Cursor, lease: Lease, dead: Dead) -> None:
    _free_key(cursor, lease.queue, lease.id, "start", "done")
    cursor.execute(
        f"""
        UPDATE message SET place = 'dead', token = '', ends = NULL, line = nextval('place_in_line'), died_at = {NOW},
            reason = %s, holder = %s, error = %s
        WHERE queue = %s AND id = %s
        """,
        (clean(dead.reason), clean(dead.holder), clean(dead.error[:_ERROR_CHARACTERS]), lease.queue, lease.id),
    )


def requeue(cursor: Cursor, queue: str, ids: Sequence[str] | None) -> list[str]:
    """Replay dead letters, the one that died first at the front; return their ids."""
    cursor.execute(
        """
        SELECT * FROM message WHERE queue = %(queue)s AND place = 'dead' AND (%(all)s OR id = ANY(%(ids)s))
        ORDER BY died_at, line FOR UPDATE
        """,
        {"queue": queue, "all": ids is None, "ids": list(ids or ())},
    )
    rows = cursor.fetchall()
    for row in rows:
        cursor.execute(
            f"""
            UPDATE message SET place = 'waiting', due = {NOW}, line = nextval('place_in_line'), crashes = 0,
                step = ARRAY[step[1] + 1, 0, 0], reason = '', error = '', holder = '', died_at = NULL
            WHERE queue = %s AND id = %s
            """,
            (queue, row["id"]),
        )
        _take_key(cursor, _envelope_of(row))
    return [str(row["id"]) for row in rows]


# -- rows -------------------------------------------------------------------------------------------------------------


def _envelope_of(row: Mapping[str, Any]) -> Envelope:
    fields = row["fields"]
    generation, attempt, hop = row["step"]
    unique = fields["unique"]
    return Envelope(
        id=row["id"],
        queue=row["queue"],
        body=bytes(row["body"]),
        priority=fields["priority"],
        delay=fields["delay"],
        not_before=fields["not_before"],
        expires=fields["expires"],
        generation=generation,
        attempt=attempt,
        hop=hop,
        unique=None if unique is None else Unique(key=unique[0], until=unique[1], ttl=unique[2]),
    )


def delivery_of(row: Mapping[str, Any]) -> Delivery:
    """Return a leased row as its holder sees it."""
    return Delivery(
        envelope=_envelope_of(row),
        token=row["token"],
        number=row["number"],
        crashes=row["crashes"],
        sent_at=row["sent_at"],
        claimed_at=row["claimed_at"],
    )


def stored_of(row: Mapping[str, Any], place: Place) -> Stored:
    """Return a row as ``peek`` shows it."""
    return Stored(
        envelope=_envelope_of(row),
        place=place,
        due=row["ends"] if place is Place.LEASED else row["due"],
        sent_at=row["sent_at"],
        number=row["number"],
        crashes=row["crashes"],
        reason=row["reason"],
        error=row["error"],
        holder=row["holder"],
        died_at=row["died_at"],
    )
