"""Brokers that are wrong on purpose about lanes; see also ``broker_defects``."""

# The docstring of a class says what each of its methods does wrong.
# ruff: noqa: D102
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence

import attrs

from queuekit.broker import CommitItem, Delivery, Place, Release, Replace, Settlement
from queuekit.engines.memory.lanes import Lanes
from queuekit.engines.memory.queue import Entry
from queuekit.envelope import Envelope, Lane
from support.broker_defects import Defective


class TagsInItsWay(Defective):
    """Tags the ready messages of a queue itself."""

    def tag(self, entry: Entry, tag: int) -> None:
        """Sort a ready message by *tag*."""
        queue = self._engine.messages._queues[entry.envelope.queue]
        queue._ready[entry.level].discard(entry.id)
        entry.tag = tag
        queue._ready[entry.level].add(entry.id, entry.sort_key(), entry)

    def lanes(self, queue: str) -> dict[int, Lanes]:
        """Return the lanes of a queue by priority."""
        return self._engine.messages._queues[queue]._lanes


class NoLanes(Defective):
    """Keeps the lane, and delivers first in first out."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        self._known = {**getattr(self, "_known", {}), **{each.id: each.lane for each in envelopes}}
        return self.resent(envelopes, lane=None)

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [self.received([each], lane=self._known[each.id])[0] for each in found]


class Unweighted(Defective):
    """Gives all lanes the same share."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        self._known = {**getattr(self, "_known", {}), **{each.id: each.lane for each in envelopes}}
        return [self.resent([each], lane=each.lane and Lane(each.lane.key))[0] for each in envelopes]

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [self.received([each], lane=self._known[each.id])[0] for each in found]


class WholeWeights(Unweighted):
    """Takes a weight below 1 for 1."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        whole = [
            attrs.evolve(each, lane=Lane(each.lane.key, max(1.0, each.lane.weight))) if each.lane else each
            for each in envelopes
        ]
        found = Defective.send(self, whole)
        self._known = {**getattr(self, "_known", {}), **{each.id: each.lane for each in envelopes}}
        return found


class LastInLaneFirst(TagsInItsWay):
    """Swaps the messages of a lane in a send."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        found = super().send(envelopes)
        entries = [each for each in self.entries(envelopes[0].queue) if each.place is Place.READY and each.tag]
        for lane in {each.envelope.lane for each in entries}:
            mine = [each for each in entries if each.envelope.lane == lane]
            tags = sorted(each.tag for each in mine)
            for entry, tag in zip(mine, reversed(tags), strict=True):
                self.tag(entry, tag)
        return found


class LanesByName(TagsInItsWay):
    """Sorts the messages of a turn by the name of their lane."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        found = super().send(envelopes)
        for entry in self.entries(envelopes[0].queue):
            if entry.tag and entry.envelope.lane is not None and entry.tag % 1000 == 0:
                self.tag(entry, entry.tag + 1 + sum(map(ord, entry.envelope.lane.key[-2:])) % 90)
        return found


class PunishesTheEarly(Defective):
    """Lets a lane begin at the beginning of time."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        for queue in {each.queue for each in found}:
            for lanes in self._engine.messages._queues[queue]._lanes.values():
                lanes._now = 0
        return found


class ForgetsShares(Defective):
    """Forgets what a lane has had as soon as none of its messages waits, and puts its next one first."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        for each in envelopes:
            if each.lane is not None and each.queue in self._engine.messages._queues:
                lanes = self._engine.messages._queues[each.queue]._lanes[each.priority]
                if each.lane.key not in lanes._tails:
                    lanes._now -= each.lane.step
        return super().send(envelopes)


class LanesBeforePriority(TagsInItsWay):
    """Counts turns over all priorities."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        self._known = {**getattr(self, "_known", {}), **{each.id: each.priority for each in envelopes}}
        return [self.resent([each], priority=4 if each.lane else each.priority)[0] for each in envelopes]

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [self.received([each], priority=self._known[each.id])[0] for each in found]


class LaneNotTold(Defective):
    """Does not say the lane of a delivery."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        return self.received(super().receive(queues, limit=limit, wait=wait, lease=lease), lane=None)


class RetryLosesLane(Defective):
    """Makes a message of its own for a retry, in the common lane."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        return super().settle(
            [
                attrs.evolve(each, envelope=attrs.evolve(each.envelope, lane=Lane()))
                if isinstance(each, Replace)
                else each
                for each in settlements
            ]
        )


class Approximate(Defective):
    """Shares out as it likes, and is right."""

    capabilities = attrs.evolve(Defective.capabilities, lanes=False, approximate_lanes=True)


class RetryLosesGroup(RetryLosesLane):
    """Sends a retry anew, without the group of the message."""

    capabilities = Approximate.capabilities


class ReturnLosesWeight(Defective):
    """Puts a message back with the weight of a usual lane."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        lost = super().settle(settlements)
        for each in settlements:
            for entry in self.entries(each.delivery.queue) if isinstance(each, Release) else []:
                if entry.envelope.lane is not None:
                    entry.envelope = attrs.evolve(entry.envelope, lane=Lane(entry.envelope.lane.key))
        return lost


class ShowsByDue(TagsInItsWay):
    """Shows messages in the order in which they were sent."""

    def peek(self, queue: str, *, place: Place, limit: int = 100, cursor: str | None = None):  # type: ignore[no-untyped-def]  # noqa: ANN201 - as the base
        tags = {entry.id: entry.tag for entry in self.entries(queue)}
        for entry in self.entries(queue):
            entry.tag = 0
        try:
            return super().peek(queue, place=place, limit=limit, cursor=cursor)
        finally:
            for entry in self.entries(queue):
                entry.tag = tags[entry.id]


class Untagged(TagsInItsWay):
    """Puts some messages before all lanes when they become ready."""

    def untag(self, queue: str, ids: Sequence[str]) -> None:
        """Put the ready messages with *ids* before all others."""
        for entry in self.entries(queue):
            if entry.id in ids and entry.place is Place.READY:
                self.tag(entry, 1)


class DueFirst(Untagged):
    """Puts messages that become due before all lanes."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        for queue in queues:
            delayed = [entry.id for entry in self.entries(queue) if entry.place is Place.DELAYED]
            super().receive([queue], limit=0, wait=0.0, lease=lease)
            self.untag(queue, delayed)
        return super().receive(queues, limit=limit, wait=wait, lease=lease)


class RetriesFirst(Untagged):
    """Puts retries before all lanes."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        lost = super().settle(settlements)
        for each in settlements:
            if isinstance(each, Replace):
                self.untag(each.delivery.queue, [each.delivery.id])
        return lost


class ReplaysFirst(Untagged):
    """Puts replayed dead letters before all lanes."""

    def requeue(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        found = super().requeue(queue, ids)
        self.untag(queue, found)
        return found


class ReturnsLast(TagsInItsWay):
    """Gives a message that comes back a new turn."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        lost = super().settle(settlements)
        for each in settlements:
            if isinstance(each, Release):
                for entry in self.entries(each.delivery.queue):
                    if entry.id == each.delivery.id:
                        self.tag(entry, 10**12)
        return lost


class CommonLaneFirst(Untagged):
    """Puts messages without a key before all lanes."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        found = super().send(envelopes)
        for each in envelopes:
            if each.lane == Lane():
                self.untag(each.queue, [each.id])
        return found


class LanesOfAllQueues(TagsInItsWay):
    """Counts the turns of a lane over all queues."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        found = super().send(envelopes)
        counts = self._counts = getattr(self, "_counts", {})
        for each in envelopes:
            counts[each.lane] = counts.get(each.lane, 0) + 1
            for entry in self.entries(each.queue):
                if entry.id == each.id and entry.tag:
                    self.tag(entry, counts[each.lane] * 10**6)
        return found


class CommitsLast(TagsInItsWay):
    """Puts what a commit sends behind all lanes."""

    def commit(self, items: Sequence[CommitItem]) -> list[bool]:
        done = super().commit(items)
        for item in items:
            for each in item.sends:
                for entry in self.entries(each.queue):
                    if entry.id == each.id:
                        self.tag(entry, 10**12)
        return done
