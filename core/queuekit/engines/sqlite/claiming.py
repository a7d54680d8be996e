"""Claims messages under a lease, and extends leases."""

# ruff: noqa: S608 - statements are built from constants of this package, never from a caller's text
from __future__ import annotations

from collections.abc import Iterable, Sequence

from queuekit.broker import Delivery, Lease
from queuekit.engines.sqlite.database import Database
from queuekit.engines.sqlite.foreign_rows import large_body, valid_rows
from queuekit.engines.sqlite.rows import PACKED, MessageRow, unpack
from queuekit.engines.sqlite.tokens import HELD, SHOWN, new_claim, rounds, seqs, shown, token_of
from queuekit.errors import UnavailableError
from queuekit.values import quickly

__all__ = ["claim", "extend"]

_delivery = quickly(Delivery)
# A single statement, so that the message is in exactly one state at any time (QK2).
_CLAIM = """
UPDATE messages SET state = 2, number = number + 1, token = ?, lease_until = ?
WHERE seq IN (
    SELECT seq FROM messages WHERE state = 0 AND queue = ? ORDER BY priority DESC, tag, due, seq LIMIT ?)"""
# The leases of one claim end at exactly the same time, so the index on that time finds them.
_COLLECT = f"""
SELECT {PACKED} FROM messages INDEXED BY messages_leased
WHERE state = 2 AND lease_until = ? AND queue = ? AND token = ?"""
_FREE_STARTED = "DELETE FROM unique_keys WHERE until = 'start' AND key = ? AND id = ? AND queue = ?"
_EXTEND = f"UPDATE messages SET lease_until = ? FROM json_each(?) AS fence WHERE {SHOWN}"


def claim(database: Database, queue: str, *, limit: int, lease: float) -> list[Delivery]:
    """Move up to *limit* ready messages of *queue* under a lease of *lease* seconds; return them, next first."""
    claim_text = new_claim(database.random)
    now = database.time.now()
    if not database.write(_CLAIM, (claim_text, now + lease, queue, limit)):
        return []
    messages = _collect(database, queue, claim=claim_text, until=now + lease)
    messages.sort(key=lambda message: (-message.envelope.priority, message.tag, message.due, message.seq))
    deliveries = [
        _delivery(
            envelope=message.envelope,
            token=token_of(claim_text, message.seq),
            number=message.number,
            crashes=message.crashes,
            sent_at=message.sent_at,
            claimed_at=now,
        )
        for message in messages
    ]
    _free_keys(database, deliveries)
    return deliveries


def extend(database: Database, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
    """Make *leases* end *lease* seconds from now and return the lost ones."""
    held: set[int] = set()
    for part in rounds(one.token for one in leases):
        fences = shown(part)
        if database.write(_EXTEND, (database.time.now() + lease, fences)) == len(part):
            held.update(place for _, place in part.values())
        else:
            live = seqs(database.read(HELD, (fences,)))
            held.update(place for seq, (_, place) in part.items() if int(seq) in live)
    return [one for place, one in enumerate(leases) if place not in held]


def _collect(database: Database, queue: str, *, claim: str, until: float) -> list[MessageRow]:
    """Return the claimed messages: all at once, or row by row if one of the rows is foreign (QK8)."""
    try:
        ((packed, bodies),) = database.read(_COLLECT, (until, queue, claim))
        return list(unpack(packed, bodies, queue, lambda number: large_body(database, number)))
    except (UnavailableError, TypeError, ValueError):
        return valid_rows(database, queue, claim=claim, until=until)


def _free_keys(database: Database, deliveries: Iterable[Delivery]) -> None:
    """Free the unique keys with ``until="start"``; after a crash right before this, the settlement frees them."""
    for delivery in deliveries:
        unique = delivery.envelope.unique
        if unique is not None and unique.until == "start":
            database.write(_FREE_STARTED, (unique.key, delivery.id, delivery.queue))
