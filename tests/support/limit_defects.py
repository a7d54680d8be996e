"""Brokers that count wrongly, or shy away from the longest delay that they declare."""

# The docstring of a class says what each of its methods does wrong.
# ruff: noqa: D102
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence

import attrs

from queuekit.broker import Delivery, QueueCounts, Release, Replace, Settlement
from queuekit.engines.memory import MemoryBroker
from queuekit.envelope import Envelope
from support.broker_defects import Defective

LONGEST = 900.0


class Limited(Defective):
    """Right: a service that takes delays up to a quarter of an hour."""


Limited.limits = attrs.evolve(MemoryBroker.limits, max_delay=LONGEST)


class RefusesItsLongest(Limited):
    """Takes its limit for the first delay that is too long."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        if any(envelope.delay >= LONGEST for envelope in envelopes):
            raise ValueError("the delay is too long")
        return super().send(envelopes)


class WrapsItsLongest(Limited):
    """Sends the delay in a field that begins again at the limit."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        return super().send([attrs.evolve(each, delay=each.delay % LONGEST) for each in envelopes])


class ReleasesAtOnce(Limited):
    """Has a shorter limit for what goes back, and ignores a delay above it."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        return super().settle(
            [
                attrs.evolve(each, delay=0.0) if isinstance(each, Release) and each.delay > LONGEST / 2 else each
                for each in settlements
            ]
        )


class RetriesAtOnce(Limited):
    """The same for retries."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        return super().settle(
            [
                attrs.evolve(each, envelope=attrs.evolve(each.envelope, delay=each.envelope.delay % LONGEST))
                if isinstance(each, Replace)
                else each
                for each in settlements
            ]
        )


class CountsSends(Defective):
    """Counts what was ever sent."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        self._sent = {**getattr(self, "_sent", {})}
        for envelope in envelopes:
            self._sent[envelope.queue] = self._sent.get(envelope.queue, 0) + 1
        return super().send(envelopes)

    def counts(self, queues: Sequence[str]) -> dict[str, QueueCounts]:
        sent: dict[str, int] = getattr(self, "_sent", {})
        return {name: attrs.evolve(one, ready=sent.get(name, 0)) for name, one in super().counts(queues).items()}


class CountsTogether(Defective):
    """Counts all queues that it is asked for as one."""

    def counts(self, queues: Sequence[str]) -> dict[str, QueueCounts]:
        found = super().counts(queues)
        total = sum(one.ready for one in found.values())
        return {name: attrs.evolve(one, ready=total) for name, one in found.items()}


class CountsTheFirst(Defective):
    """Answers for the first queue only."""

    def counts(self, queues: Sequence[str]) -> dict[str, QueueCounts]:
        return {**super().counts(queues[:1]), **{name: QueueCounts() for name in queues[1:]}}


class LeavesUnknownQueuesOut(Defective):
    """Returns nothing for a queue that has never had a message."""

    def counts(self, queues: Sequence[str]) -> dict[str, QueueCounts]:
        return {name: one for name, one in super().counts(queues).items() if one != QueueCounts()}
