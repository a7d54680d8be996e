"""Taking messages under a lease, a batch at a time, and taking back what nobody holds any more.

A claim has three steps: find the head of the queue, mark what is still there with a token of the claim, read what was
won. Workers that all reach for the same head would win little each; who loses much therefore picks a share further down
the queue at random, and keeps to it while it wins there; now and then it claims from the head all the same, so that
what comes first does not wait for somebody's share to be there. A worker alone takes the messages in their exact order.
One that was asleep and is called takes the first message in a single step, and the others with its next claim.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import attrs
import pymongo
from bson.datetime_ms import DatetimeMS
from bson.errors import InvalidBSON
from pymongo import ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure, PyMongoError

from queuekit.broker import Delivery, Lease
from queuekit_mongo.documents import (
    CLAIM_FIELDS,
    CLAIM_ORDER,
    DEAD,
    DELAYED_ORDER,
    IS_DELAYABLE,
    JUST_DIED,
    LEASED,
    PLACE_ORDER,
    WAITING,
    Doc,
    MalformedError,
    at,
    claim_of,
    delivery_of,
    hashable,
    message_id,
    moment,
)
from queuekit_mongo.engine import Engine
from queuekit_mongo.failures import WRITE_CONFLICT
from queuekit_mongo.settling import NOW_DUE, WHOLE

__all__ = ["Claimer", "Upkeep", "extend"]

WIDEST = 32
"""How many times its share a worker looks down a contested queue."""
FARTHER = 8
"""How many times as far it looks after it has lost: two shares side by side still meet, as the head moves on."""
CALM = (8, 16)
"""Full wins in a row after which it looks less far, and how many at most if it lost by that."""
HEAD_EVERY = 0.5
"""Seconds after which a worker with a share down the queue reaches for the head again."""
MAX_UPKEEP = 1_000
"""Most expired leases that one round takes back."""
PERIOD = 2.0
"""Seconds after which a worker looks for expired leases even if it knows of none."""
MOMENT = 0.5
"""Seconds that expired leases of one holder may take to be taken back, before those of others have their turn."""
_RETRIES = 50
_PORTION = 15
"""Queues asked at once for their next delayed message: the server merges at most 200 ranges, ten for each."""
_EARLIEST, _LATEST = moment(0.001), moment(1e15)
_TAKEN_BACK: list[Doc] = [
    {"$set": {"state": WAITING, "crashes": {"$add": [WHOLE("$crashes"), 1]}}},
    {"$unset": list(CLAIM_FIELDS)},
]


@attrs.frozen
class _Claim:
    """What one claim has asked for, and may have won."""

    queue: str
    claim: str
    ids: list[Any] | None
    """What was asked for; ``None``: one message of the queue, whichever was the first."""

    def parts(self, size: int) -> tuple[_Claim, _Claim | None]:
        """Return what it asked for first, at most *size*, and the rest if there is any."""
        if self.ids is None or len(self.ids) <= size:
            return self, None
        return attrs.evolve(self, ids=self.ids[:size]), attrs.evolve(self, ids=self.ids[size:])


class Claimer:
    """Claims for one broker.

    Args:
        engine: Where the messages are.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._breadth = 1
        self._share = 0
        """Which part of the breadth it reaches for."""
        self._calm = 0
        self._enough = CALM[0]
        self._head_at: dict[str, float] = {}
        """Monotonic seconds of the last reach for the head of each queue."""
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._unsure: list[_Claim] = []
        self._lock = threading.Lock()

    def claim(self, queue: str, *, limit: int, lease: float) -> list[Delivery]:
        """Return up to *limit* messages of *queue*, in their order; malformed ones go to the dead letters."""
        for _ in range(_RETRIES):
            share = self._share_of(queue)
            ids = self._reach(queue, limit, share)
            if not ids:
                return []
            won = self._mark(queue, ids, lease)
            if share == self._share:
                # Who else is at the head tells nothing of who is at its share.
                self._learn(asked=len(ids), won=len(won))
            deliveries = self._read(won)
            if deliveries:
                return deliveries
        return []

    def claim_first(self, queue: str, *, lease: float) -> list[Delivery]:
        """Return the first message of *queue*, if one is ready: in one round trip, for a worker that was woken."""
        claim = self._engine.new_mark()
        wanted = self._ready(queue) | {"$expr": NOW_DUE}
        change = _leased(claim, lease, self._engine.session_id())
        with self._in_doubt(_Claim(queue, claim, ids=None)):
            try:
                doc = self._engine.messages.find_one_and_update(
                    wanted, change, sort=CLAIM_ORDER, return_document=ReturnDocument.AFTER
                )
            except InvalidBSON:
                return self._read(self._won(_Claim(queue, claim, ids=None)))
        return self._read([doc] if doc is not None else [])

    def recover(self, queues: Sequence[str], *, limit: int, lease: float) -> list[Delivery]:
        """Return up to *limit* messages of *queues* that claims have won whose reply was lost."""
        if self._pid != os.getpid():
            self._start()  # what is in doubt is the parent's to look for
        deliveries: list[Delivery] = []
        while len(deliveries) < limit and (one := self._take_unsure(queues)) is not None:
            part, rest = one.parts(limit - len(deliveries))
            try:
                with self._in_doubt(one):
                    self._engine.messages.update_many(_held(part), _until(lease))
                    deliveries += self._read(self._won(part))
            except PyMongoError:
                if not deliveries:
                    raise
                break  # what is in hand is leased, and must not be dropped
            if rest is not None:
                with self._lock:
                    self._unsure.append(rest)
        return deliveries

    def _take_unsure(self, queues: Sequence[str]) -> _Claim | None:
        """Return a claim in doubt, which is the caller's from then on."""
        if not self._unsure:
            return None
        with self._lock:
            found = next((one for one in self._unsure if one.queue in queues), None)
            if found is not None:
                self._unsure.remove(found)
            return found

    @contextmanager
    def _in_doubt(self, claim: _Claim) -> Iterator[None]:
        """Remember *claim*, to be looked for later, if what is done in here breaks off."""
        try:
            yield
        except PyMongoError:
            with self._lock:
                self._unsure.append(claim)
            raise

    def _share_of(self, queue: str) -> int:
        """Return which part of *queue* to reach for; 0 is the head."""
        now = time.monotonic()
        if self._share and now < self._head_at.get(queue, 0.0) + HEAD_EVERY:
            return self._share
        self._head_at[queue] = now
        return 0

    def _reach(self, queue: str, limit: int, share: int) -> list[Any]:
        """Return the ids to reach for."""
        wanted = self._ready(queue)
        for skip in dict.fromkeys((share * limit, 0)):
            found = self._engine.messages.find(
                wanted, {"_id": True}, sort=CLAIM_ORDER, skip=skip, limit=limit, batch_size=limit
            )
            if ids := [doc["_id"] for doc in found]:
                return ids
            self._share = 0  # the queue is not as long as that, and the next look needs no second one
        return []

    def _ready(self, queue: str) -> Doc:
        """Return the filter of what may be ready in *queue*, as far as is known here of the server's time."""
        latest = moment(self._engine.time.latest())
        # Not greater, rather than less or equal: so that a due time of another type is found as well, and quarantined.
        return {"queue": queue, "state": WAITING, "due": {"$not": {"$gt": latest}}}

    def _mark(self, queue: str, ids: list[Any], lease: float) -> list[Doc]:
        """Mark those of *ids* that still wait, and return them as they are now."""
        mine = _Claim(queue, self._engine.new_mark(), ids)
        wanted = {"_id": {"$in": ids}, "state": WAITING, "$expr": NOW_DUE}
        change = _leased(mine.claim, lease, self._engine.session_id())
        messages = self._engine.messages
        with self._in_doubt(mine):
            if len(ids) == 1:
                # Mostly a worker that has looked by itself: one round trip less.
                after = ReturnDocument.AFTER
                with suppress(InvalidBSON):
                    doc = self._engine.insist(
                        lambda: messages.find_one_and_update(wanted, change, return_document=after)
                    )
                    return [doc] if doc is not None else self._won(mine)
                return self._won(mine)
            self._engine.insist(lambda: messages.update_many(wanted, change))
            return self._won(mine)

    def _won(self, one: _Claim) -> list[Doc]:
        try:
            found = list(self._engine.messages.find(_held(one), batch_size=len(one.ids or ()) + 1))
        except InvalidBSON:
            found = self._readable(one)
        docs = {hashable(doc["_id"]): doc for doc in found}
        return [docs[id] for id in map(hashable, one.ids) if id in docs] if one.ids else list(docs.values())

    def _readable(self, one: _Claim) -> list[Doc]:
        """Return what was won, one by one; what holds bytes that nobody can read is buried where it lies (QK9)."""
        messages = self._engine.messages
        docs: list[Doc] = []
        for id in [doc["_id"] for doc in messages.find(_held(one), {"_id": True})]:
            try:
                docs += messages.find({"_id": id, "claim": one.claim})
            except InvalidBSON as error:
                bury(self._engine, {"_id": id, "claim": one.claim}, f"it cannot be read: {error}")
        return docs

    def _learn(self, *, asked: int, won: int) -> None:
        """Look further where half of what was asked for is lost, and less far where nobody else is about."""
        if won * 2 <= asked:
            if self._breadth == 1:
                self._enough = min(self._enough * 2, CALM[1])
            self._breadth = min(self._breadth * FARTHER, WIDEST)
            self._share = self._engine.random.randrange(self._breadth)
            self._calm = 0
        elif won == asked:
            self._calm += 1
            if self._calm >= self._enough:
                self._enough = CALM[0] if self._breadth == 1 else self._enough
                self._breadth = max(1, self._breadth // 2)
                self._share %= self._breadth
                self._calm = 0

    def _read(self, docs: Sequence[Doc]) -> list[Delivery]:
        """Return *docs* as deliveries; what is no message is buried where it lies (QK9)."""
        deliveries = []
        for place, doc in enumerate(docs):
            try:
                deliveries.append(delivery_of(doc, place))
            except MalformedError as error:
                # If that fails its lease will end, and whoever claims it next does it: the others are not to wait.
                with suppress(PyMongoError):
                    bury(self._engine, doc, str(error))
        return deliveries


def _held(one: _Claim) -> Doc:
    where: Doc = {"queue": one.queue} if one.ids is None else {"_id": {"$in": one.ids}}
    return where | {"claim": one.claim, "state": LEASED}


def _until(lease: float) -> list[Doc]:
    """Return the change that makes a lease end *lease* seconds from now."""
    return [{"$set": {"until": {"$add": ["$$NOW", int(lease * 1000)]}}}]


def _leased(claim: str, lease: float, session: object) -> list[Doc]:
    """Return the change that gives a message to *claim*."""
    fields: Doc = {
        "state": LEASED,
        "claim": claim,
        "number": {"$add": [WHOLE("$number"), 1]},
        "claimed_at": "$$NOW",
        "until": {"$add": ["$$NOW", int(lease * 1000)]},
        "key": {"$cond": [{"$eq": ["$unique.until", "start"]}, "$$REMOVE", "$key"]},
    }
    if session is not None:
        fields["session"] = session
    return [{"$set": fields}]


def bury(engine: Engine, doc: Doc, why: str) -> None:
    """Move a claimed document that is no message to the dead letters, as it is."""
    change: Doc = {
        "$set": {"state": DEAD, "reason": "malformed", "error": why, "holder": ""},
        "$currentDate": JUST_DIED,
        "$unset": dict.fromkeys(("claim", "session", "key"), True),
    }
    engine.messages.update_one({"_id": doc["_id"], "claim": doc["claim"]}, change)


class Upkeep:
    """Takes back expired leases, and knows when to look again. One for each set of queues.

    Args:
        engine: Where the messages are.
        queues: Whose messages.
    """

    def __init__(self, engine: Engine, queues: Sequence[str]) -> None:
        self._engine = engine
        self._queues = list(queues)
        self._portions = [self._queues[first : first + _PORTION] for first in range(0, len(queues), _PORTION)]
        self._again_at = 0.0
        self._is_blocked = False
        self.is_stale = False
        """Whether something was heard that may have moved the next event."""

    def run(self, *, now: bool) -> int:
        """Take back what has expired, if it is time for it or is to be done *now*; return how much that was."""
        if not now and time.monotonic() < self._again_at:
            return 0
        self.is_stale = self._is_blocked = False
        lease, taken = self._first_lease(), 0
        if lease is not None and lease <= self._engine.time.latest():
            taken = self._take_back()
            lease = self._first_lease()
        event = min((each for each in (lease, self._first_delayed()) if each is not None), default=None)
        wait = PERIOD if event is None else min(PERIOD, max(0.0, event - self._engine.time.earliest()))
        if self._is_blocked:
            wait = PERIOD
        self._again_at = time.monotonic() + (0.0 if taken >= MAX_UPKEEP else wait)
        return taken

    def expect(self, seconds: float) -> None:
        """Look again in *seconds* at the latest: a lease that was just given may end then."""
        self._again_at = min(self._again_at, time.monotonic() + seconds)

    def pause(self) -> float:
        """Return the seconds until something may have become ready, or has to be looked after, by itself."""
        return max(0.001, self._again_at - time.monotonic())

    def _take_back(self) -> int:
        expired = self._leased(until=moment(self._engine.time.latest()))
        messages = self._engine.messages
        order = {"sort": PLACE_ORDER, "limit": MAX_UPKEEP, "batch_size": MAX_UPKEEP}
        found = list(messages.find(expired, {"session": True}, **order))
        if not found:
            return 0
        self._engine.kill_sessions(doc.get("session") for doc in found)
        by_holder: dict[Any, list[Any]] = {}
        for doc in found:
            by_holder.setdefault(hashable(doc.get("session")), []).append(doc["_id"])
        return sum(map(self._give_back, by_holder.values()))

    def _give_back(self, ids: list[Any]) -> int:
        """Make those of *ids* wait again whose leases have ended, all of one holder, and return how many that were.

        Where its supervisor died in the middle of extending them, they are locked for as long as the server lets a
        transaction live. What others held, and what waits, is not to wait for that.
        """
        surely = {"_id": {"$in": ids}, "state": LEASED, "$expr": {"$lte": ["$until", "$$NOW"]}}
        try:
            with pymongo.timeout(MOMENT):
                return self._engine.messages.update_many(surely, _TAKEN_BACK).modified_count
        except PyMongoError as error:
            if not error.timeout:
                raise
            self._is_blocked = True
            return 0

    def _first_lease(self) -> float | None:
        """Return when the next lease ends, by the server's clock."""
        doc = self._engine.messages.find_one(self._leased(), {"until": True}, sort=PLACE_ORDER)
        return None if doc is None else at(doc.get("until"))

    def _first_delayed(self) -> float | None:
        """Return when the next delayed message is due, by the server's clock."""
        later = moment(self._engine.time.earliest())
        moments = []
        for some in self._portions:
            wanted = {"queue": {"$in": some}, **IS_DELAYABLE, "due": {"$gt": later}}
            doc = self._engine.messages.find_one(wanted, {"due": True}, sort=DELAYED_ORDER)
            moments += [at(doc.get("due"))] if doc is not None else []
        return min(moments, default=None)

    def _leased(self, *, until: DatetimeMS = _LATEST) -> Doc:
        """Return the filter for leases that end until then; what is no time is nobody's lease."""
        return {"queue": {"$in": self._queues}, "state": LEASED, "until": {"$gt": _EARLIEST, "$lte": until}}


def extend(engine: Engine, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
    """Make *leases* end *lease* seconds from now, and return those already lost.

    A message whose holder is in the middle of committing it is locked. A plain update would wait for that, and the
    other leases with it; a transaction is told of it at once. So the batch is halved until what is locked stands alone;
    that is being settled, and needs no longer lease.
    """
    if not engine.has_transactions:
        return _extend(engine, leases, lease, None)
    try:
        return engine.in_one_transaction(lambda session: _extend(engine, leases, lease, session))
    except OperationFailure as error:
        if error.code != WRITE_CONFLICT:
            raise
    if len(leases) == 1:
        return []
    middle = len(leases) // 2
    return [lost for part in (leases[:middle], leases[middle:]) for lost in extend(engine, part, lease=lease)]


def _extend(engine: Engine, leases: Sequence[Lease], lease: float, session: ClientSession | None) -> list[Lease]:
    by_claim: dict[str, list[str]] = {}
    for one in leases:
        by_claim.setdefault(claim_of(one.token), []).append(message_id(one.queue, one.id))
    matched = 0
    for claim, ids in by_claim.items():
        held = {"_id": {"$in": ids}, "claim": claim, "state": LEASED}
        matched += engine.messages.update_many(held, _until(lease), session=session).matched_count
    if matched == len(leases):
        return []
    ids = [message_id(one.queue, one.id) for one in leases]
    found = engine.messages.find({"_id": {"$in": ids}, "state": LEASED}, {"claim": True}, session=session)
    still = {(doc["_id"], doc.get("claim")) for doc in found}
    return [one for one in leases if (message_id(one.queue, one.id), claim_of(one.token)) not in still]
