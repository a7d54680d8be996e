"""Brokers that go by the clock of their client, each in one way; and the right one beside them."""

# The docstring of a class says what each of its methods does wrong.
# ruff: noqa: D102

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

import attrs

from queuekit.broker import Delivery
from queuekit.engines.memory import MemoryBroker
from queuekit.envelope import Envelope
from queuekit.urls import EngineURL
from queuekit_testing.connections import SteadyClock

_CLOCK = SteadyClock()


class GivenClock(MemoryBroker):
    """Right: lives by a clock that no client has set."""

    def __init__(self, url: EngineURL) -> None:
        super().__init__(url, clock=_CLOCK)


class ClaimsByTheClient(GivenClock):
    """Tells the time of a claim by the clock of whoever claims."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [attrs.evolve(each, claimed_at=time.time()) for each in found]


class SentByTheClient(GivenClock):
    """Tells the time of a send by the clock of whoever sent."""

    sent: ClassVar[dict[str, float]] = {}

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        self.sent.update({each.id: time.time() for each in envelopes})
        return super().send(envelopes)

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [attrs.evolve(each, sent_at=self.sent[each.id]) for each in found]


class DelaysByTheClient(GivenClock):
    """Takes a moment for a delay, by the clock of whoever sends."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        return [super(DelaysByTheClient, self).send([self.relative(each)])[0] for each in envelopes]

    def relative(self, envelope: Envelope) -> Envelope:
        """Return *envelope* with a delay in place of its moment."""
        if envelope.not_before is None:
            return envelope
        return attrs.evolve(envelope, delay=max(0.0, envelope.not_before - time.time()), not_before=None)


class LateByTheClient(DelaysByTheClient):
    """Takes a moment for a delay where it has not come, by the clock of whoever sends."""

    def relative(self, envelope: Envelope) -> Envelope:
        made = super().relative(envelope)
        return made if made.delay > 0 else envelope
