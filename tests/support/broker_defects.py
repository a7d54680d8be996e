"""Brokers that are wrong on purpose, each in one way that a real engine has been wrong in."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import attrs

from queuekit.broker import (
    Ack,
    CommitItem,
    Dead,
    Delivery,
    Lease,
    Place,
    QueueCounts,
    Release,
    Retry,
    Settlement,
    Stored,
)
from queuekit.backend import Condition, Page
from queuekit.envelope import Envelope
from queuekit.memory import MemoryBroker
from queuekit.memory.queue import Entry


class Defective(MemoryBroker):
    """The memory broker with hooks for damage."""

    def entries(self, queue: str) -> list[Entry]:
        """Return what the engine holds of *queue*."""
        found = self._engine.messages._queues.get(queue)
        return list(found.entries.values()) if found else []

    def resent(self, envelopes: Sequence[Envelope], **changes: Any) -> list[str]:
        """Send *envelopes* with some fields changed."""
        return super().send([attrs.evolve(envelope, **changes) for envelope in envelopes])

    def received(self, deliveries: Sequence[Delivery], **changes: Any) -> list[Delivery]:
        """Return *deliveries* with some fields of their envelopes changed."""
        return [attrs.evolve(each, envelope=attrs.evolve(each.envelope, **changes)) for each in deliveries]


class NoFence(Defective):
    """Settles by id, whoever asks."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        tokens = {entry.id: entry.token for each in settlements for entry in self.entries(each.delivery.queue)}
        forged = [
            attrs.evolve(each, delivery=attrs.evolve(each.delivery, token=tokens.get(each.delivery.id, "")))
            for each in settlements
        ]
        return super().settle(forged)


class SilentFence(Defective):
    """Refuses a stale settlement, and tells nobody."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        super().settle(settlements)
        return []


class StopsAtStale(Defective):
    """Gives up on a batch at its first stale settlement."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        for each in settlements:
            if lost := super().settle([each]):
                return lost
        return []


class LastInFirstOut(Defective):
    """A stack."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        ids = super().send(envelopes)
        with self._engine.lock:
            for entry in self.entries(envelopes[0].queue) if envelopes else []:
                if entry.place is Place.READY and entry.sequence > 0:
                    entry.sequence = -entry.sequence
                    self._engine.messages._queues[entry.envelope.queue].put(entry, Place.READY)
        return ids


class NoPriority(Defective):
    """First in first out, whatever the priority; shows the right one, though."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        self._priorities = {**getattr(self, "_priorities", {}), **{each.id: each.priority for each in envelopes}}
        return self.resent(envelopes, priority=4)

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [self.received([each], priority=self._priorities[each.id])[0] for each in found]


class NoDelay(Defective):
    """Hands delayed messages out at once."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        return self.resent(envelopes, delay=0.0, not_before=None)


class LateDelay(Defective):
    """Takes seconds for minutes."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        return [self.resent([each], delay=each.delay * 60)[0] for each in envelopes]


class NoNotBefore(Defective):
    """Heeds the delay, but not the moment."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        return self.resent(envelopes, not_before=None)


class EndlessLease(Defective):
    """Never takes a message back."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        return super().receive(queues, limit=limit, wait=wait, lease=1e6)


class InstantLease(Defective):
    """Takes a message back at once."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        return super().receive(queues, limit=limit, wait=wait, lease=0.0)


class LostExtend(Defective):
    """Says that it has extended, and has not."""

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        return []


class SilentExtend(Defective):
    """Does not say which leases are lost."""

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        super().extend(leases, lease=lease)
        return []


class NoCrashes(Defective):
    """Does not count crashes."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [attrs.evolve(each, crashes=0) for each in found]


class NoNumber(Defective):
    """Every delivery is the first."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [attrs.evolve(each, number=1) for each in found]


class SplitClaim(Defective):
    """Looks first and claims then, in two steps."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        seen = [each for queue in queues for each in self.peek(queue, place=Place.READY, limit=limit or 1).items]
        time.sleep(0.01)
        super().receive(queues, limit=limit, wait=0, lease=lease)
        return [Delivery(envelope=each.envelope, token=str(id(each)), number=each.number + 1) for each in seen][:limit]


class CutAtNul(Defective):
    """Keeps bodies as C does."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        return [self.resent([each], body=each.body.partition(b"\0")[0])[0] for each in envelopes]


class BodiesAsText(Defective):
    """Keeps bodies as text."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        return [self.resent([each], body=each.body.decode(errors="replace").encode())[0] for each in envelopes]


class NoSizeLimit(Defective):
    """Takes a body of any size."""

    def _check_sizes(self, envelopes: Sequence[Envelope]) -> None:
        pass


class DroppedFields(Defective):
    """Forgets when a message expires."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        return self.received(super().receive(queues, limit=limit, wait=wait, lease=lease), expires=None)


class SharedQueues(Defective):
    """Takes a queue's name for a prefix."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        names = [name for queue in queues for name in self.queues() if name.startswith(queue)] or queues
        return super().receive(names, limit=limit, wait=wait, lease=lease)


class TakesTooMany(Defective):
    """Rounds a limit up."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        return super().receive(queues, limit=limit * 2, wait=wait, lease=lease)


class LostWakeUp(Defective):
    """Sleeps through a send."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=0, lease=lease)
        if found or wait <= 0:
            return found
        time.sleep(min(wait, self.limits.max_wait))
        return super().receive(queues, limit=limit, wait=0, lease=lease)


class SleepsThroughEvents(Defective):
    """Is woken by a send, but not by the end of a lease or a due time."""

    def _cut(self, left: float, queues: Sequence[str], now: float) -> float:
        return left


class CountsReleases(Defective):
    """Takes a message handed back for a crash."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        return super().settle([attrs.evolve(s, counted=True) if isinstance(s, Release) else s for s in settlements])


class ReleasesToTheEnd(Defective):
    """Puts what is handed back behind all others."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        return super().settle([attrs.evolve(s, delay=1e-9) if isinstance(s, Release) else s for s in settlements])


class RetriesTwice(Defective):
    """Sends the next attempt, and hands the last one back as well."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        for each in settlements:
            if isinstance(each, Retry):
                super().send([attrs.evolve(each.envelope, id=f"{each.envelope.id}.1")])
        return super().settle([Release(s.delivery) if isinstance(s, Retry) else s for s in settlements])


class EarlyRetry(Defective):
    """Hands a retry out at once."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        return super().settle(
            [Retry(s.delivery, attrs.evolve(s.envelope, delay=0.0)) if isinstance(s, Retry) else s for s in settlements]
        )


class ForgetsIds(Defective):
    """Forgets an id as soon as its message is done."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        lost = super().settle(settlements)
        for queue in self._engine.messages._queues.values():
            queue._gone.clear()
        return lost


class OneSendPerId(Defective):
    """Swallows the next attempt of an id that it knows."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        known = {id for queue in self._engine.messages._queues.values() for id in (*queue.entries, *queue._gone)}
        super().send([each for each in envelopes if each.id not in known])
        return [each.id for each in envelopes]


class NoUniqueKeys(Defective):
    """Takes a message whose key is held."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        return self.resent(envelopes, unique=None)


class RetryFreesKey(Defective):
    """Frees a unique key between two attempts."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        lost = super().settle(settlements)
        if any(isinstance(each, Retry) for each in settlements):
            self._engine.messages._keys._held.clear()
        return lost


class DeadWithoutReason(Defective):
    """Buries without a word."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        return super().settle([Dead(s.delivery, reason="") if isinstance(s, Dead) else s for s in settlements])


class DeadAreDropped(Defective):
    """Has no grave."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        return super().settle([Ack(s.delivery) if isinstance(s, Dead) else s for s in settlements])


class ReplaysTheOldGeneration(Defective):
    """Replays a dead letter as it was."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        return self.received(super().receive(queues, limit=limit, wait=wait, lease=lease), generation=0)


class PurgesAll(Defective):
    """Empties more than it was asked to."""

    def purge(self, queue: str, *, place: Place = Place.READY) -> int:
        count = super().purge(queue, place=place)
        for other in Place:
            super().purge(queue, place=other)
        return count


class RemovesLeased(Defective):
    """Takes a message from under its holder."""

    def remove(self, queue: str, ids: Sequence[str], *, place: Place | None = None) -> list[str]:
        with self._engine.lock:
            return self._engine.messages.remove(queue, ids, set(Place), self._engine.now())


class PageOverlap(Defective):
    """Begins each page with the last message of the one before, and loses the end."""

    def peek(self, queue: str, *, place: Place, limit: int = 100, cursor: str | None = None) -> Page[Stored]:
        start = int(cursor or 0)
        items = super().peek(queue, place=place, limit=10_000).items
        more = start + limit < len(items)
        return Page(items=items[start : start + limit], cursor=str(start + limit - 1) if more else None)


class CountsForgetDelayed(Defective):
    """Counts what is delayed as ready."""

    def counts(self, queues: Sequence[str]) -> dict[str, QueueCounts]:
        found = super().counts(queues)
        return {name: attrs.evolve(c, ready=c.ready + c.delayed, delayed=0) for name, c in found.items()}


class DeafToInterrupt(Defective):
    """Does not hear an interrupt."""

    def interrupt(self) -> None:
        pass


class ClosesOnce(Defective):
    """Cannot be closed twice."""

    def close(self) -> None:
        del self._closed

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._closed = False


class CommitsWithoutFence(Defective):
    """Writes the records of an item whose lease is lost."""

    def _commit_one(self, item: CommitItem, now: float) -> bool:
        for record in item.records:
            self._engine.records.put(record, Condition.NEWER, None, now)
        return super()._commit_one(item, now)


class CommitsHalf(Defective):
    """Forgets what an item sends."""

    def _commit_one(self, item: CommitItem, now: float) -> bool:
        return super()._commit_one(attrs.evolve(item, sends=()), now)


class CompletesTwice(Defective):
    """Sends what completes a group anew for each member that is committed again."""

    def _commit_one(self, item: CommitItem, now: float) -> bool:
        self._commits = getattr(self, "_commits", 0) + 1
        joins = tuple(
            attrs.evolve(join, then=tuple(attrs.evolve(each, hop=self._commits) for each in join.then))  # type: ignore[type-var]
            for join in item.joins
        )
        return super()._commit_one(attrs.evolve(item, joins=joins), now)
