"""Publish messages in batches, and wait once for the confirms of each."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

import attrs
from pika import spec

from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit_amqp.capabilities import DELAY_BITS, DELAY_STEP
from queuekit_amqp.channel import ChannelClosedError
from queuekit_amqp.confirms import Batch, Confirms
from queuekit_amqp.connections import Link
from queuekit_amqp.frames import publish, short
from queuekit_amqp.layout import Layout, Place
from queuekit_amqp.messages import Counts, properties
from queuekit_amqp.topology import Topology

__all__ = ["Outgoing", "Publisher", "units_of"]

_TRIES = 3
"""Times that a message is published which has no queue to go to."""
_ROUNDING = 1e-6


@attrs.frozen(kw_only=True)
class Outgoing:
    """A message to publish."""

    envelope: Envelope
    counts: Counts
    delay: float = 0.0
    """Seconds until it is due."""
    routing_key: str = ""
    """Used in place of the usual one; empty for that one."""

    @property
    def place(self) -> Place:
        """Where it goes."""
        return Place(self.envelope.queue, self.envelope.priority)


def units_of(delay: float) -> int:
    """Return a delay in steps of the shortest one, rounded up."""
    if delay <= 0:
        return 0
    return min((1 << DELAY_BITS) - 1, math.ceil(delay / DELAY_STEP - _ROUNDING))


class Publisher:
    """Publishes for one client.

    Args:
        link: Its connection.
        layout: Names.
        topology: Declares queues.
        sent: Called with the places of messages that are stored.
    """

    def __init__(self, link: Link, layout: Layout, topology: Topology, *, sent: Callable[[set[Place]], None]) -> None:
        self._link = link
        self._layout = layout
        self._topology = topology
        self._sent = sent
        self._delay_target = short(layout.delay(DELAY_BITS - 1))
        self.renew_in_fork()

    def renew_in_fork(self) -> None:
        """Leave the channel to the parent."""
        self._lock = threading.Lock()
        self._confirms: Confirms | None = None

    def publish(self, messages: Sequence[Outgoing]) -> list[str]:
        """Publish *messages*, and return for each why RabbitMQ does not take it; empty if it is stored.

        Raises:
            UnavailableError: RabbitMQ did not confirm them in time; some may be stored.
        """
        reasons = [""] * len(messages)
        todo = list(range(len(messages)))
        for _ in range(_TRIES):
            if not todo:
                break
            part = [messages[index] for index in todo]
            refused, returned = self._try(part)
            for position in refused:
                reasons[todo[position]] = "RabbitMQ refuses it: a limit of its queue is reached"
            todo = [todo[position] for position in returned]
        for index in todo:
            key = messages[index].routing_key
            which = f"its routing key, {key!r:.100}" if key else "the binding key"
            reasons[index] = f"no queue takes it: check the exchange and {which}"
        return reasons

    def _try(self, messages: Sequence[Outgoing]) -> tuple[set[int], list[int]]:
        """Publish *messages* once; return the positions of those refused, and of those without a queue."""
        units = [units_of(one.delay) for one in messages]
        self._declare(messages, units)
        try:
            batch, confirms = self._write(messages, units)
            self._wait(batch, confirms)
        except ChannelClosedError:
            self._topology.forget()  # an exchange is gone
            raise
        self._sent({one.place for one in messages})
        if not confirms.returned:
            return batch.refused, []
        self._topology.forget()
        came = confirms.take_returned()
        keys = [self._key(one, delayed) for one, delayed in zip(messages, units, strict=True)]
        return batch.refused, [
            position
            for position, (one, key) in enumerate(zip(messages, keys, strict=True))
            if (key, one.envelope.id) in came
        ]

    def _declare(self, messages: Sequence[Outgoing], units: Sequence[int]) -> None:
        self._topology.ensure(self._link, {one.place for one in messages})
        if any(units):
            late = [one for one, delayed in zip(messages, units, strict=True) if delayed]
            places = {one.place for one in late if not one.routing_key}
            self._topology.ensure_delays(self._link, set(units), places, {one.routing_key for one in late} - {""})

    def _key(self, one: Outgoing, units: int) -> str:
        if not units:
            return one.routing_key or self._layout.key(one.place)
        return self._layout.delayed_key(self._layout.gate(one.routing_key) if one.routing_key else one.place, units)

    def _write(self, messages: Sequence[Outgoing], units: Sequence[int]) -> tuple[Batch, Confirms]:
        confirms = self._open()
        channel, exchange = confirms.channel, short(self._layout.exchange)
        frame_max = channel.connection.frame_max
        targets: dict[tuple[Place, int, str], bytes] = {}
        pieces: list[bytes] = []
        for one, delayed in zip(messages, units, strict=True):
            way = one.place, delayed, one.routing_key
            target = targets.get(way)
            if target is None:
                first = self._delay_target if delayed else exchange
                target = targets[way] = first + short(self._key(one, delayed))
            header = properties(one.envelope, one.counts)
            pieces += publish(channel.number, target, header, one.envelope.body, frame_max=frame_max)
        data = b"".join(pieces)
        with confirms.lock:
            batch = confirms.expect(len(messages))
            channel.connection.write(data, timeout=self._link.timeout())
        return batch, confirms

    def _open(self) -> Confirms:
        connection = self._link.connection()
        with self._lock:
            confirms = self._confirms
            if confirms is None or confirms.channel.error is not None or confirms.channel.connection is not connection:
                channel = connection.open_channel(timeout=self._link.timeout())
                channel.call(spec.Confirm.Select(), timeout=self._link.timeout())
                confirms = self._confirms = Confirms(channel)
            return confirms

    def _wait(self, batch: Batch, confirms: Confirms) -> None:
        channel = confirms.channel
        deadline = time.monotonic() + self._link.timeout()
        with channel.changed:
            while batch.left > 0:
                channel.raise_if_closed()
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                channel.changed.wait(left)
        if batch.left <= 0:
            return
        blocked = channel.connection.blocked
        if blocked:
            raise UnavailableError(f"RabbitMQ takes no messages at the moment: {blocked}")
        error = UnavailableError("RabbitMQ does not confirm what was sent")
        channel.connection.fail(error)
        raise error
