"""Brokers that settle, show and mend wrongly on purpose; see also ``broker_defects``."""

# The docstring of a class says what each of its methods does wrong.
# ruff: noqa: D102
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from queuekit.backend import Condition, Page
from queuekit.broker import Ack, CommitItem, Dead, Delivery, Place, QueueCounts, Release, Replace, Settlement, Stored
from queuekit.envelope import Envelope
from support.broker_defects import Defective


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
            if isinstance(each, Replace):
                super().send([attrs.evolve(each.envelope, id=f"{each.envelope.id}.1")])
        return super().settle([Release(s.delivery) if isinstance(s, Replace) else s for s in settlements])


class EarlyRetry(Defective):
    """Hands a retry out at once."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        return super().settle(
            [
                Replace(s.delivery, attrs.evolve(s.envelope, delay=0.0)) if isinstance(s, Replace) else s
                for s in settlements
            ]
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
        if any(isinstance(each, Replace) for each in settlements):
            self._engine.messages._keys._held.clear()
        return lost


class DeadWithoutReason(Defective):
    """Keeps dead letters without their reasons."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        return super().settle([Dead(s.delivery, reason="") if isinstance(s, Dead) else s for s in settlements])


class DeadAreDropped(Defective):
    """Keeps no dead letters."""

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
        follow_ups = [each for join in item.joins for each in join.then if isinstance(each, Envelope)]
        anew = tuple(attrs.evolve(each, hop=self._commits) for each in follow_ups)
        joins = tuple(attrs.evolve(join, then=anew) for join in item.joins)
        return super()._commit_one(attrs.evolve(item, joins=joins), now)
