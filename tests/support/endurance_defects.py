"""Brokers that are wrong on purpose in ways that a first look does not find."""

# The docstring of a class says what each of its methods does wrong.
# ruff: noqa: D102
# pyright: reportPrivateUsage=false

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs

from queuekit.broker import Delivery, Lease, Release, Replace, Settlement
from queuekit.engines.memory import MemoryBroker
from queuekit.engines.sqlite import SqliteBroker
from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from support.broker_defects import Defective


class CountsToThree(Defective):
    """Keeps crashes in two bits."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [attrs.evolve(each, crashes=min(each.crashes, 3)) for each in found]


class NumbersToFifteen(Defective):
    """Keeps the number in four bits."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [attrs.evolve(each, number=min(each.number, 15)) for each in found]


class NumbersInAByte(Defective):
    """Keeps the number in a byte, which begins anew."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [attrs.evolve(each, number=each.number % 256) for each in found]


class Coarse(Defective):
    """Right: keeps delays in tenths of a second, rounded up."""

    limits = attrs.evolve(MemoryBroker.limits, lease_granularity=0.1)

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        return [self.resent([each], delay=self.rounded(each.delay))[0] for each in envelopes]

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        return super().settle([self.settled(each) for each in settlements])

    def settled(self, each: Settlement) -> Settlement:
        """Return a settlement with its delay rounded."""
        if isinstance(each, Release):
            return attrs.evolve(each, delay=self.rounded(each.delay))
        if isinstance(each, Replace):
            delay = self.rounded(each.envelope.delay)
            return attrs.evolve(each, envelope=attrs.evolve(each.envelope, delay=delay))
        return each

    def rounded(self, delay: float) -> float:
        """Return a delay as it is kept."""
        return math.ceil(delay * 10) / 10


class RoundsDown(Coarse):
    """Keeps delays in whole steps, and forgets the rest."""

    def rounded(self, delay: float) -> float:
        return math.floor(delay * 10) / 10


class RoundsReleasesDown(Coarse):
    """Rounds sends up, and releases down."""

    def settled(self, each: Settlement) -> Settlement:
        if isinstance(each, Release):
            return attrs.evolve(each, delay=math.floor(each.delay * 10) / 10)
        return super().settled(each)


class Roomy(Defective):
    """Right: takes bodies up to its limit, and keeps room for the rest of a message."""

    limits = attrs.evolve(MemoryBroker.limits, max_body=60_000)
    room: ClassVar[int] = 4_000

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        self.check_sizes(envelopes)
        for each in envelopes:
            fields = attrs.asdict(each)
            body = fields.pop("body")
            if len(body) + len(repr(fields)) > self.limits.max_body + self.room:
                raise UnavailableError("the service refuses a message that is too large")
        return super().send(envelopes)


class NoHeadroom(Roomy):
    """Says that a body may have all the bytes that the service takes."""

    room = 300


class OpensAnyLease(Defective):
    """Looks whether a token is one that it has given out, and not for what."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._given: set[str] = set()

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        self._given.update(each.token for each in found)
        return found

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        return super().settle([self.opened(each) for each in settlements])

    def opened(self, each: Settlement) -> Settlement:
        """Return a settlement under the token of whoever holds the message."""
        token = next((one.token for one in self.entries(each.delivery.queue) if one.id == each.delivery.id), "")
        if each.delivery.token not in self._given:
            return each
        return attrs.evolve(each, delivery=attrs.evolve(each.delivery, token=token))


class ComparesTheShape(OpensAnyLease):
    """Looks whether a token is as long as it should be."""

    def opened(self, each: Settlement) -> Settlement:
        for one in self.entries(each.delivery.queue):
            if one.id == each.delivery.id and len(one.token) == len(each.delivery.token):
                return attrs.evolve(each, delivery=attrs.evolve(each.delivery, token=one.token))
        return each


class TrustsItself(OpensAnyLease):
    """Takes all that it has claimed itself for its own still, whatever has become of the lease."""

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        lost = super().extend(leases, lease=lease)
        return [one for one in lost if one.token not in self._given]


class InterruptedForGood(Defective):
    """Does not wait any more once it was interrupted."""

    _interrupted = False

    def interrupt(self) -> None:
        self._interrupted = True
        super().interrupt()

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        wait = 0.0 if self._interrupted else wait
        return super().receive(queues, limit=limit, wait=wait, lease=lease)


class Hoards(SqliteBroker):
    """Remembers each delivery that it has seen."""

    seen: ClassVar[list[Delivery]] = []

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        self.seen.extend(found)
        return found
