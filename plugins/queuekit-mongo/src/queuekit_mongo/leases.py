"""Extend leases, and reclaim those that have expired; promote delayed messages of lanes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import pymongo
from bson.datetime_ms import DatetimeMS
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure, PyMongoError

from queuekit.broker import Lease
from queuekit_mongo import lanes
from queuekit_mongo.engine import Engine
from queuekit_mongo.failures import WRITE_CONFLICT
from queuekit_mongo.layout import (
    CLAIM_FIELDS,
    DELAYED,
    DELAYED_ORDER,
    IS_DELAYABLE,
    LEASED,
    PLACE_ORDER,
    WAITING,
    WHOLE,
    Doc,
    at,
    claim_of,
    hashable,
    message_id,
    moment,
)
from queuekit_mongo.settling import PUT_BACK

__all__ = ["Upkeep", "extend", "until"]

MAX_UPKEEP = 1_000
"""Most expired leases and delays that one round ends."""
PERIOD = 2.0
"""Seconds between two checks for expired leases if none is known to expire earlier."""
FAIR_PERIOD = 0.25
"""The same where lanes take turns: there, a round makes delayed messages ready as well."""
SWEEP = 30.0
"""Seconds between two removals of lanes without messages."""
MOMENT = 0.5
"""Seconds to reclaim the expired leases of one holder, or to extend some, before others do not wait for that."""
_PORTION = 15
"""Queues per query for their next delayed message: the server merges at most 200 ranges, ten for each queue."""
_HELD_PORTION = 100
"""Queues per query for their next lease that ends: two ranges for each queue."""
_EARLIEST, _LATEST = moment(0.001), moment(1e15)
_RECLAIMED: list[Doc] = [
    {"$set": {"state": WAITING, "due": PUT_BACK, "crashes": {"$add": [WHOLE("$crashes"), 1]}}},
    {"$unset": list(CLAIM_FIELDS)},
]


class Upkeep:
    """Reclaims expired leases, and schedules its next round. One for each set of queues.

    Args:
        engine: Stores the messages.
        queues: The queues.
    """

    def __init__(self, engine: Engine, queues: Sequence[str]) -> None:
        self._engine = engine
        self._queues = list(queues)
        self._again_at = 0.0
        self._is_fair = False
        self._sweep_at = time.monotonic() + SWEEP
        self._is_blocked = False
        self.is_stale = False
        """Whether a notification may have moved the next event."""

    def run(self, *, now: bool) -> int:
        """End leases and delays whose time has come if a round is due or *now*; return how many there were."""
        if not now and time.monotonic() < self._again_at:
            return 0
        self.is_stale = self._is_blocked = False
        held, taken = self._first_held(), 0
        if held is not None and held <= self._engine.time.latest():
            taken = self._end_held()
            held = self._first_held()
        if time.monotonic() >= self._sweep_at:
            self._sweep()
        delayed = self._first_delayed()
        self._again_at = time.monotonic() + (0.0 if taken >= MAX_UPKEEP else self._until_event(held, delayed))
        return taken

    def _until_event(self, *events: float | None) -> float:
        """Return the seconds until the first of *events*, at most :data:`PERIOD`."""
        event = min((each for each in events if each is not None), default=None)
        period = FAIR_PERIOD if self._is_fair else PERIOD
        if event is None or self._is_blocked:
            return period
        return min(period, max(0.0, event - self._engine.time.earliest()))

    def expect(self, seconds: float) -> None:
        """Run again in *seconds* at the latest: a new lease may end then."""
        self._again_at = min(self._again_at, time.monotonic() + seconds)

    def share(self) -> None:
        """Note that the queues have lanes."""
        self._is_fair = True
        self._sweep_at = min(self._sweep_at, time.monotonic() + SWEEP)

    def _sweep(self) -> None:
        """Remove lanes without messages; go on with that while there are lanes."""
        self._is_fair = lanes.sweep(self._engine, self._queues)
        self._sweep_at = time.monotonic() + SWEEP if self._is_fair else math.inf

    def pause(self) -> float:
        """Return the seconds until a message may become ready, or upkeep is due."""
        return max(0.001, self._again_at - time.monotonic())

    def _end_held(self) -> int:
        expired = self._held(self._queues, until=moment(self._engine.time.latest()))
        messages = self._engine.messages
        order = {"sort": PLACE_ORDER, "limit": MAX_UPKEEP, "batch_size": MAX_UPKEEP}
        found = list(messages.find(expired, {"session": True, "state": True}, **order))
        if not found:
            return 0
        self._engine.kill_sessions(doc.get("session") for doc in found)
        by_holder: dict[Any, list[Any]] = {}
        for doc in found:
            if doc["state"] == LEASED:
                by_holder.setdefault(hashable(doc.get("session")), []).append(doc["_id"])
        delayed = [doc["_id"] for doc in found if doc["state"] == DELAYED]
        promoted = lanes.promote(self._engine, delayed) if delayed else 0
        return promoted + sum(map(self._give_back, by_holder.values()))

    def _give_back(self, ids: list[Any]) -> int:
        """Return messages of one holder whose leases have ended to their queue; return how many there were.

        If a process died while it extended those of a holder that hangs, they are locked for as long as the server lets
        a transaction live. Other messages do not wait for that.
        """
        messages = self._engine.messages
        surely = {"_id": {"$in": ids}, "state": LEASED, "$expr": {"$lte": ["$until", "$$NOW"]}}
        try:
            with pymongo.timeout(MOMENT):
                return self._engine.insist(lambda: messages.update_many(surely, _RECLAIMED)).modified_count
        except PyMongoError as error:
            if not error.timeout:
                raise
            self._is_blocked = True
            return 0

    def _first_held(self) -> float | None:
        """Return when the next lease, or delay in a lane, ends, by the server's clock."""
        wanted = (self._held(some) for some in _portions(self._queues, _HELD_PORTION))
        docs = [self._engine.messages.find_one(each, {"until": True}, sort=PLACE_ORDER) for each in wanted]
        return min((at(doc.get("until")) for doc in docs if doc is not None), default=None)

    def _first_delayed(self) -> float | None:
        """Return when the next delayed message is due, by the server's clock."""
        later = moment(self._engine.time.earliest())
        moments = []
        for some in _portions(self._queues, _PORTION):
            wanted = {"queue": {"$in": some}, **IS_DELAYABLE, "due": {"$gt": later}}
            doc = self._engine.messages.find_one(wanted, {"due": True}, sort=DELAYED_ORDER)
            moments += [at(doc.get("due"))] if doc is not None else []
        return min(moments, default=None)

    def _held(self, queues: Sequence[str], *, until: DatetimeMS = _LATEST) -> Doc:
        """Return the filter for leases and delays that end by *until*; a value that is not a time does not match."""
        held = {"$in": [LEASED, DELAYED]}
        return {"queue": {"$in": queues}, "state": held, "until": {"$gt": _EARLIEST, "$lte": until}}


def _portions(queues: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (queues[first : first + size] for first in range(0, len(queues), size))


def until(lease: float, session: object = None) -> list[Doc]:
    """Return the update that makes a lease end *lease* seconds from now, and names the *session* of its new holder."""
    fields: Doc = {"until": {"$add": ["$$NOW", int(lease * 1000)]}}
    return [{"$set": fields if session is None else fields | {"session": session}}]


def extend(engine: Engine, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
    """Make *leases* end *lease* seconds from now, and return those already lost.

    This takes no transaction: a process that is killed in one leaves it open, and nobody knows its session. A process
    that claims messages may commit what it has extended, so it is named in the place of who has claimed that.
    """
    if not engine.transacts():
        return _extend(engine, leases, lease)
    try:
        return engine.insist(lambda: _extend(engine, leases, lease, within=MOMENT))
    except PyMongoError as error:
        if not error.timeout:
            raise
    return _extend_unlocked(engine, leases, lease=lease)


def _extend_unlocked(engine: Engine, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
    """Extend those of *leases* whose messages no transaction has locked, and return those already lost.

    A message that its holder is committing is locked. A plain update waits for it, and delays the other leases; a
    transaction fails at once. So the batch is halved until each locked message is alone. It is being settled, and does
    not need its lease extended.
    """
    try:
        return engine.in_one_transaction(lambda session: _extend(engine, leases, lease, session))
    except OperationFailure as error:
        if error.code != WRITE_CONFLICT:
            raise
    if len(leases) == 1:
        return []
    middle = len(leases) // 2
    return [lost for part in (leases[:middle], leases[middle:]) for lost in _extend_unlocked(engine, part, lease=lease)]


def _extend(
    engine: Engine,
    leases: Sequence[Lease],
    lease: float,
    session: ClientSession | None = None,
    *,
    within: float | None = None,
) -> list[Lease]:
    by_claim: dict[str, list[str]] = {}
    for one in leases:
        by_claim.setdefault(claim_of(one.token), []).append(message_id(one.queue, one.id))
    change, matched = until(lease, engine.claims_as), 0
    for claim, ids in by_claim.items():
        held = {"_id": {"$in": ids}, "claim": claim, "state": LEASED}
        messages = engine.messages
        with nullcontext() if within is None else pymongo.timeout(within):
            matched += messages.update_many(held, change, session=session).matched_count
    if matched == len(leases):
        return []
    ids = [message_id(one.queue, one.id) for one in leases]
    found = engine.messages.find({"_id": {"$in": ids}, "state": LEASED}, {"claim": True}, session=session)
    still = {(doc["_id"], doc.get("claim")) for doc in found}
    return [one for one in leases if (message_id(one.queue, one.id), claim_of(one.token)) not in still]
