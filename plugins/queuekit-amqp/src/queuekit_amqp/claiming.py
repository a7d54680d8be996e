"""Make deliveries of what RabbitMQ hands out, and ask it for messages where nobody has subscribed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import attrs
from pika import spec

from queuekit.broker import Delivery
from queuekit.clock import Clock
from queuekit.interrupts import Interrupts
from queuekit_amqp.channel import Channel
from queuekit_amqp.connections import Link
from queuekit_amqp.frames import Content
from queuekit_amqp.layout import Layout, Place
from queuekit_amqp.leases import Held, Leases
from queuekit_amqp.marks import Marks
from queuekit_amqp.messages import Counts, Received, headers, read

__all__ = ["Arrival", "Claiming", "Receiver", "wait_for"]

_FIRST, _MORE = 8, 4
"""Messages to ask for at once, and how many times as many if there were so many."""


@attrs.frozen
class Arrival:
    """A message that RabbitMQ has handed to this process."""

    channel: Channel
    place: Place
    content: Content
    at: float
    """Monotonic time of its arrival."""


class Claiming:
    """Makes deliveries.

    Args:
        leases: Holds them.
        marks: Tells crashes from hand-backs.
        clock: Tells the time.
        layout: Names.
    """

    def __init__(self, leases: Leases, marks: Marks, clock: Clock, layout: Layout) -> None:
        self._layout = layout
        self._leases = leases
        self._marks = marks
        self._clock = clock

    def deliver(self, arrivals: Sequence[Arrival], *, lease: float) -> list[Delivery]:
        """Return deliveries under a lease of *lease* seconds."""
        if not arrivals:
            return []
        held = self.held(arrivals)
        self._leases.hold(held, lease=lease)
        for one in held:
            if one.channel.error is not None:
                self._leases.lose(one.channel)
        now = self._clock.time()
        return [_delivery(one, now) for one in held]

    def held(self, arrivals: Sequence[Arrival]) -> list[Held]:
        """Return *arrivals* with their counts, not under a lease yet."""
        received = [read(each.content, self._origin(each)) for each in arrivals]
        counts = self._marks.count(received)
        return [_held(each, one, count) for each, one, count in zip(arrivals, received, counts, strict=True)]

    def _origin(self, arrival: Arrival) -> Place:
        """Return the place that a message was sent to: one that RabbitMQ has moved was sent to another one."""
        place, content = arrival.place, arrival.content
        if place.queue not in self._layout.strays:
            return place
        return self._layout.origin(place, headers(content.properties), content.method.routing_key or "")


def _held(arrival: Arrival, received: Received, counts: Counts) -> Held:
    return Held(
        channel=arrival.channel,
        tag=arrival.content.method.delivery_tag,
        envelope=received.envelope,
        published=received.counts,
        deliveries=received.deliveries,
        counts=counts,
        since=arrival.at,
    )


def _delivery(held: Held, now: float) -> Delivery:
    sent = held.counts.sent_at or now
    return Delivery(
        envelope=held.envelope,
        token=held.token,
        number=held.counts.number + 1,
        crashes=held.counts.crashes,
        sent_at=sent,
        claimed_at=max(now, sent),
    )


def wait_for(
    channel: Channel, ready: Callable[[], bool], deadline: float, interrupts: Interrupts, handled: int
) -> bool:
    """Wait until *ready* is true; return false if the time is over, the channel has ended, or after an interrupt."""
    interrupts.join(channel)
    try:
        with channel.changed:
            while not ready():
                left = deadline - time.monotonic()
                ended = channel.error is not None or channel.cancelled
                if ended or left <= 0 or interrupts.interrupted(handled):
                    return False
                channel.changed.wait(left)
        return True
    finally:
        interrupts.leave(channel)


class Receiver:
    """Asks for messages.

    Args:
        link: The connection that consumes.
        interrupts: Ends waits.
        ended: Called when a channel has ended.
    """

    def __init__(
        self,
        link: Link,
        interrupts: Interrupts,
        *,
        ended: Callable[[Channel], None],
    ) -> None:
        self._link = link
        self._interrupts = interrupts
        self._ended = ended

    def open(self) -> Channel:
        """Return a channel for deliveries."""
        channel = self._link.take(holds=True)
        channel.ended = self._ended
        return channel

    def get(self, channel: Channel, places: Sequence[Place], *, limit: int) -> list[Arrival]:
        """Return up to *limit* messages of *places* that are ready, in order of the places."""
        found: list[Arrival] = []
        for place in places:
            if len(found) < limit:
                found += self._get(channel, place, limit - len(found))
        return found

    def pause(self, channel: Channel, seconds: float, handled: int) -> None:
        """Wait for *seconds*, or for an interrupt."""
        wait_for(channel, lambda: False, time.monotonic() + seconds, self._interrupts, handled)

    def _get(self, channel: Channel, place: Place, limit: int) -> list[Arrival]:
        found: list[Arrival] = []
        size = _FIRST
        while len(found) < limit:
            asked = min(size, limit - len(found))
            gets = [spec.Basic.Get(queue=place.name) for _ in range(asked)]
            answers = channel.call(*gets, timeout=self._link.timeout())
            now = time.monotonic()
            came = [Arrival(channel, place, each, now) for each in answers if isinstance(each, Content)]
            found += came
            if len(came) < asked:
                break
            size *= _MORE
        return found


class Consumer:
    """Has the messages of places pushed to a channel.

    Args:
        channel: Used by nobody else meanwhile.
        give_back: Puts back what comes after the end.
    """

    def __init__(self, channel: Channel, *, give_back: Callable[[Sequence[Arrival]], None]) -> None:
        self._channel = channel
        self._give_back = give_back
        self._places: dict[str, Place] = {}
        self._over = False
        self.arrived: list[Arrival] = []
        channel.pushed = self._push

    @property
    def places(self) -> list[Place]:
        """The places."""
        return list(self._places.values())

    def add(self, places: Sequence[Place], *, prefetch: int, timeout: float) -> None:
        """Consume *places* as well, with *prefetch* messages each at a time."""
        calls: list[object] = [spec.Basic.Qos(prefetch_count=min(prefetch, 65_535))]
        for place in places:
            tag = f"{id(self):x}.{len(self._places)}"
            self._places[tag] = place
            calls.append(spec.Basic.Consume(queue=place.name, consumer_tag=tag))
        self._channel.call(*calls, timeout=timeout)

    def _push(self, content: Content) -> None:
        """Take a message, in the thread that reads."""
        place = self._places.get(content.method.consumer_tag)
        if place is None:
            return
        arrival = Arrival(self._channel, place, content, time.monotonic())
        if self._over:
            threading.Thread(target=self._give_back, args=([arrival],), name="queuekit-amqp-late", daemon=True).start()
        else:
            self.arrived.append(arrival)

    def take(self) -> list[Arrival]:
        """Return what has come."""
        arrived, self.arrived = self.arrived, []
        return arrived

    def cancel(self, *, timeout: float) -> None:
        """End it; what was on its way has come when this returns."""
        if self._channel.error is None:
            self._channel.call(*[spec.Basic.Cancel(consumer_tag=tag) for tag in self._places], timeout=timeout)
        self._over = True
