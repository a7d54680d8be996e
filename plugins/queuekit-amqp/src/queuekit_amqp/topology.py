"""Declare queues and exchanges where they are needed first, and remember which are there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pika import spec

from queuekit_amqp.capabilities import DELAY_BITS
from queuekit_amqp.channel import ChannelClosedError
from queuekit_amqp.connections import Link
from queuekit_amqp.layout import Layout, Place
from queuekit_amqp.options import AmqpOptions

__all__ = ["Topology", "passive"]

_NOT_FOUND, _DIFFERENT = 404, 406


def passive(link: Link, name: str) -> int | None:
    """Return how many messages are ready in the queue *name*; ``None`` if it does not exist."""
    channel = link.take()
    try:
        (answer,) = channel.call(spec.Queue.Declare(queue=name, passive=True), timeout=link.timeout())
    except ChannelClosedError as error:
        if error.reply == _NOT_FOUND:
            return None
        raise
    finally:
        link.give(channel)
    return int(answer.message_count)


class Topology:
    """The queues and exchanges of one client."""

    def __init__(self, layout: Layout, options: AmqpOptions) -> None:
        self._layout = layout
        self._options = options
        self.renew_in_fork()

    def renew_in_fork(self) -> None:
        """Create a new lock."""
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Declare everything again: something may be gone."""
        self._places: set[Place] = set()
        self._due: set[Place] = set()
        self._bits: set[int] = set()
        self._delays = False
        self._dropped = False

    def knows(self, place: Place) -> bool:
        """Return whether *place* is there."""
        return place in self._places

    def ensure(self, link: Link, places: Iterable[Place]) -> None:
        """Declare the queues of *places*."""
        missing = [place for place in dict.fromkeys(places) if place not in self._places]
        if missing:
            with self._lock:
                self._keep_dropped(link)
                new = [place for place in missing if passive(link, place.name) is None]
                for place in new:
                    self._declare(link, place)
                if new:
                    self._write_names(link)
                for place in missing:
                    if self._layout.exchange:
                        self._bind(link, place)
                    self._places.add(place)

    def _keep_dropped(self, link: Link) -> None:
        """Declare the place of what RabbitMQ takes out of queues."""
        if self._dropped:
            return
        name = self._layout.dropped
        new = passive(link, name) is None
        self._call(link, *_kept(name))
        if new:
            self._write_names(link)
        self._dropped = True

    def _declare(self, link: Link, place: Place) -> None:
        channel = link.take()
        declared = spec.Queue.Declare(queue=place.name, durable=True, arguments=self._layout.arguments())
        try:
            channel.call(declared, timeout=link.timeout())
        except ChannelClosedError as error:
            # Somebody has just declared it with other arguments: it is used as it is, and `queuekit check` tells.
            if error.reply != _DIFFERENT or passive(link, place.name) is None:
                raise
        finally:
            link.give(channel)

    def _write_names(self, link: Link) -> None:
        """Have RabbitMQ write the names of the queues to its disk that were declared last.

        RabbitMQ 3.10 writes the name of a quorum queue up to a second later, or before it adds the next one. If it is
        killed meanwhile, the queue loses its messages, confirmed ones too, and takes no new ones.
        """
        name = self._layout.next()
        declared = spec.Queue.Declare(queue=name, durable=True, arguments=self._layout.next_arguments())
        with contextlib.suppress(ChannelClosedError):  # a limit or a permission is in the way: RabbitMQ writes it later
            self._call(link, declared, spec.Queue.Delete(queue=name))

    def _bind(self, link: Link, place: Place) -> None:
        name, kind = self._layout.exchange, self._options.exchange_type
        exchange = spec.Exchange.Declare(exchange=name, type=kind, durable=True)
        binding = spec.Queue.Bind(queue=place.name, exchange=name, routing_key=self._layout.key(place))
        self._call(link, exchange, binding)

    def _call(self, link: Link, *methods: Any) -> None:
        channel = link.take()
        try:
            channel.call(*methods, timeout=link.timeout())
        finally:
            link.give(channel)

    # -- delays

    def ensure_delays(
        self, link: Link, units: Collection[int], places: Collection[Place], routing_keys: Collection[str] = ()
    ) -> None:
        """Declare what messages with delays of *units* pass on their way to *places*, or to *routing_keys*."""
        self.ensure(link, places)
        bits = {bit for one in set(units) for bit in range(DELAY_BITS) if one >> bit & 1} - self._bits
        gates = {self._layout.gate(key): key for key in routing_keys}
        bound = {*places, *gates} - self._due
        if not bits and not bound:
            return
        with self._lock:
            names = [*map(self._layout.delay, bits), *(gate.name for gate in gates if gate in bound)]
            self._declare_delays(link, names, bits, gates)
            due, key = self._layout.due, self._layout.due_key
            for place in bound:
                self._call(link, spec.Queue.Bind(queue=place.name, exchange=due, routing_key=key(place)))
                self._due.add(place)

    def _declare_delays(self, link: Link, names: list[str], bits: set[int], gates: Mapping[Place, str]) -> None:
        """Declare the delay queues of *bits* and the *gates*; *names* are those of queues that may be new."""
        names = names if self._delays else [self._layout.lost, *names]
        new = [name for name in names if passive(link, name) is None]
        if not self._delays:
            self._call(link, *self._exchanges())
        for bit in sorted(bits):
            self._call(link, *self._delay_queue(bit))
        for gate, routing_key in gates.items():
            arguments = self._layout.gate_arguments(routing_key)
            self._call(link, spec.Queue.Declare(queue=gate.name, durable=True, arguments=arguments))
        if new:
            self._write_names(link)
        self._delays = True
        self._bits |= bits

    def _exchanges(self) -> list[Any]:
        layout = self._layout
        # RabbitMQ goes on trying what it cannot pass on, and 32 of those would hold up all others of a delay queue.
        lost = {"alternate-exchange": layout.lost}
        names = [layout.delay(bit) for bit in range(DELAY_BITS)]
        declared = [
            *_kept(layout.lost),
            spec.Exchange.Declare(exchange=layout.due, type="topic", durable=True, arguments=lost),
            *[spec.Exchange.Declare(exchange=name, type="topic", durable=True) for name in names],
        ]
        skips = [
            spec.Exchange.Bind(
                destination=layout.after(bit), source=layout.delay(bit), routing_key=layout.digit(bit, 0)
            )
            for bit in range(DELAY_BITS)
        ]
        return [*declared, *skips]

    def _delay_queue(self, bit: int) -> list[Any]:
        layout, name = self._layout, self._layout.delay(bit)
        return [
            spec.Queue.Declare(queue=name, durable=True, arguments=layout.delay_arguments(bit)),
            spec.Queue.Bind(queue=name, exchange=name, routing_key=layout.digit(bit, 1)),
        ]


def _kept(name: str) -> list[Any]:
    """Return what declares an exchange and a queue of one name, which keeps all that the exchange gets."""
    return [
        spec.Exchange.Declare(exchange=name, type="fanout", durable=True),
        spec.Queue.Declare(queue=name, durable=True, arguments={"x-queue-type": "quorum"}),
        spec.Queue.Bind(queue=name, exchange=name, routing_key=""),
    ]
