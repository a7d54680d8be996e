"""Applies settlements, many with a few statements."""

# ruff: noqa: S608 - statements are built from constants of this package, never from a caller's text
from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

from queuekit.broker import Ack, Dead, Release, Replace, Settlement
from queuekit.engines.sqlite.lanes import Entrant, enter
from queuekit.engines.sqlite.layout import DELAYED, DONE, READY
from queuekit.engines.sqlite.rows import LARGE_BODY, batches, due_of, exact, insert, keep, plain_text, values
from queuekit.engines.sqlite.sending import FREE_KEYS
from queuekit.engines.sqlite.statements import Row, Statements
from queuekit.engines.sqlite.tokens import HELD, SHOWN, rounds, seqs, shown

__all__ = ["are_plain_acks", "settle_acks", "settle_all", "woken"]

MAX_ERROR_CHARACTERS = 2_000

_ACK_SHOWN = f"""
UPDATE messages SET state = 4, body = x'', due = ?, token = ?, lease_until = NULL
FROM json_each(?) AS fence WHERE {SHOWN}"""
_ACKED = """
SELECT json_group_array(seq) FROM json_each(?) AS fence CROSS JOIN messages
WHERE seq = CAST(fence.key AS INTEGER) AND messages.token = ? AND messages.state = 4"""
_ACK = """
UPDATE messages SET state = 4, body = x'', due = ?, token = NULL, lease_until = NULL
WHERE seq IN (SELECT value FROM json_each(?))"""
_RELEASE = """
UPDATE messages SET state = ?, due = coalesce(?, due), crashes = crashes + ?, tag = 0, token = NULL, lease_until = NULL
WHERE seq IN (SELECT value FROM json_each(?))"""
_DROP_REPLACED = """
DELETE FROM bodies WHERE number = (SELECT body FROM messages WHERE id = ? AND queue = ? AND typeof(body) = 'integer')"""
_MOVE_KEY = "UPDATE unique_keys SET queue = ? WHERE key = ? AND id = ? AND queue = ?"

Held = list[tuple[int, Settlement]]
"""Settlements whose leases are held, with the numbers of their rows."""


def are_plain_acks(settlements: Iterable[Settlement]) -> bool:
    """Return whether one statement is enough: there are only acks, and none frees a unique key."""
    return all(isinstance(each, Ack) and each.delivery.envelope.unique is None for each in settlements)


def settle_acks(on: Statements, settlements: Sequence[Settlement], *, stamp: str, forget_at: float) -> list[bool]:
    """Apply plain acks and return for each whether its lease was held; *stamp* marks the rows of this call."""
    done = [False] * len(settlements)
    for number, part in enumerate(rounds(each.delivery.token for each in settlements)):
        fences = shown(part)
        stamp = f"{stamp}.{number}"  # so that a second ack of the same lease is not mistaken for the first
        if on.write(_ACK_SHOWN, [forget_at, stamp, fences]) == len(part):
            for _, place in part.values():
                done[place] = True
        else:
            acked = seqs(on.read(_ACKED, (fences, stamp)))
            for seq, (_, place) in part.items():
                done[place] = int(seq) in acked
    return done


def settle_all(on: Statements, settlements: Sequence[Settlement], *, now: float, window: float) -> list[bool]:
    """Apply *settlements*, within a transaction, and return for each whether its lease was held.

    Ids of messages that leave are remembered for *window* seconds.
    """
    done = [False] * len(settlements)
    for part in rounds(each.delivery.token for each in settlements):
        live = seqs(on.read(HELD, (shown(part),)))
        held = [(int(seq), place) for seq, (_, place) in part.items() if int(seq) in live]
        for _, place in held:
            done[place] = True
        _carry_out(on, [(seq, settlements[place]) for seq, place in held], now=now, window=window)
    return done


def woken(settlements: Iterable[Settlement]) -> set[str]:
    """Return the queues that get a message to deliver, now or later."""
    return {
        each.envelope.queue if isinstance(each, Replace) else each.delivery.queue
        for each in settlements
        if isinstance(each, Release | Replace)
    }


def _carry_out(on: Statements, held: Held, *, now: float, window: float) -> None:
    leaving = [seq for seq, each in held if isinstance(each, Ack | Dead) and each.delivery.envelope.unique is not None]
    if leaving:
        on.write(FREE_KEYS, [json.dumps(leaving)])
    acks = [seq for seq, each in held if isinstance(each, Ack)]
    if acks:
        on.write(_ACK, [now + window, json.dumps(acks)])
    _release(on, held, now)
    _retry(on, [(seq, each) for seq, each in held if isinstance(each, Replace)], now=now, window=window)
    _dead_letter(on, [(seq, each) for seq, each in held if isinstance(each, Dead)], now)


def _release(on: Statements, held: Held, now: float) -> None:
    alike: defaultdict[tuple[float, bool], list[int]] = defaultdict(list)
    for seq, each in held:
        if isinstance(each, Release):
            alike[max(each.delay, 0.0), each.counted].append(seq)
    for (delay, counted), some in alike.items():
        # Without a delay it keeps its due time, and so its previous position.
        state, due = (DELAYED, now + delay) if delay > 0 else (READY, None)
        on.write(_RELEASE, [state, due, int(counted), json.dumps(some)])


@lru_cache(maxsize=8)
def _retry_sql(count: int) -> str:
    columns = ["queue", "state", "priority", "due", "generation", "attempt", "hop", "not_before", "expires"]
    sets = ", ".join(f"{name} = new.column{place}" for place, name in enumerate(columns, start=3))
    return (
        # OR REPLACE: the same id may have been on the other queue before.
        f"UPDATE OR REPLACE messages SET body = coalesce(new.column2, body), {sets}, "
        "crashes = 0, tag = 0, token = NULL, lease_until = NULL "
        f"FROM {values(count, len(columns) + 2)} AS new WHERE seq = new.column1"
    )


def _retry(on: Statements, retries: list[tuple[int, Replace]], *, now: float, window: float) -> None:
    rows: list[Row] = []
    for seq, retry in retries:
        new = retry.envelope
        due = due_of(new, now)
        state = DELAYED if due > now else READY
        step = (new.generation, new.attempt, new.hop)
        body = _new_body(on, retry)
        rows.append((seq, body, new.queue, state, new.priority, due, *step, exact(new.not_before), exact(new.expires)))
    for size, parameters in batches(rows):
        on.write(_retry_sql(size), parameters)
    laned = [(seq, retry.envelope, row[3]) for (seq, retry), row in zip(retries, rows, strict=True)]
    enter(on, [Entrant(seq, new.queue, new.priority, new.lane, state) for seq, new, state in laned if new.lane])
    for _, retry in retries:
        if retry.envelope.queue != retry.delivery.queue:
            _leave_queue(on, retry, now=now, window=window)


def _new_body(on: Statements, retry: Replace) -> bytes | int | None:
    """Return the value of ``body`` for a retry; ``None`` if it keeps its large body, which costs nothing then."""
    new = retry.envelope
    if new.queue != retry.delivery.queue:
        on.write(_DROP_REPLACED, [new.id, new.queue])
    if len(new.body) <= LARGE_BODY:
        return new.body
    return None if new.body == retry.delivery.envelope.body else keep(on, new.body)


def _leave_queue(on: Statements, retry: Replace, *, now: float, window: float) -> None:
    """Remember the id on the queue that a retry has left, and move the unique key."""
    old = retry.delivery.envelope
    step = (old.generation, old.attempt, old.hop)
    insert(on, [(old.id, old.queue, DONE, old.priority, now + window, b"", *step, now, *(None,) * 5)])
    if old.unique is not None:
        on.write(_MOVE_KEY, [retry.envelope.queue, old.unique.key, old.id, old.queue])


@lru_cache(maxsize=8)
def _dead_sql(count: int) -> str:
    return (
        "UPDATE messages SET state = 3, reason = why.column2, error = why.column3, holder = why.column4, "
        "died_at = why.column5, token = NULL, lease_until = NULL "
        f"FROM {values(count, 5)} AS why WHERE seq = why.column1"
    )


def _dead_letter(on: Statements, dead: list[tuple[int, Dead]], now: float) -> None:
    rows: list[Row] = []
    for seq, each in dead:
        why = (plain_text(each.reason), plain_text(each.error[:MAX_ERROR_CHARACTERS]), plain_text(each.holder))
        rows.append((seq, *why, now))
        now = math.nextafter(now, math.inf)  # so that the newest dead letter is shown first, even within a batch
    for size, parameters in batches(rows):
        on.write(_dead_sql(size), parameters)
