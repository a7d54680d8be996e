"""Claim messages under a lease, in batches.

A claim has three steps: find the head of the queue, mark the messages that still wait with the claim's token, and read
the messages won. If all workers claimed the same head, each would win little. So a worker that loses much picks a
random share further down the queue, and keeps it while it wins there. Now and then it still claims from the head, so
that the first messages do not depend on another worker. A single worker claims the messages in their exact order. A
waiting worker that is notified claims the first message in one step, and the others with its next claim.

Where lanes take turns, a message that starts far before its turn takes the turns of others. There, shares are few, and
every second claim is from the head.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import attrs
from bson.errors import InvalidBSON
from pymongo import ReturnDocument
from pymongo.errors import PyMongoError

from queuekit.broker import Delivery
from queuekit_mongo.engine import Engine
from queuekit_mongo.layout import (
    CLAIM_ORDER,
    DEAD,
    DEAD_LETTERED_NOW,
    LEASED,
    WAITING,
    WHOLE,
    Doc,
    MalformedError,
    delivery_of,
    hashable,
    moment,
)
from queuekit_mongo.leases import until
from queuekit_mongo.settling import NOW_DUE

__all__ = ["Claimer"]

WIDEST = 32
"""Most shares of a contested queue that workers spread over."""
FARTHER = 8
"""Factor by which the number of shares grows after a loss: adjacent shares still collide as the head moves on."""
CALM = (8, 16)
"""Full wins in a row after which the number of shares shrinks; and the most, if shrinking led to losses."""
NARROWEST = 4
"""Most shares where lanes take turns."""
HEAD_EVERY = 0.5
"""Seconds after which a worker with a share down the queue claims from the head again."""
_RETRIES = 50


@attrs.frozen
class _Claim:
    """The messages that one claim asked for, and may have won."""

    queue: str
    claim: str
    ids: list[Any] | None
    """Ids of the messages; ``None``: the first message of the queue."""

    def parts(self, size: int) -> tuple[_Claim, _Claim | None]:
        """Return the part with the first *size* messages, and the rest, if any."""
        if self.ids is None or len(self.ids) <= size:
            return self, None
        return attrs.evolve(self, ids=self.ids[:size]), attrs.evolve(self, ids=self.ids[size:])


class Claimer:
    """The claims of one broker.

    Args:
        engine: Stores the messages.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._breadth = 1
        self._share = 0
        """Which of the shares it claims from; 0 is the head."""
        self._calm = 0
        self._enough = CALM[0]
        self._head_at: dict[str, float] = {}
        """Monotonic time of the last claim from the head of each queue."""
        self._fair: set[str] = set()
        """Queues whose last messages had lanes."""
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._unsure: list[_Claim] = []
        self._lock = threading.Lock()

    def claim(self, queue: str, *, limit: int, lease: float) -> list[Delivery]:
        """Return up to *limit* messages of *queue*, in their order; dead-letter malformed ones."""
        for _ in range(_RETRIES):
            share = self._share_of(queue)
            ids = self._candidates(queue, limit, share)
            if not ids:
                return []
            won = self._mark(queue, ids, lease)
            if share == self._own_share(queue):
                # Competition at the head says nothing about competition at the worker's own share.
                self._learn(asked=len(ids), won=len(won))
            deliveries = self._read(won)
            if deliveries:
                (self._fair.discard if deliveries[0].envelope.lane is None else self._fair.add)(queue)
                return deliveries
        return []

    def claim_first(self, queue: str, *, lease: float) -> list[Delivery]:
        """Return the first ready message of *queue*, if any, in one round trip, for a worker that was notified."""
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
        """Return up to *limit* messages of *queues* that were won by claims whose reply was lost."""
        if self._pid != os.getpid():
            self._start()  # the parent recovers its own claims in doubt
        deliveries: list[Delivery] = []
        while len(deliveries) < limit and (one := self._take_unsure(queues)) is not None:
            part, rest = one.parts(limit - len(deliveries))
            try:
                with self._in_doubt(one):
                    self._extend(part, lease)
                    deliveries += self._read(self._won(part))
            except PyMongoError:
                if not deliveries:
                    raise
                break  # keep the deliveries so far, which are leased
            if rest is not None:
                with self._lock:
                    self._unsure.append(rest)
        return deliveries

    def _extend(self, claim: _Claim, lease: float) -> None:
        messages = self._engine.messages
        self._engine.insist(lambda: messages.update_many(_held(claim), until(lease)))

    def _take_unsure(self, queues: Sequence[str]) -> _Claim | None:
        """Remove and return a claim in doubt; the caller recovers it."""
        if not self._unsure:
            return None
        with self._lock:
            found = next((one for one in self._unsure if one.queue in queues), None)
            if found is not None:
                self._unsure.remove(found)
            return found

    @contextmanager
    def _in_doubt(self, claim: _Claim) -> Iterator[None]:
        """Remember *claim* for a later recovery if the block fails."""
        try:
            yield
        except PyMongoError:
            with self._lock:
                self._unsure.append(claim)
            raise

    def _share_of(self, queue: str) -> int:
        """Return which share of *queue* to claim from; 0 is the head."""
        now, share = time.monotonic(), self._own_share(queue)
        if share and now < self._head_at.get(queue, 0.0) + HEAD_EVERY:
            if queue in self._fair:
                self._head_at[queue] = -HEAD_EVERY  # the next claim is from the head
            return share
        self._head_at[queue] = now
        return 0

    def _own_share(self, queue: str) -> int:
        """Return the share of *queue* that this worker keeps to."""
        return self._share % NARROWEST if queue in self._fair else self._share

    def _candidates(self, queue: str, limit: int, share: int) -> list[Any]:
        """Return the ids to claim."""
        wanted = self._ready(queue)
        for skip in dict.fromkeys((share * limit, 0)):
            found = self._engine.messages.find(
                wanted, {"_id": True}, sort=CLAIM_ORDER, skip=skip, limit=limit, batch_size=limit
            )
            if ids := [doc["_id"] for doc in found]:
                return ids
            self._share = 0  # the queue is shorter than that; the next search starts at the head
        return []

    def _ready(self, queue: str) -> Doc:
        """Return the filter for messages of *queue* that may be ready by the known bounds of the server's time."""
        latest = moment(self._engine.time.latest())
        # "Not greater" instead of "less or equal", so that due times of other types are found and dead-lettered.
        return {"queue": queue, "state": WAITING, "due": {"$not": {"$gt": latest}}}

    def _mark(self, queue: str, ids: list[Any], lease: float) -> list[Doc]:
        """Mark those of *ids* that still wait, and return their documents."""
        mine = _Claim(queue, self._engine.new_mark(), ids)
        wanted = {"_id": {"$in": ids}, "state": WAITING, "$expr": NOW_DUE}
        change = _leased(mine.claim, lease, self._engine.session_id())
        messages = self._engine.messages
        with self._in_doubt(mine):
            if len(ids) == 1:
                # The usual case of a worker that polls; this saves a round trip.
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
        """Read the messages won one by one; dead-letter those with unreadable bytes unchanged (QK9)."""
        messages = self._engine.messages
        docs: list[Doc] = []
        for id in [doc["_id"] for doc in messages.find(_held(one), {"_id": True})]:
            try:
                docs += messages.find({"_id": id, "claim": one.claim})
            except InvalidBSON as error:
                dead_letter(self._engine, {"_id": id, "claim": one.claim}, f"it cannot be read: {error}")
        return docs

    def _learn(self, *, asked: int, won: int) -> None:
        """Spread over more shares after losing half of a claim, and over fewer without competition."""
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
        """Return *docs* as deliveries; dead-letter documents that are not messages unchanged (QK9)."""
        deliveries = []
        for place, doc in enumerate(docs):
            try:
                deliveries.append(delivery_of(doc, place))
            except MalformedError as error:
                # If this fails, the next claim repeats it after the lease ends; the others must not wait.
                with suppress(PyMongoError):
                    dead_letter(self._engine, doc, str(error))
        return deliveries


def _held(one: _Claim) -> Doc:
    where: Doc = {"queue": one.queue} if one.ids is None else {"_id": {"$in": one.ids}}
    return where | {"claim": one.claim, "state": LEASED}


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


def dead_letter(engine: Engine, doc: Doc, why: str) -> None:
    """Dead-letter a claimed document that is not a message, otherwise unchanged."""
    change: Doc = {
        "$set": {"state": DEAD, "reason": "malformed", "error": why, "holder": ""},
        "$currentDate": DEAD_LETTERED_NOW,
        "$unset": dict.fromkeys(("claim", "session", "key"), True),
    }
    engine.messages.update_one({"_id": doc["_id"], "claim": doc["claim"]}, change)
    if engine.on_set_aside is not None:
        engine.on_set_aside(str(doc.get("queue", "")), str(doc.get("id", doc["_id"])), why)
