"""The broker of ``amqp://`` and ``amqps://``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from queuekit.backend import Backend
from queuekit.broker import Broker, Delivery, Lease, QueueCounts, Settlement, Subscription, count_each
from queuekit.broker import Place as Part
from queuekit.clock import Clock, SystemClock
from queuekit.envelope import DEFAULT_PRIORITY, Envelope
from queuekit.errors import ConfigError, PartialSendError, UnavailableError
from queuekit.forks import renew_in_forks
from queuekit.interrupts import Interrupts
from queuekit.levels import Levels
from queuekit.urls import EngineURL
from queuekit_amqp.capabilities import CAPABILITIES, limits_of
from queuekit_amqp.channel import Channel, ChannelClosedError
from queuekit_amqp.claiming import Arrival, Claiming, Receiver
from queuekit_amqp.connections import Connections
from queuekit_amqp.inspection import check_queue, count, purge
from queuekit_amqp.layout import Layout, Place
from queuekit_amqp.leases import Held, Leases
from queuekit_amqp.marks import Marks
from queuekit_amqp.messages import Counts
from queuekit_amqp.options import AmqpMessageOptions, AmqpOptions
from queuekit_amqp.sending import Outgoing, Publisher
from queuekit_amqp.settling import Settling
from queuekit_amqp.topology import Topology, passive
from queuekit_amqp.urls import read_target
from queuekit_amqp.waiting import Pushed

__all__ = ["AmqpBroker"]

T = TypeVar("T")

_LEVELS = tuple(level for level in range(10) if level != DEFAULT_PRIORITY)
_LOOK = 5.0
"""Seconds between two looks for queues of other priorities, if clients share no backend; RabbitMQ logs each miss."""
_LOOK_AGAIN = 600.0
"""The same if they do: a backend may forget what was announced, and an announcement ends after a day."""
_NOT_STARTED = "noproc"
"""In the error of RabbitMQ 3.10 if a queue was declared but does not run yet; it closes the connection then."""
_TRIES, _PAUSE = 4, 0.1
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.2
"""Seconds between two looks of a ``receive`` that waits; workers do not call it, they subscribe."""
_SHARE = 0.5
"""Part of the longest time to hold a message for which one may wait for a worker to take it."""


class AmqpBroker(Broker):
    """Queues on RabbitMQ; see :class:`~queuekit.broker.Broker` for the methods.

    Args:
        url: Servers, virtual host and credentials.
        options: Options of queues and connections.
        clock: Tells the time, since RabbitMQ does not.
        random: Not used.
    """

    capabilities = CAPABILITIES
    message_options = AmqpMessageOptions

    def __init__(
        self,
        url: EngineURL,
        *,
        options: AmqpOptions | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._options = options = options or AmqpOptions()
        self.limits = limits_of(options)
        self._clock = clock or SystemClock()
        self._layout = Layout(options)
        self._topology = Topology(self._layout, options)
        self._target = read_target(url)
        self._connections = Connections(self._target, options, hide=url.hide, renewed=self._topology.forget)
        self._publisher = Publisher(self._connections.publish, self._layout, self._topology, sent=self._announce)
        self._marks = Marks()
        self._leases = Leases(most=options.consumer_timeout, expire=self._expire)
        self._claiming = Claiming(self._leases, self._marks, self._clock, self._layout)
        self._settling = Settling(self._leases, self._publisher, self._marks, self._clock, longest=self._longest_delay)
        self._interrupts = Interrupts()
        self._receiver = Receiver(self._connections.consume, self._interrupts, ended=self._leases.lose)
        self._levels: Levels | None = None
        self._used: dict[str, set[int]] = {}
        """Priorities in use, by queue, beside the usual one."""
        self._looked: dict[str, float] = {}
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Leave connections and messages to the parent."""
        for part in (self._connections, self._topology, self._publisher, self._leases):
            part.renew_in_fork()

    def share(self, backend: Backend) -> None:
        """Keep in *backend* the priorities in use, and which deliveries were no crashes."""
        self._marks.share(backend)
        self._levels = Levels(backend, "amqp")

    # -- delivering

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Put *envelopes* on their queues."""
        self.check_sizes(envelopes)
        if not envelopes:
            return []
        now = self._clock.time()
        counts, longest = Counts(sent_at=now), self._longest_delay()
        messages = [
            Outgoing(
                envelope=one, counts=counts, delay=min(longest, _delay(one, now)), routing_key=self._routing_key(one)
            )
            for one in envelopes
        ]
        reasons = self._publisher.publish(messages)
        refused = {one.id: reason for one, reason in zip(envelopes, reasons, strict=True) if reason}
        if refused:
            what = f"RabbitMQ refuses {len(refused)} of {len(envelopes)} messages: {next(iter(refused.values()))}"
            raise PartialSendError(what, failures=refused)
        return [one.id for one in envelopes]

    def _routing_key(self, envelope: Envelope) -> str:
        """Return the routing key that a message asks for; empty for the usual one.

        Raises:
            ConfigError: Messages go to the default exchange, which has no other keys.
        """
        given: AmqpMessageOptions | None = self.options_of(envelope)
        if given is None or not given.routing_key:
            return ""
        if not self._layout.exchange:
            what = f"message {envelope.id} has a routing key, but there is no exchange for it"
            raise ConfigError(what, fix="Set amqp.exchange, or leave the routing key out")
        return given.routing_key

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Claim messages under a lease; wait for the first one."""
        if limit <= 0 or not queues:
            return []
        limit, deadline = min(limit, self.limits.max_batch), time.monotonic() + min(wait, self.limits.max_wait)
        handled = self._interrupts.handled
        arrivals = self._patiently(lambda: self._receive(queues, limit, deadline, handled))
        self._give_back(arrivals[limit:])
        return self._claiming.deliver(arrivals[:limit], lease=lease)

    def _receive(self, queues: Sequence[str], limit: int, deadline: float, handled: int) -> list[Arrival]:
        channel = self._receiver.open()
        pause = _FIRST_PAUSE
        try:
            while True:
                arrivals = self._receiver.get(channel, self._places(queues), limit=limit)
                left = deadline - time.monotonic()
                if arrivals or left <= 0 or self._interrupts.interrupted(handled):
                    return arrivals
                # A consumer would know at once. But when it ends, RabbitMQ counts what was on its way as delivered.
                self._receiver.pause(channel, min(pause, left), handled)
                pause = min(2 * pause, _LONGEST_PAUSE)
                if self._interrupts.handled != handled:
                    return []
        finally:
            self._connections.consume.give(channel)

    def subscribe(self, queues: Sequence[str], *, prefetch: int, lease: float) -> Subscription:
        """Have messages of *queues* pushed."""
        own = self._options.prefetch
        most = min(prefetch, own) if own else prefetch
        return self._patiently(lambda: self._pushed(self._receiver.open(), queues, most, lease))

    def _patiently(self, consume: Callable[[], T]) -> T:
        """Return what *consume* returns; repeat it where a queue is gone, or was declared a moment ago by others."""
        for _ in range(_TRIES):
            try:
                return consume()
            except ChannelClosedError:
                self._topology.forget()
            except UnavailableError as error:
                if _NOT_STARTED not in error.what:
                    raise
                time.sleep(_PAUSE)
        return consume()

    def _pushed(self, channel: Channel, queues: Sequence[str], prefetch: int, lease: float) -> Pushed:
        return Pushed(
            channel,
            self._connections.consume,
            places=self._places,
            queues=queues,
            prefetch=prefetch,
            lease=lease,
            longest=_SHARE * self._options.consumer_timeout,
            claiming=self._claiming,
            interrupts=self._interrupts,
            give_back=self._give_back,
        )

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Extend *leases* of this process."""
        return self._leases.extend(leases, lease=lease)

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Apply *settlements*."""
        return self._settling.settle(settlements)

    def _longest_delay(self) -> float:
        return self.limits.max_delay or 0.0

    def _give_back(self, arrivals: Sequence[Arrival]) -> None:
        if arrivals:
            self._settling.give_back(self._claiming.held(arrivals))

    def _expire(self, held: Sequence[Held]) -> None:
        with contextlib.suppress(UnavailableError):  # RabbitMQ puts back what was held on a broken connection
            self._settling.expire(held)

    # -- priorities

    def _places(self, queues: Sequence[str]) -> list[Place]:
        """Return the places of *queues*, most urgent first; all of them exist."""
        strays = [Place(queue) for queue in queues if queue in self._layout.strays and self._ready(queue)]
        queues = [queue for queue in queues if queue not in self._layout.strays]
        self._look(queues)
        places = [
            Place(queue, level)
            for queue in queues
            for level in sorted({DEFAULT_PRIORITY, *self._used.get(queue, ())}, reverse=True)
        ]
        self._topology.ensure(self._connections.consume, places)
        return [*places, *strays]

    def _look(self, queues: Sequence[str]) -> None:
        """Find the priorities that other clients use."""
        if self._levels is not None and self._levels.is_due():
            for queue, levels in self._levels.read(queues).items():
                self._used.setdefault(queue, set()).update(levels)
        now, pause = time.monotonic(), _LOOK if self._levels is None else _LOOK_AGAIN
        for queue in queues:
            if now - self._looked.get(queue, float("-inf")) >= pause:
                self._looked[queue] = now
                found = {level for level in _LEVELS if self._exists(Place(queue, level))}
                self._used.setdefault(queue, set()).update(found)

    def _exists(self, place: Place) -> bool:
        return self._topology.knows(place) or passive(self._connections.consume, place.name) is not None

    def _announce(self, places: set[Place]) -> None:
        """Tell those who receive which priorities are in use."""
        for place in places:
            if place.level != DEFAULT_PRIORITY:
                self._used.setdefault(place.queue, set()).add(place.level)
                if self._levels is not None:
                    self._levels.announce(place.queue, place.level)

    # -- inspecting and changing

    def counts(self, queues: Sequence[str]) -> dict[str, QueueCounts]:
        """Return how many messages of *queues* are ready; RabbitMQ tells nothing of the others over AMQP."""
        return count_each(queues, lambda queue: count(self._connections.consume, self._all(queue)))

    def strays(self) -> list[str]:
        """Return the queues of messages that RabbitMQ has taken out of theirs, or whose queue was deleted."""
        return [name for name in self._layout.strays if self._ready(name)]

    def _all(self, queue: str) -> list[Place]:
        if queue in self._layout.strays:
            return [Place(queue)]
        self._look([queue])
        return [Place(queue, level) for level in sorted({DEFAULT_PRIORITY, *self._used.get(queue, ())})]

    def purge(self, queue: str, *, place: Part = Part.READY) -> int:
        """Delete all messages of *queue* that are ready."""
        if place is not Part.READY:
            raise self._cannot(f"purge {place} messages")
        return purge(self._connections.consume, self._all(queue))

    def interrupt(self) -> None:
        """Make a waiting ``receive`` or ``next`` return; if none waits, the next one that would wait."""
        self._interrupts.interrupt()

    def check(self) -> list[str]:
        """Return whether files of TLS are not used, and whether messages have lost their queue or were taken out."""
        lines = [f"{name}: {count} {what}" for name, what in self._astray() if (count := self._ready(name))]
        if self._options.names_files and not self._target.tls:
            lines.append("ca_file, cert_file and key_file have no effect without TLS: write amqps://")
        return lines

    def _ready(self, name: str) -> int:
        return passive(self._connections.consume, name) or 0

    def _astray(self) -> list[tuple[str, str]]:
        """Return the names of queues that nobody takes messages from, and what they hold."""
        limit = "a limit of a policy, such as delivery-limit (rabbitmqctl list_policies)"
        lost, dropped = self._layout.lost, self._layout.dropped
        return [
            (lost, f"delayed messages, whose queue was deleted. {_way_back(lost)}"),
            (dropped, f"messages that RabbitMQ took out of their queues by {limit}. {_way_back(dropped)}"),
        ]

    def check_queues(self, queues: Sequence[str], *, max_deliveries: int) -> list[str]:
        """Return the settings of queues that may lose messages."""
        link = self._connections.consume
        return [
            problem
            for queue in queues
            for place in self._all(queue)
            for problem in check_queue(link, self._layout, place, max_deliveries=max_deliveries)
        ]

    def notes(self) -> list[str]:
        """Return what an operator should know of leases."""
        most = self._options.consumer_timeout
        return [f"RabbitMQ takes back a message that is held for more than {most:g} s, its consumer_timeout"]

    def close(self) -> None:
        """Close all connections; RabbitMQ puts back what is still held."""
        self._leases.close()
        self._connections.close()


def _way_back(name: str) -> str:
    return f"Move them back, or delete them:  queuekit move {name},  queuekit purge {name}"


def _delay(envelope: Envelope, now: float) -> float:
    return max(envelope.delay, (envelope.not_before or now) - now)
