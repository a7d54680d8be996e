"""Helpers for the tests of a broker: clients, queues, messages, and common steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import pytest

from queuekit.broker import Ack, Broker, Capabilities, Delivery, Place, Settlement
from queuekit.envelope import Envelope
from queuekit.errors import QueuekitError
from queuekit.ids import new_id
from queuekit_testing.connections import open_connections
from queuekit_testing.engines import new_broker
from queuekit_testing.kit import Conformance, Span, slow, unique_name, waits

__all__ = ["BrokerKit"]

T = TypeVar("T")

_FAR = 500.0
_MOST_PAGES = 100


class BrokerKit(Conformance):
    """Clients of one server, and helpers."""

    url: Any = None
    """URL of the server, as text or parsed; the installed plugin for its scheme makes the clients."""

    def make_broker(self) -> Broker:
        """Return a new client of the same server at each call. Override this, or set ``url``."""
        if self.url is None:
            hint = 'url = "my://localhost/test", or def make_broker(self): return MyBroker(...)'
            raise NotImplementedError(f"{type(self).__name__} does not name its server. Add {hint}")
        return new_broker(self.url)

    # -- fixtures ------------------------------------------------------------------------------------------------

    @pytest.fixture
    def broker(self, server: object) -> Iterator[Broker]:
        """Return a client; the queues of the test are purged afterwards."""
        with self.session() as broker:
            yield broker

    @pytest.fixture
    def queue(self, broker: Broker) -> str:
        """Return the name of an unused queue."""
        return self.new_queue()

    @pytest.fixture
    def declared(self, broker: Broker) -> Capabilities:
        """Return the capabilities that the broker declares."""
        return broker.capabilities

    @contextmanager
    def session(self) -> Iterator[Broker]:
        """Yield a client; then purge all queues and close all clients of the test."""
        self._clients: list[Broker] = []
        self._queues: list[str] = []
        self._claimers: dict[str, Broker] = {}
        self._known = open_connections()
        self._limits = self.make_broker().limits
        broker = self.connect()
        try:
            yield broker
        finally:
            for queue in self._queues:
                for place in (Place.READY, Place.DELAYED, Place.DEAD):
                    with suppress(QueuekitError, NotImplementedError):
                        broker.purge(queue, place=place)
            for client in self._clients:
                client.close()

    # -- clients, queues, messages -------------------------------------------------------------------------------

    def connect(self) -> Broker:
        """Return a new client, which is closed after the test."""
        client = self.make_broker()
        self._clients.append(client)
        return client

    def new_queue(self) -> str:
        """Return the name of a new queue, which is purged after the test."""
        self._queues.append(unique_name("kit"))
        return self._queues[-1]

    def message(self, queue: str, **fields: Any) -> Envelope:
        """Return a message for *queue*."""
        return Envelope(**{"id": new_id(), "queue": queue, "body": b"body", **fields})

    def messages(self, queue: str, count: int, **fields: Any) -> list[Envelope]:
        """Return *count* different messages."""
        return [self.message(queue, body=b"%d" % index, **fields) for index in range(count)]

    # -- times ---------------------------------------------------------------------------------------------------

    @property
    def short(self) -> float:
        """Seconds of a lease or delay that a test lets end, on this service."""
        return max(self.SHORT, 5 * self._limits.lease_granularity)

    @property
    def long(self) -> float:
        """Seconds of a lease that does not end during the test."""
        return min(120.0, self._limits.max_lease or 120.0)

    @property
    def far(self) -> float:
        """Seconds of a delay that does not end during the test, and that the service supports."""
        return min(_FAR, self._limits.max_delay or _FAR)

    @property
    def patience(self) -> float:
        """Seconds that a test waits on this service for something that must happen."""
        return max(self.PATIENCE, 40 * self._limits.lease_granularity)

    @property
    def wait(self) -> float:
        """Timeout of a ``receive`` that the test notices if nothing wakes the call earlier."""
        return min(3 * self.patience, self._limits.max_wait)

    def result(self, future: Future[T], what: str) -> T:
        """Return the result of a thread; fail if it takes longer than ``PATIENCE`` or most of a ``receive``'s wait."""
        seconds = min(self.PATIENCE, 0.75 * self._limits.max_wait)
        try:
            return future.result(timeout=seconds)
        except TimeoutError:
            pytest.fail(f"not within {seconds:g} s: {what}")

    def leases(self) -> Iterator[Span]:
        """Yield leases for a step that must end before they do; see ``spans``."""
        return self.spans(self.short, self._limits.lease_granularity)

    def not_early(self, elapsed: float, seconds: float) -> bool:
        """Return whether *elapsed*, measured here, is at least *seconds*, measured on the server."""
        return elapsed >= seconds - self._limits.lease_granularity - 0.01 * seconds

    # -- steps ---------------------------------------------------------------------------------------------------

    def take(self, broker: Broker, queue: str, count: int, *, lease: float | None = None) -> list[Delivery]:
        """Claim *count* messages and return them in order of arrival; fail if they do not arrive."""
        taken: list[Delivery] = []
        slowest = 0.0
        for wait in waits(self.patience):
            step = min(wait, broker.limits.max_wait)
            limit = min(count - len(taken), broker.limits.max_batch)
            begun = time.monotonic()
            found = broker.receive([queue], limit=limit, wait=step, lease=lease or self.long)
            slowest = max(slowest, time.monotonic() - begun - step)
            self._claimers |= {each.token: broker for each in found}
            taken += found
            if len(taken) >= count:
                return taken
        why = slow(slowest, self.patience)
        pytest.fail(f"only {len(taken)} of {count} messages arrived within {self.patience:g} s{why}")

    def take_one(self, broker: Broker, queue: str, *, lease: float | None = None) -> Delivery:
        """Claim one message; fail if none arrives."""
        return self.take(broker, queue, 1, lease=lease)[0]

    def sent_and_taken(self, broker: Broker, envelope: Envelope, *, lease: float | None = None) -> Delivery:
        """Send *envelope*, claim it, and return the delivery."""
        broker.send([envelope])
        return self.take_one(broker, envelope.queue, lease=lease)

    def look(self, broker: Broker, queue: str, *, wait: float = 0.0) -> list[str]:
        """Claim the ready messages, at most ten, and return their ids."""
        return [delivery.id for delivery in broker.receive([queue], limit=10, wait=wait, lease=self.long)]

    def do(self, broker: Broker, *settlements: Settlement) -> None:
        """Settle; fail if a lease was lost. Where leases are not portable, the client that claimed settles."""
        parts: dict[Broker, list[Settlement]] = {}
        for each in settlements:
            claimer = broker if broker.capabilities.portable_leases else self._claimers.get(each.delivery.token, broker)
            parts.setdefault(claimer, []).append(each)
        lost = [one for claimer, part in parts.items() for one in claimer.settle(part)]
        assert not lost, "the broker refused a settlement under a valid lease"

    def lapsed(self, broker: Broker, queue: str) -> tuple[Delivery, Delivery]:
        """Return a delivery whose lease has ended, and the current delivery of the same message to another client."""
        broker.send([self.message(queue)])
        stale = self.take_one(broker, queue, lease=self.short)
        return stale, self.take_one(self.connect(), queue)

    def seen(self, broker: Broker, queue: str, place: Place, *, limit: int = 100) -> list[str]:
        """Return the ids of all messages that ``peek`` shows in *place*, in pages of *limit*."""
        page = broker.peek(queue, place=place, limit=limit)
        items = list(page.items)
        for _ in range(_MOST_PAGES):
            if page.cursor is None:
                return [stored.envelope.id for stored in items]
            page = broker.peek(queue, place=place, limit=limit, cursor=page.cursor)
            items += page.items
        pytest.fail(f"peek returned more than {_MOST_PAGES} pages for a few messages")

    def drain_once(self, broker: Broker, queue: str) -> list[str]:
        """Claim and acknowledge ready messages, and return their ids."""
        deliveries = broker.receive([queue], limit=7, wait=min(0.05, broker.limits.max_wait), lease=self.long)
        self.do(broker, *[Ack(delivery) for delivery in deliveries])
        return [delivery.id for delivery in deliveries]
