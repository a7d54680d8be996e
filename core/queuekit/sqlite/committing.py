"""Commit: settlements, records, joins and sends of many items in one transaction (QK12)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import attrs

from queuekit.backend import Condition, Join
from queuekit.broker import CommitItem
from queuekit.envelope import Envelope
from queuekit.sqlite.database import Database
from queuekit.sqlite.fences import new_claim
from queuekit.sqlite.records import join, write
from queuekit.sqlite.sending import send_all
from queuekit.sqlite.settling import are_plain_acks, settle_acks, settle_all, woken
from queuekit.sqlite.statements import Statements

__all__ = ["Committed", "commit", "follow_ups"]


@attrs.frozen
class Committed:
    """What a commit has done, and whom to wake for it."""

    done: list[bool]
    queues: set[str]
    final: list[str]
    """Keys of final records."""


def follow_ups(one: Join) -> list[Envelope]:
    """Return what *one* sends when its group is complete."""
    return [envelope for envelope in one.then if isinstance(envelope, Envelope)]


def commit(database: Database, items: Sequence[CommitItem], *, window: float) -> Committed:
    """Carry out *items*; those whose lease is lost are left out, and do not stop the others.

    Ids of messages that leave are remembered for *window* seconds.
    """
    if any(item.sends or item.joins for item in items):
        database.know(
            {
                envelope.queue
                for item in items
                for envelope in (*item.sends, *(each for one in item.joins for each in follow_ups(one)))
            }
        )
    with database.transaction() as transaction:
        now = database.time.now()
        done = _settle(database, transaction, items, now=now, window=window)
        live = [item for item, yes in zip(items, done, strict=True) if yes]
        records = [record for item in live for record in item.records]
        if records:
            write(transaction, records, condition=Condition.NEWER, now=now)
        sends = [
            *_join(transaction, (one for item in live for one in item.joins), now),
            *(envelope for item in live for envelope in item.sends),
        ]
        if sends:
            send_all(transaction, sends, now)
    queues = {envelope.queue for envelope in sends}
    queues.update(woken(item.settlement for item in live if item.settlement is not None))
    return Committed(done, queues, [record.key for record in records if record.final])


def _settle(database: Database, on: Statements, items: Sequence[CommitItem], *, now: float, window: float) -> list[bool]:
    """Carry out the settlements and tell for each item whether the rest of it may happen."""
    settlements = [item.settlement for item in items if item.settlement is not None]
    if not settlements:
        return [True] * len(items)
    if are_plain_acks(settlements):
        held = settle_acks(on, settlements, stamp=new_claim(database.random), forget_at=now + window)
    else:
        held = settle_all(on, settlements, now=now, window=window)
    answers = iter(held)
    return [item.settlement is None or next(answers) for item in items]


def _join(on: Statements, joins: Iterable[Join], now: float) -> list[Envelope]:
    """Count *joins*, group by group, and return what the complete ones send."""
    arrivals: defaultdict[str, list[Join]] = defaultdict(list)
    for one in joins:
        arrivals[one.group].append(one)
    sends = []
    for group, some in arrivals.items():
        _, count = join(on, group, [one.member for one in some], ttl=some[-1].ttl, now=now)
        # Those of one group send the same, so that repeating it adds nothing.
        sends += [envelope for one in some if count >= one.size for envelope in follow_ups(one)]
    return sends
