"""The subscription of a worker: RabbitMQ pushes, and the worker takes from what has come."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence

from queuekit.broker import Delivery, Subscription
from queuekit.errors import UnavailableError
from queuekit.interrupts import Interrupts
from queuekit_amqp.channel import Channel
from queuekit_amqp.claiming import Arrival, Claiming, Consumer, wait_for
from queuekit_amqp.connections import Link
from queuekit_amqp.layout import Place

__all__ = ["Pushed"]

_LOOK = 2.0
"""Seconds between two looks for priorities that are new."""


class Pushed(Subscription):
    """Used by one thread at a time.

    Args:
        channel: Used by nobody else.
        link: Its connection.
        places: Returns the places of a queue, most urgent first; declares those that are new.
        queues: The queues, most urgent first.
        prefetch: Most messages that are pushed and not settled.
        lease: Seconds of a lease.
        longest: Seconds for which a message may wait here.
        claiming: Makes deliveries.
        interrupts: Ends waits.
        give_back: Puts messages back.
    """

    def __init__(
        self,
        channel: Channel,
        link: Link,
        *,
        places: Callable[[Sequence[str]], list[Place]],
        queues: Sequence[str],
        prefetch: int,
        lease: float,
        longest: float,
        claiming: Claiming,
        interrupts: Interrupts,
        give_back: Callable[[Sequence[Arrival]], None],
    ) -> None:
        self._channel = channel
        self._link = link
        self._find_places = places
        self._queues = tuple(queues)
        self._prefetch = prefetch
        self._lease = lease
        self._longest = longest
        self._claiming = claiming
        self._interrupts = interrupts
        self._give_back = give_back
        self._consumer = Consumer(channel, give_back=give_back)
        self._buffer: dict[str, dict[int, deque[Arrival]]] = {queue: {} for queue in queues}
        self._waiting = 0
        self._looked = float("-inf")
        self._closed = False
        self._add_places()

    def _add_places(self) -> None:
        """Consume the places that are new."""
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        known = set(self._consumer.places)
        places = [place for place in self._find_places(self._queues) if place not in known]
        if places:
            each = max(1, self._prefetch // (len(known) + len(places)))
            self._consumer.add(places, prefetch=each, timeout=self._link.timeout())

    def next(self, *, limit: int, wait: float, queues: Sequence[str] = ()) -> list[Delivery]:
        """Return up to *limit* deliveries."""
        handled = self._interrupts.handled
        self._check()
        self._add_places()
        self._sort_in()
        self._return_old()
        if limit <= 0:
            return []
        if not self._waiting and wait > 0:
            deadline = time.monotonic() + wait
            while not self._arrived(deadline, handled):
                if time.monotonic() >= deadline or self._interrupts.handled != handled:
                    return []
                self._check()
                self._add_places()
        return self._claiming.deliver(self._chosen(limit, queues or self._queues), lease=self._lease)

    def _check(self) -> None:
        self._channel.raise_if_closed()
        if self._channel.cancelled:
            raise UnavailableError("RabbitMQ has ended a consumer: its queue is deleted, or has moved")

    def _arrived(self, deadline: float, handled: int) -> bool:
        """Wait for messages, but no longer than until the next look for new priorities."""
        until = min(deadline, self._looked + _LOOK)
        ready = wait_for(self._channel, lambda: bool(self._consumer.arrived), until, self._interrupts, handled)
        self._sort_in()
        return ready

    def _sort_in(self) -> None:
        for one in self._consumer.take():
            levels = self._buffer[one.place.queue]
            levels.setdefault(one.place.level, deque()).append(one)
            self._waiting += 1

    def _chosen(self, limit: int, queues: Sequence[str]) -> list[Arrival]:
        """Remove and return up to *limit* messages, of the first queue and the highest priority first."""
        chosen: list[Arrival] = []
        for queue in queues:
            levels = self._buffer.get(queue, {})
            for level in sorted(levels, reverse=True):
                waiting = levels[level]
                while waiting and len(chosen) < limit:
                    chosen.append(waiting.popleft())
        self._waiting -= len(chosen)
        return chosen

    def _return_old(self) -> None:
        """Put back what has waited here for so long that RabbitMQ might take it back, with all that is held."""
        oldest = time.monotonic() - self._longest
        old: list[Arrival] = []
        for levels in self._buffer.values():
            for waiting in levels.values():
                while waiting and waiting[0].at < oldest:
                    old.append(waiting.popleft())
        self._waiting -= len(old)
        if old:
            self._give_back(old)

    def close(self) -> None:
        """End it; put back what was not returned. The channel stays open for what was."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(UnavailableError):
            self._consumer.cancel(timeout=self._link.timeout())
        self._sort_in()
        rest = self._chosen(self._waiting, self._queues)
        if rest:
            self._give_back(rest)
        self._link.give(self._channel)
