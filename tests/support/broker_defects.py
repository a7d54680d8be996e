"""Brokers that are wrong on purpose, each in one way that a real engine has been wrong in."""

# The docstring of a class says what each of its methods does wrong.
# ruff: noqa: D102
# pyright: reportPrivateUsage=false

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from queuekit.broker import (
    Delivery,
    Lease,
    Place,
)
from queuekit.engines.memory import MemoryBroker
from queuekit.engines.memory.queue import Entry
from queuekit.envelope import Envelope


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

    def check_sizes(self, envelopes: Iterable[Envelope]) -> None:
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
