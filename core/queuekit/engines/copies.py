"""Runs one copy of each follow-up, for a broker that keeps a repeated send as one more message.

The sender of a follow-up may send it again after a crash, or once for each message of a redelivered batch. The ids
are derived, so all copies have the same one. The copy that is received first takes a record ``once:<id>`` before its
body may run. Another copy that finds the record held is delayed until the lease of the holder would be over, and one
that finds the step done is dropped. Messages that are never sent twice by design have no record and cost nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from queuekit.backend import Backend, Condition, Record
from queuekit.broker import Ack, Broker, Dead, Delivery, Lease, Release, Replace, Settlement
from queuekit.engines.wrapping import WrappedBroker
from queuekit.envelope import MAX_HEADER_BYTES, Envelope, split_frame
from queuekit.errors import DecodeError, UnavailableError
from queuekit.ids import is_name
from queuekit.states import State, rank
from queuekit.values import frozen
from queuekit.wire.records import result_key

__all__ = ["ONCE_TTL", "WithoutCopies"]

ONCE_TTL = 86_400.0
"""Seconds for which a step is remembered as done; a later copy still finds the result, if one is stored."""
_PREFIX = "queuekit-once:"
_BITS = ((10, "generation"), (20, "attempt"), (22, "hop"))
"""Width of each number in a rank; with the bit for "done" it stays below 2**53, the limit of a record's rank."""
_SOON = 1.0
"""Seconds after which a message is delivered again if its record could not be read."""
_FRESH = 0.75
"""Fraction of a lease; a record with more time left is extended only at the next renewal."""


@frozen
class _Claim:
    """The record that a delivery needs before its body may run."""

    id: str
    rank: int
    """Rank of the record while it is held; one more once the step is done."""
    token: str
    """Token of the inner broker."""

    @property
    def key(self) -> str:
        """Key of the record."""
        return "once:" + self.id

    @property
    def holder(self) -> bytes:
        """Body of the record while this delivery holds it."""
        return hashlib.sha256(self.token.encode()).hexdigest()[:32].encode()

    def held(self, ttl: float) -> Record:
        """Return the record of this delivery."""
        return Record(key=self.key, body=self.holder, ttl=ttl, rank=self.rank)

    def done(self) -> Record:
        """Return the record that marks this step, and all before it, as done."""
        return Record(key=self.key, ttl=ONCE_TTL, rank=self.rank + 1)

    def __str__(self) -> str:
        """Return the token under which a worker knows the delivery."""
        return f"{_PREFIX}{self.rank:x}:{self.token}"


class WithoutCopies(WrappedBroker):
    """A broker that hands out one copy of a follow-up at a time, and none once it is done.

    Args:
        broker: Keeps the messages; ``capabilities.dedup`` is false.
        backend: Keeps the records.
    """

    def __init__(self, broker: Broker, backend: Backend) -> None:
        super().__init__(broker)
        self._backend = backend
        self._kept: list[tuple[float, Delivery]] = []
        """Copies that wait here because the service cannot delay, each with the monotonic time until which it waits."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Receive, and hold back copies of messages that are leased or done."""
        return self.received(self._broker.receive(queues, limit=limit, wait=wait, lease=lease), lease)

    def received(self, deliveries: list[Delivery], lease: float) -> list[Delivery]:
        """Keep back the copies of what is leased or done, and what belongs to messages that have ended."""
        if self._kept:
            self._release_due(time.monotonic())
        deliveries = self._without_ended(deliveries)
        claims = [claim_of(delivery) for delivery in deliveries]
        pairs = [(one, claim) for one, claim in zip(deliveries, claims, strict=True) if claim is not None]
        if not pairs:
            return deliveries
        taken = self._take_or_delay(pairs, lease, alone=len(pairs) == len(deliveries))
        return [
            one if claim is None else attrs.evolve(one, token=str(claim))
            for one, claim in zip(deliveries, claims, strict=True)
            if claim is None or one.token in taken
        ]

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Make *leases* end later, and the records with them."""
        claims = [read_claim(one.id, one.token) for one in leases]
        if not any(claims):
            return self._broker.extend(leases, lease=lease)
        outer = {
            one if claim is None else one._replace(token=claim.token): one
            for one, claim in zip(leases, claims, strict=True)
        }
        lost = [outer[one] for one in self._broker.extend(list(outer), lease=lease)]
        gone = {one.token for one in lost}
        with contextlib.suppress(UnavailableError):
            self._extend_records([one for one in claims if one is not None and str(one) not in gone], lease)
        return lost

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Settle, and record which steps are done.

        Acks are recorded before they are settled, so that a crash in between leaves no copy that runs. Retries and dead
        letters are recorded after, so that a crash in between loses nothing.
        """
        claims = [read_claim(each.delivery.id, each.delivery.token) for each in settlements]
        if not any(claims):
            return self._broker.settle(settlements)
        inner = _unwrapped(settlements, claims)
        pairs = [(each, claim) for each, claim in zip(settlements, claims, strict=True) if claim is not None]
        self._note(claim for each, claim in pairs if isinstance(each, Ack))
        self._free([(each, claim) for each, claim in pairs if isinstance(each, Release)])
        lost = {one.token for one in self._broker.settle(inner)}
        moved = [claim for each, claim in pairs if isinstance(each, Replace | Dead) and claim.token not in lost]
        self._note(moved)
        return [each.delivery for each, one in zip(settlements, inner, strict=True) if one.delivery.token in lost]

    def _without_ended(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Drop copies without a body of messages that have ended: the copy that ran has deleted the body of both.

        A crash in the middle of a move leaves such a copy. Any other message without its body is quarantined as usual.
        """
        unread = [one for one in deliveries if one.unread and is_name(one.envelope.id)]
        if not unread:
            return deliveries
        try:
            found = self._backend.get([result_key(one.envelope.id) for one in unread])
        except UnavailableError:
            return deliveries
        ended = [one for one in unread if _has_ended(one.envelope, found.get(result_key(one.envelope.id)))]
        if ended:
            self._broker.settle([Ack(one) for one in ended])
        return [one for one in deliveries if one not in ended]

    # -- records

    def _take_or_delay(self, pairs: Sequence[tuple[Delivery, _Claim]], lease: float, *, alone: bool) -> set[str]:
        """Take the records; while the backend is unavailable, delay the deliveries, and raise if they came *alone*."""
        try:
            return self._take(pairs, lease)
        except UnavailableError:
            with contextlib.suppress(UnavailableError):
                self._delay([(one, _SOON) for one, _ in pairs], lease)
            if alone:
                raise
            return set()

    def _take(self, pairs: Sequence[tuple[Delivery, _Claim]], lease: float) -> set[str]:
        """Take the records, settle the deliveries that get none, and return the tokens of the others."""
        written = self._backend.put([claim.held(lease) for _, claim in pairs], condition=Condition.NEWER)
        taken = {one.token for (one, _), yes in zip(pairs, written, strict=True) if yes}
        refused = [(one, claim) for one, claim in pairs if one.token not in taken]
        return taken | self._take_refused(refused, lease) if refused else taken

    def _take_refused(self, refused: Sequence[tuple[Delivery, _Claim]], lease: float) -> set[str]:
        """Drop copies of done steps, delay copies of held ones, and return the tokens that hold a record."""
        taken: set[str] = set()
        found = self._backend.get([claim.key for _, claim in refused])
        done: list[Settlement] = []
        waiting: list[tuple[Delivery, float]] = []
        for delivery, claim in refused:
            record = found.get(claim.key)
            if record is not None and record.rank > claim.rank:
                done.append(Ack(delivery))
            elif record is not None and record.body == claim.holder:
                taken.add(delivery.token)  # the reply to an earlier write was lost; the record is this delivery's
            else:
                waiting.append((delivery, _left(record, lease)))
        if done:
            self._broker.settle(done)
        self._delay(waiting, lease)
        return taken

    def _delay(self, waiting: Sequence[tuple[Delivery, float]], lease: float) -> None:
        """Delay copies by so many seconds: in the broker, or here, under their leases."""
        if self.capabilities.delay:
            if waiting:
                longest = float("inf") if self.limits.max_delay is None else self.limits.max_delay
                self._broker.settle([Release(one, delay=min(delay, longest)) for one, delay in waiting])
            return
        now = time.monotonic()
        self._kept += [(now + min(delay, lease / 3), one) for one, delay in waiting]

    def _release_due(self, now: float) -> None:
        """Release the copies whose wait here has ended by *now*."""
        kept, self._kept = self._kept, []
        self._kept += [(until, one) for until, one in kept if until > now]
        self._broker.settle([Release(one) for until, one in kept if until <= now])

    def close(self) -> None:
        """Release the copies that wait here, and close the inner broker; the backend is closed by its owner."""
        if self._kept:
            with contextlib.suppress(UnavailableError):
                self._release_due(float("inf"))
        self._broker.close()

    def _extend_records(self, claims: Sequence[_Claim], lease: float) -> None:
        """Extend the records that *claims* still hold."""
        held = [
            attrs.evolve(claim.held(lease), version=record.version)
            for claim, record in self._own(claims)
            if record.ttl is None or record.ttl < _FRESH * lease
        ]
        if held:
            self._backend.put_same(held)

    def _free(self, releases: Sequence[tuple[Settlement, _Claim]]) -> None:
        """Free the records of released messages; after a release with a delay, the record stays unheld for as long."""
        delays = {claim.key: each.delay for each, claim in releases if isinstance(each, Release)}
        away: list[Record] = []
        for claim, record in self._own([claim for _, claim in releases]):
            delay = delays[claim.key]
            if delay > 0:
                away.append(attrs.evolve(claim.held(delay), body=b"away", version=record.version))
            else:
                self._backend.delete([claim.key], expect=record.version)
        if away:
            self._backend.put_same(away)

    def _own(self, claims: Sequence[_Claim]) -> list[tuple[_Claim, Record]]:
        """Return the claims that still hold their records, with the records."""
        found = self._backend.get([claim.key for claim in claims]) if claims else {}
        pairs = [(claim, found.get(claim.key)) for claim in claims]
        return [
            (claim, record)
            for claim, record in pairs
            if record is not None and record.rank == claim.rank and record.body == claim.holder
        ]

    def _note(self, claims: Iterable[_Claim]) -> None:
        """Record that the steps of *claims* are done."""
        records = [claim.done() for claim in claims]
        if records:
            self._backend.put(records, condition=Condition.NEWER)


def claim_of(delivery: Delivery) -> _Claim | None:
    """Return the claim that *delivery* needs before it may run; ``None`` if its sender never repeats the send."""
    envelope = delivery.envelope
    body = envelope.body
    end = body.find(b"\n", 0, MAX_HEADER_BYTES)
    if body.find(b'"parent":', 0, end) < 0 and body.find(b'"cron-time":', 0, end) < 0:
        return None
    header, rank = _header(body), _rank(envelope)
    if header is None or rank is None or not is_name(envelope.id) or not _is_derived(header):
        return None
    return _Claim(id=envelope.id, rank=rank, token=delivery.token)


def _has_ended(envelope: Envelope, record: Record | None) -> bool:
    """Return whether *record* says that this message, not an earlier generation of it, has ended."""
    own = rank(State.STARTED, attempt=max(0, envelope.attempt), generation=max(0, envelope.generation))
    return record is not None and record.final and record.rank >= own


def _unwrapped(settlements: Sequence[Settlement], claims: Sequence[_Claim | None]) -> list[Settlement]:
    """Return *settlements* with the tokens of the inner broker."""
    return [
        each if claim is None else attrs.evolve(each, delivery=attrs.evolve(each.delivery, token=claim.token))
        for each, claim in zip(settlements, claims, strict=True)
    ]


def read_claim(id: str, token: str) -> _Claim | None:
    """Return the claim that the token of a delivery holds; ``None`` if it needs no record."""
    if not token.startswith(_PREFIX):
        return None
    rank, inner = token.removeprefix(_PREFIX).split(":", 1)
    return _Claim(id=id, rank=int(rank, 16), token=inner)


def _header(body: bytes) -> dict[str, Any] | None:
    try:
        return split_frame(body)[0]
    except DecodeError:
        return None


def _is_derived(header: dict[str, Any]) -> bool:
    """Return whether the id is derived from a parent's id, or from a schedule and a tick."""
    if header.get("parent"):
        return True
    headers = header.get("headers")
    return type(headers) is dict and "cron-time" in headers


def _rank(envelope: Envelope) -> int | None:
    """Return the position of an attempt among all of its message, an even number; ``None`` if it is out of range."""
    rank = 0
    for bits, name in _BITS:
        value: int = getattr(envelope, name)
        if not 0 <= value < 1 << bits:
            return None
        rank = rank << bits | value
    return rank << 1


def _left(record: Record | None, lease: float) -> float:
    """Return the seconds for which another delivery may still hold the record."""
    return _SOON if record is None or record.ttl is None else max(_SOON, min(record.ttl, lease))
