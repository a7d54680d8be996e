"""A broker that pushes, and others that do so wrongly on purpose."""

# The docstring of a class says what each of its methods does wrong.
# ruff: noqa: D102
# pyright: reportPrivateUsage=false

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import attrs

from queuekit.broker import Delivery, Release, Settlement, Subscription
from queuekit.engines.memory import MemoryBroker
from support.broker_defects import Defective


class Pushed(Subscription):
    """Takes messages ahead of who asks for them, as a service would push them."""

    def __init__(self, broker: Pushing, queues: Sequence[str], *, prefetch: int, lease: float) -> None:
        self.broker, self.queues, self.lease = broker, queues, lease
        self.prefetch = prefetch
        self.buffer: list[Delivery] = []
        self.held: set[str] = set()

    def next(self, *, limit: int, wait: float, queues: Sequence[str] = ()) -> list[Delivery]:
        self.fill(wait)
        taken, self.buffer = self.buffer[:limit], self.buffer[limit:]
        self.held.update(each.token for each in taken)
        return taken

    def fill(self, wait: float) -> None:
        """Have more pushed, as much as the prefetch allows."""
        room = self.prefetch - len(self.buffer) - len(self.held)
        if room > 0:
            wait = 0.0 if self.buffer else wait
            self.buffer += self.broker.receive(self.queues, limit=room, wait=wait, lease=self.lease)

    def close(self) -> None:
        buffer, self.buffer = self.buffer, []
        self.broker.settle([Release(each) for each in buffer])


class Pushing(Defective):
    """Right: pushes up to the prefetch."""

    capabilities = attrs.evolve(MemoryBroker.capabilities, push=True)
    kind: Any = Pushed

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.subscriptions: list[Pushed] = []

    def subscribe(self, queues: Sequence[str], *, prefetch: int, lease: float) -> Subscription:
        made: Pushed = self.kind(self, queues, prefetch=prefetch, lease=lease)
        self.subscriptions.append(made)
        return made

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        for made in self.subscriptions:
            made.held.difference_update(each.delivery.token for each in settlements)
        return super().settle(settlements)


class _All(Pushed):
    def fill(self, wait: float) -> None:
        self.buffer += self.broker.receive(self.queues, limit=100, wait=0.0 if self.buffer else wait, lease=self.lease)


class PushesAll(Pushing):
    """Knows no prefetch."""

    kind = _All


class _Whole(Pushed):
    def next(self, *, limit: int, wait: float, queues: Sequence[str] = ()) -> list[Delivery]:
        return super().next(limit=max(limit, self.prefetch), wait=wait, queues=queues)


class ReturnsAllPushed(Pushing):
    """Returns all that was pushed, whatever the limit."""

    kind = _Whole


class _Silent(Pushed):
    def close(self) -> None:
        self.buffer = []


class KeepsWhatWasPushed(Pushing):
    """Ends a subscription and gives nothing back."""

    kind = _Silent


class _Counting(Pushed):
    def close(self) -> None:
        buffer, self.buffer = self.buffer, []
        self.broker.settle([Release(each, counted=True) for each in buffer])


class CountsWhatWasPushed(Pushing):
    """Counts what it gives back at the end as crashes."""

    kind = _Counting


class _Greedy(Pushed):
    def next(self, *, limit: int, wait: float, queues: Sequence[str] = ()) -> list[Delivery]:
        taken = super().next(limit=limit, wait=wait, queues=queues)
        self.mine: list[Delivery] = [*getattr(self, "mine", []), *taken]
        return taken

    def close(self) -> None:
        self.buffer = [*self.buffer, *getattr(self, "mine", [])]
        self.mine = []
        super().close()


class TakesBackWhatWasReturned(Pushing):
    """Ends the leases of what was returned with the subscription, as a channel that is closed does."""

    kind = _Greedy


class _Deaf(Pushed):
    def fill(self, wait: float) -> None:
        deadline = time.monotonic() + wait
        super().fill(0.0)
        while not self.buffer and time.monotonic() < deadline:
            time.sleep(0.01)
            super().fill(0.0)


class PushesDeafly(Pushing):
    """Hears no interrupt while it waits for what is pushed."""

    kind = _Deaf


class _Once(Pushed):
    def fill(self, wait: float) -> None:
        if not getattr(self, "filled", 0) >= self.prefetch:
            before = len(self.buffer)
            super().fill(wait)
            self.filled = getattr(self, "filled", 0) + len(self.buffer) - before


class PushesNoMore(Pushing):
    """Has so many pushed as the prefetch says, and then no more."""

    kind = _Once


class _Anything(Pushed):
    def fill(self, wait: float) -> None:
        self.queues = [*self.queues, *(name for name in self.broker.queues() if name not in self.queues)]
        super().fill(wait)


class PushesAnything(Pushing):
    """Pushes messages of any queue."""

    kind = _Anything


class _FirstQueue(Pushed):
    def fill(self, wait: float) -> None:
        self.queues = self.queues[:1]
        super().fill(wait)


class PushesTheFirstQueue(Pushing):
    """Pushes messages of the first queue alone."""

    kind = _FirstQueue
