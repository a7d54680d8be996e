"""Convert settlements and commits to arguments of the scripts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from queuekit.backend import Join
from queuekit.broker import Ack, CommitItem, Delivery, Release, Replace, Settlement
from queuekit.envelope import Envelope
from queuekit_redis.encoding import (
    death_record,
    micros,
    pack_due,
    pack_envelope,
    pack_record,
    pack_sent_at,
    pack_step,
)
from queuekit_redis.keys import Keys

__all__ = [
    "commit_arguments",
    "envelopes_of",
    "is_plain",
    "is_plain_ack",
    "milliseconds",
    "send_arguments",
    "settle_arguments",
]


def send_arguments(envelope: Envelope) -> tuple[Any, ...]:
    """Return the arguments of ``send.lua`` for a message."""
    unique = envelope.unique
    return (envelope.id, pack_envelope(envelope), pack_due(envelope), unique.key if unique else b"")


def is_plain(envelope: Envelope) -> bool:
    """Return whether a message is due at once, without unique key and lane, so that the quick scripts can send it."""
    bare = envelope.unique is None and envelope.lane is None and envelope.not_before is None
    return bare and envelope.delay <= 0


def is_plain_ack(settlement: Settlement) -> bool:
    """Return whether this is the ack of a message at its first attempt without a unique key."""
    if type(settlement) is not Ack:
        return False
    envelope = settlement.delivery.envelope
    return not (envelope.attempt or envelope.hop or envelope.generation) and envelope.unique is None


def settle_arguments(settlement: Settlement, keys: Keys) -> tuple[Any, ...]:
    """Return the arguments of ``settling.lua`` for a settlement."""
    delivery = settlement.delivery
    if isinstance(settlement, Ack):
        return (b"a", delivery.id, delivery.token, pack_step(delivery.envelope), _key_to_free(delivery))
    if isinstance(settlement, Release):
        delay = micros(max(settlement.delay, 0.0))
        return (b"r", delivery.id, delivery.token, f"{delay:.0f}", int(settlement.counted))
    if isinstance(settlement, Replace):
        return _retry(settlement, keys)
    why = death_record(reason=settlement.reason, holder=settlement.holder, error=settlement.error)
    return (b"d", delivery.id, delivery.token, _key_to_free(delivery), why)


def _retry(retry: Replace, keys: Keys) -> tuple[Any, ...]:
    delivery, envelope = retry.delivery, retry.envelope
    elsewhere = envelope.queue != delivery.queue
    return (
        b"y",
        delivery.id,
        delivery.token,
        pack_step(delivery.envelope),
        _key_to_free(delivery),
        keys.queue(envelope.queue) if elsewhere else b"",
        pack_envelope(envelope),
        pack_due(envelope),
        pack_sent_at(delivery.sent_at),
    )


def _key_to_free(delivery: Delivery) -> str | bytes:
    """Return the unique key that the end of the message frees; the claim already freed a key held until the start."""
    unique = delivery.envelope.unique
    return unique.key if unique is not None and unique.until == "done" else b""


def commit_arguments(items: Sequence[CommitItem], keys: Keys) -> tuple[list[str], list[Any]]:
    """Return the queues of *items*, and the arguments of ``commit.lua``."""
    places: dict[str, int] = {}
    arguments: list[Any] = []

    def place(queue: str) -> int:
        return places.setdefault(queue, len(places) + 1)

    for item in items:
        arguments.append(b"I")
        if item.settlement is not None:
            arguments += (b"S", place(item.settlement.delivery.queue), *settle_arguments(item.settlement, keys))
        for record in item.records:
            ttl = milliseconds(record.ttl)
            arguments += (b"R", record.key, pack_record(record), ttl)
        for join in item.joins:
            then = follow_ups(join)
            size_and_ttl = (join.size, milliseconds(join.ttl), len(then))
            arguments += (b"J", keys.group(join.group), join.member, *size_and_ttl)
            for envelope in then:
                arguments += (b"E", place(envelope.queue), *send_arguments(envelope))
        for envelope in item.sends:
            arguments += (b"E", place(envelope.queue), *send_arguments(envelope))
    return list(places), arguments


@lru_cache(maxsize=256)
def milliseconds(seconds: float | None) -> int:
    """Return a lifetime for the scripts in milliseconds: at least 1, or -1 for no limit."""
    if seconds is None:
        return -1
    return max(1, math.ceil(min(seconds * 1000, 1e14)))


def follow_ups(join: Join) -> list[Envelope]:
    """Return the envelopes that *join* sends when its group is complete."""
    return [envelope for envelope in join.then if isinstance(envelope, Envelope)]


def envelopes_of(items: Iterable[CommitItem]) -> list[Envelope]:
    """Return all envelopes that *items* may send."""
    sends: list[Envelope] = []
    for item in items:
        sends += item.sends
        for join in item.joins:
            sends += follow_ups(join)
        if isinstance(item.settlement, Replace):
            sends.append(item.settlement.envelope)
    return sends
