"""Commits the settlements, records, joins and sends of many items in one transaction (QK12)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from queuekit.backend import Condition, Join, Record
from queuekit.broker import CommitItem, Replace, Settlement
from queuekit.engines.sqlite.database import Database
from queuekit.engines.sqlite.records import join, write
from queuekit.engines.sqlite.sending import send_all
from queuekit.engines.sqlite.settling import are_plain_acks, settle_acks, settle_all, woken
from queuekit.engines.sqlite.statements import Statements
from queuekit.engines.sqlite.tokens import new_claim
from queuekit.envelope import Envelope

__all__ = ["Committed", "commit", "may_send"]


class Committed(NamedTuple):
    """The outcome of a commit, and the queues and records to notify about."""

    done: list[bool]
    queues: set[str]
    final: list[str]
    """Keys of final records."""


def may_send(item: CommitItem) -> Sequence[Envelope]:
    """Return all envelopes that *item* may send."""
    if not item.joins and not isinstance(item.settlement, Replace):
        return item.sends
    envelopes = [*item.sends, *(envelope for one in item.joins for envelope in _follow_ups(one))]
    return [*envelopes, item.settlement.envelope] if isinstance(item.settlement, Replace) else envelopes


def commit(database: Database, items: Sequence[CommitItem], *, window: float) -> Committed:
    """Apply *items*; skip items whose lease is lost.

    Ids of messages that leave are remembered for *window* seconds.
    """
    if len(items) == 1 and items[0].settlement is None and not items[0].joins:
        return _send(database, items[0])
    records: list[Record] = []
    joins: list[Join] = []
    sends: list[Envelope] = []
    settled: list[Settlement] = []
    with database.transaction() as transaction:
        now = database.time.now()
        done = _settle(database, transaction, items, now=now, window=window)
        for item, yes in zip(items, done, strict=True):
            if yes:
                records += item.records
                joins += item.joins
                sends += item.sends
                settled += () if item.settlement is None else (item.settlement,)
        write(transaction, records, condition=Condition.NEWER, now=now)
        sends += _join(transaction, joins, now)
        send_all(transaction, sends, now)
    queues = {envelope.queue for envelope in sends} | woken(settled)
    return Committed(done, queues, [record.key for record in records if record.final])


def _send(database: Database, item: CommitItem) -> Committed:
    """Apply an item that only sends, which needs no checks."""
    with database.transaction() as transaction:
        now = database.time.now()
        write(transaction, item.records, condition=Condition.NEWER, now=now)
        send_all(transaction, item.sends, now)
    return Committed(
        [True], {envelope.queue for envelope in item.sends}, [record.key for record in item.records if record.final]
    )


def _settle(
    database: Database, on: Statements, items: Sequence[CommitItem], *, now: float, window: float
) -> list[bool]:
    """Apply the settlements and return for each item whether the rest of it may happen."""
    settlements = [item.settlement for item in items if item.settlement is not None]
    if not settlements:
        return [True] * len(items)
    if are_plain_acks(settlements):
        held = settle_acks(on, settlements, stamp=new_claim(database.random), forget_at=now + window)
    else:
        held = settle_all(on, settlements, now=now, window=window)
    if len(settlements) == len(items):
        return held
    answers = iter(held)
    return [item.settlement is None or next(answers) for item in items]


def _join(on: Statements, joins: Sequence[Join], now: float) -> list[Envelope]:
    """Count *joins*, group by group, and return the envelopes that complete groups send."""
    if not joins:
        return []
    arrivals: defaultdict[str, list[Join]] = defaultdict(list)
    for one in joins:
        arrivals[one.group].append(one)
    sends: list[Envelope] = []
    for group, some in arrivals.items():
        _, count = join(on, group, [one.member for one in some], ttl=some[-1].ttl, now=now)
        # All joins of a group send the same envelopes, so a repeated send adds nothing.
        sends += [envelope for one in some if count >= one.size for envelope in _follow_ups(one)]
    return sends


def _follow_ups(one: Join) -> list[Envelope]:
    """Return the envelopes that *one* sends when its group is complete."""
    return [envelope for envelope in one.then if isinstance(envelope, Envelope)]
