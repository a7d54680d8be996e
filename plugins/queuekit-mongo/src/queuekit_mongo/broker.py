"""The broker of ``mongodb://``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from random import Random

import attrs
from pymongo.errors import PyMongoError

from queuekit.backend import Page
from queuekit.broker import (
    Broker,
    Capabilities,
    CommitItem,
    Delivery,
    Lease,
    Limits,
    Place,
    QueueCounts,
    Replace,
    Settlement,
    Stored,
)
from queuekit.clock import Clock
from queuekit.envelope import Envelope
from queuekit.urls import EngineURL
from queuekit_mongo import checks, committing, counting, inspection, sending, settling
from queuekit_mongo.capabilities import BACKEND_LIMITS, CAPABILITIES, LIMITS
from queuekit_mongo.claiming import Claimer
from queuekit_mongo.engine import Engine
from queuekit_mongo.layout import DELAYED, WAITING, Doc, queue_of
from queuekit_mongo.leases import Upkeep, extend
from queuekit_mongo.options import MongoOptions
from queuekit_mongo.waiting import Notifier

__all__ = ["MongoBroker"]

_MOST_UPKEEPS = 100
"""Most sets of queues whose upkeep is remembered."""
_CHANGES: list[Doc] = [
    {
        "$match": {
            "$or": [
                {"operationType": {"$in": ["insert", "replace"]}},
                {"updateDescription.updatedFields.state": {"$in": [WAITING, DELAYED]}},
            ]
        }
    },
    {"$project": {"documentKey": 1}},
]


class MongoBroker(Broker):
    """Queues of documents; see :class:`~queuekit.broker.Broker`.

    Args:
        url: ``mongodb://HOSTS/DATABASE``; a backend with the same URL can commit together with the broker.
        options: Options of the connection and the stored data.
        clock: Not used: the server's clock decides.
        random: Spreads workers over a contested queue.
    """

    def __init__(
        self,
        url: EngineURL,
        *,
        options: MongoOptions | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._engine = Engine(url, options=options, random=random)
        self.engine_id = self._engine.id
        self.limits: Limits = attrs.evolve(LIMITS, dedup_window=self._engine.options.dedup_window)
        self._claimer = Claimer(self._engine)
        self._upkeeps: dict[frozenset[str], Upkeep] = {}
        self._known: set[str] = set()
        self._found_at = time.monotonic()
        """Monotonic time at which a message was last found."""
        self._notifier = Notifier(
            available=lambda: self._engine.has_streams,
            follow=lambda: self._engine.watch("messages", _CHANGES),
            name_of=lambda change: queue_of(change["documentKey"]["_id"]),
        )

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """Its capabilities; the first connection shows whether the deployment has transactions."""
        return attrs.evolve(CAPABILITIES, commit=self._engine.has_transactions)

    # -- delivering ----------------------------------------------------------------------------------------------

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Put *envelopes* on their queues."""
        if not envelopes:
            return []
        self.check_sizes(envelopes)
        with self._engine.calls():
            sending.register(self._engine, {envelope.queue for envelope in envelopes}, self._known)
            return sending.send_all(self._engine, envelopes, self._engine.time.earliest())

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Claim due messages under a lease; wait for the first one."""
        limit = min(limit, self.limits.max_batch)
        deadline = time.monotonic() + min(wait, self.limits.max_wait)
        handled = self._notifier.interrupts.handled
        upkeep = self._upkeep_of(queues)
        deliveries = self._take(queues, upkeep, limit, lease)
        if deliveries or limit <= 0 or wait <= 0 or not queues:
            return deliveries
        with self._notifier.listen(queues, since=self._found_at) as listener:
            notified = False
            while True:
                deliveries = self._take(queues, upkeep, limit, lease, notified=notified)
                left = deadline - time.monotonic()
                if deliveries or left <= 0 or self._notifier.interrupts.interrupted(handled):
                    return deliveries
                notified = listener.wait(min(left, upkeep.pause()))
                if notified:
                    upkeep.is_stale = True

    def _take(
        self, queues: Sequence[str], upkeep: Upkeep, limit: int, lease: float, *, notified: bool = False
    ) -> list[Delivery]:
        """Do the upkeep if it is due, and claim ready messages; if *notified*, first only one."""
        with self._engine.calls():
            upkeep.run(now=limit <= 0)
            deliveries = self._claim(queues, limit, lease, notified=notified)
            # A notified worker usually finds a message; it gets it sooner if the upkeep comes second.
            if not deliveries and upkeep.is_stale and upkeep.run(now=True):
                deliveries = self._claim(queues, limit, lease)
            if deliveries:
                self._found_at = time.monotonic()
                upkeep.expect(lease)
                if deliveries[0].envelope.lane is not None:
                    upkeep.share()
            return deliveries

    def _claim(self, queues: Sequence[str], limit: int, lease: float, *, notified: bool = False) -> list[Delivery]:
        deliveries = self._claimer.recover(queues, limit=limit, lease=lease)
        for queue in queues:
            if notified and not deliveries:
                deliveries += self._claimer.claim_first(queue, lease=lease)
            elif not notified and len(deliveries) < limit:
                try:
                    deliveries += self._claimer.claim(queue, limit=limit - len(deliveries), lease=lease)
                except PyMongoError:
                    if not deliveries:
                        raise
                    break  # keep the deliveries so far, which are leased
        return deliveries

    def _upkeep_of(self, queues: Sequence[str]) -> Upkeep:
        names = frozenset(queues)
        upkeep = self._upkeeps.get(names)
        if upkeep is None:
            if len(self._upkeeps) >= _MOST_UPKEEPS:
                self._upkeeps.clear()
            upkeep = self._upkeeps[names] = Upkeep(self._engine, queues)
        return upkeep

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Extend *leases*."""
        if not leases:
            return []
        with self._engine.calls():
            return extend(self._engine, leases, lease=lease)

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Apply *settlements*."""
        if not settlements:
            return []
        if any(map(committing.is_move, settlements)):
            done = self.commit([CommitItem(settlement=each) for each in settlements])
        else:
            self.check_sizes([each.envelope for each in settlements if isinstance(each, Replace)])
            with self._engine.calls():
                done = settling.carry_out(self._engine, settlements)
        return [each.delivery for each, yes in zip(settlements, done, strict=True) if not yes]

    def commit(self, items: Sequence[CommitItem]) -> list[bool]:
        """Commit each item in a transaction; without transactions, in the order that loses nothing."""
        items = [committing.without_move(item) for item in items]
        envelopes: list[Envelope] = []
        for item in items:
            envelopes += committing.may_send(item)
            BACKEND_LIMITS.check_sizes(item.records)
        self.check_sizes(envelopes)
        with self._engine.calls():
            sending.register(self._engine, {envelope.queue for envelope in envelopes}, self._known)
            if not self._engine.transacts():
                return committing.in_order(self._engine, items)
            return committing.commit(self._engine, items)

    # -- inspecting and changing ---------------------------------------------------------------------------------

    def queues(self) -> list[str]:
        """Return the names of all queues."""
        with self._engine.calls():
            return inspection.queues(self._engine)

    def counts(self, queues: Sequence[str]) -> dict[str, QueueCounts]:
        """Return the counts of *queues*; see :mod:`queuekit_mongo.counting` for their bound."""
        with self._engine.calls():
            return counting.counts(self._engine, queues)

    def peek(self, queue: str, *, place: Place, limit: int = 100, cursor: str | None = None) -> Page[Stored]:
        """Return messages in *place*."""
        with self._engine.calls():
            return inspection.peek(self._engine, queue, place=place, limit=limit, cursor=cursor)

    def find(self, queue: str, ids: Sequence[str]) -> list[Stored]:
        """Return those of *ids* that *queue* holds."""
        with self._engine.calls():
            return inspection.find(self._engine, queue, ids)

    def search(self, queues: Sequence[str], id: str) -> Stored | None:
        """Return the message *id* from the first of *queues* that holds it."""
        with self._engine.calls():
            return inspection.search(self._engine, queues, id)

    def requeue(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        """Replay dead letters."""
        return inspection.requeue(self._engine, queue, ids)

    def remove(self, queue: str, ids: Sequence[str], *, place: Place | None = None) -> list[str]:
        """Remove messages by id, except leased ones."""
        places = {Place.READY, Place.DELAYED} if place is None else {place} - {Place.LEASED}
        return inspection.remove(self._engine, queue, ids, places=places)

    def dead_beyond(self, queue: str, *, count: int | None, before: float | None, limit: int = 500) -> list[str]:
        """Return the ids of dead letters beyond the bounds, oldest first."""
        with self._engine.calls():
            return inspection.dead_beyond(self._engine, queue, count=count, before=before, limit=limit)

    def purge(self, queue: str, *, place: Place = Place.READY) -> int:
        """Remove all messages in *place*; holders of leased ones lose their lease."""
        return len(inspection.remove(self._engine, queue, None, places={place}))

    def interrupt(self) -> None:
        """Make a waiting ``receive`` return; if none waits, the next one that would wait."""
        self._notifier.interrupts.interrupt()

    def tell_set_aside(self, hear: Callable[[str, str, str], None]) -> None:
        """Call *hear* for each document that is not a message."""
        self._engine.on_set_aside = hear

    def check(self) -> list[str]:
        """Return the problems of the deployment that an operator should know."""
        with self._engine.calls():
            return checks.check(self._engine)

    def close(self) -> None:
        """Close all connections, and end the waits of this process."""
        self._notifier.close()
        self._engine.close()
