"""Names and arguments of queues and exchanges, each once.

=======================  ===========================================================================================
``shop``                 messages of the queue ``shop`` with the usual priority
``shop~9``               its messages with priority 9; other priorities likewise
``queuekit.delay.N``     messages that still have to wait for 2**N times the shortest delay, and an exchange before it
``queuekit.due``         exchange to which a message goes when its delay has passed
``queuekit.lost``        messages whose queue was deleted while they were delayed
``queuekit.key.HASH``    delayed messages with a routing key of their own that are due; each key has such a queue
``queuekit.dropped``     messages that RabbitMQ has taken out of a queue by a limit of its own
``queuekit.next.ID``     nothing; it is there for a moment when queues are declared
=======================  ===========================================================================================

A delay is a binary number in the routing key, highest digit first: a message passes the delay queues of its ones, and
each of them gives it to the next lower exchange when its time to live is over. So every message of one delay queue
waits for the same time, none blocks another, and the delay survives a restart.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

import attrs

from queuekit.envelope import DEFAULT_PRIORITY
from queuekit.ids import is_name
from queuekit_amqp.capabilities import DELAY_BITS, DELAY_STEP
from queuekit_amqp.options import AmqpOptions

__all__ = ["Layout", "Place"]

_LEVELS = frozenset("0123456789")
_SHORT = 60_000
"""Milliseconds after which RabbitMQ deletes a queue that nobody needs, should its client have ended before."""
_UNLIMITED = 1_000_000_000
"""Deliveries after which RabbitMQ drops a message: never. RabbitMQ 4 has a limit of 20 unless the queue has one."""


@attrs.frozen
class Place:
    """One quorum queue: messages of a queue with one priority."""

    queue: str
    level: int = DEFAULT_PRIORITY

    @property
    def name(self) -> str:
        """Name in RabbitMQ; no name of a queue can contain ``~``."""
        return self.queue if self.level == DEFAULT_PRIORITY else f"{self.queue}~{self.level}"


class Layout:
    """Names under the options of one broker."""

    def __init__(self, options: AmqpOptions) -> None:
        self._options = options
        self.due = f"{options.prefix}.due"
        self.lost = f"{options.prefix}.lost"
        self.dropped = f"{options.prefix}.dropped"
        self.strays = (self.dropped, self.lost)
        """Names of queues of messages that have lost theirs."""
        self.keeps = frozenset(_passed_on_to(self.dropped))
        """Names of the arguments by which a queue keeps what RabbitMQ takes out of it."""
        self.exchange = options.exchange

    def origin(self, stray: Place, headers: Mapping[str, Any], routing_key: str) -> Place:
        """Return the place that a message in a *stray* place was sent to; *stray* itself if that is not known."""
        first = str(headers.get("x-first-death-queue") or "")
        if stray.queue == self.lost:
            first = routing_key.rpartition(".")[2].replace("/", ".")
        queue, _, level = first.partition("~")
        own = tuple(f"{self._options.prefix}.{word}." for word in ("delay", "key"))
        if not is_name(queue) or queue in self.strays or queue.startswith(own):
            return stray
        return Place(queue, int(level)) if level in _LEVELS else Place(queue)

    def key(self, place: Place) -> str:
        """Return the routing key of messages that go straight to *place*."""
        if not self.exchange:
            return place.name
        return self._options.binding_key.replace("{queue}", place.name)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of queues."""
        expires = self._options.auto_delete
        own: Mapping[str, Any] = {} if expires is None else {"x-expires": int(expires * 1_000)}
        limits = {"x-delivery-limit": _UNLIMITED, **_passed_on_to(self.dropped)}
        return {"x-queue-type": "quorum", **limits, **self._options.queue_arguments, **own}

    def next(self) -> str:
        """Return the name of a queue that has never been there."""
        return f"{self._options.prefix}.next.{uuid.uuid4().hex}"

    def next_arguments(self) -> dict[str, Any]:
        """Return its arguments; it is on as many nodes as other queues."""
        size = "x-quorum-initial-group-size"
        own = self._options.queue_arguments
        return {"x-queue-type": "quorum", "x-expires": _SHORT, **({size: own[size]} if size in own else {})}

    # -- delays

    def delay(self, bit: int) -> str:
        """Return the name of the exchange and the queue of a bit of the delay."""
        return f"{self._options.prefix}.delay.{bit}"

    def delay_arguments(self, bit: int) -> dict[str, Any]:
        """Return the arguments of the delay queue of *bit*."""
        wait = round(DELAY_STEP * 1_000) << bit
        return {"x-queue-type": "quorum", "x-message-ttl": wait, **_passed_on_to(self.after(bit))}

    def after(self, bit: int) -> str:
        """Return the exchange that comes after *bit*."""
        return self.delay(bit - 1) if bit else self.due

    def digit(self, bit: int, value: int) -> str:
        """Return the binding key of messages whose delay has *value* at *bit*."""
        return ".".join(["*"] * (DELAY_BITS - 1 - bit) + [str(value), "#"])

    def delayed_key(self, place: Place, units: int) -> str:
        """Return the routing key of a message that goes to *place* after *units* of the shortest delay."""
        return ".".join([*f"{units:0{DELAY_BITS}b}", _word(place)])

    def due_key(self, place: Place) -> str:
        """Return the binding key by which *place* gets what is due."""
        return f"#.{_word(place)}"

    def gate(self, routing_key: str) -> Place:
        """Return the queue that gives delayed messages their *routing_key* when they are due."""
        key = hashlib.sha256(f"{self.exchange}\0{routing_key}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return Place(f"{self._options.prefix}.key.{key}")

    def gate_arguments(self, routing_key: str) -> dict[str, Any]:
        """Return the arguments of that queue: what arrives goes on at once to the exchange, with the key."""
        key = {"x-dead-letter-routing-key": routing_key}
        return {"x-queue-type": "quorum", "x-message-ttl": 0, **_passed_on_to(self.exchange), **key}


def _passed_on_to(exchange: str) -> dict[str, Any]:
    """Return the arguments of a queue that passes what it takes out of itself on to *exchange*, without loss."""
    strategy = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    return {"x-dead-letter-exchange": exchange, **strategy}


def _word(place: Place) -> str:
    """Return the name of a place as one word of a routing key."""
    return place.name.replace(".", "/")
