"""Base of brokers that wrap another broker: it passes every call on, and subclasses override some."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence

from queuekit.backend import Backend, Page
from queuekit.broker import Broker, Delivery, Lease, Place, QueueCounts, Settlement, Stored, Subscription
from queuekit.envelope import Envelope

__all__ = ["WrappedBroker"]


class WrappedBroker(Broker):
    """Passes every call to the inner broker.

    Args:
        broker: The inner broker.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.capabilities = broker.capabilities
        self.limits = broker.limits
        self.engine_id = broker.engine_id
        self.message_options = broker.message_options

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Put *envelopes* on their queues."""
        return self._broker.send(envelopes)

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Take due messages under a lease."""
        return self._broker.receive(queues, limit=limit, wait=wait, lease=lease)

    def subscribe(self, queues: Sequence[str], *, prefetch: int, lease: float) -> Subscription:
        """Have messages pushed, each through :meth:`received`."""
        inner = self._broker.subscribe(queues, prefetch=prefetch, lease=lease)
        return _Subscribed(inner, lambda deliveries: self.received(deliveries, lease))

    def received(self, deliveries: list[Delivery], lease: float) -> list[Delivery]:
        """Return what is to be handed out of *deliveries*, which the broker inside has received or had pushed."""
        return deliveries

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Make *leases* end later."""
        return self._broker.extend(leases, lease=lease)

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Apply *settlements*."""
        return self._broker.settle(settlements)

    def queues(self) -> list[str]:
        """Return the names of all queues."""
        return self._broker.queues()

    def strays(self) -> list[str]:
        """Return the queues to which the service has moved messages."""
        return self._broker.strays()

    def counts(self, queues: Sequence[str]) -> dict[str, QueueCounts]:
        """Return the counts of *queues*."""
        return self._broker.counts(queues)

    def peek(self, queue: str, *, place: Place, limit: int = 100, cursor: str | None = None) -> Page[Stored]:
        """Return messages in *place*."""
        return self._broker.peek(queue, place=place, limit=limit, cursor=cursor)

    def walk(self, queue: str, place: Place, *, page_size: int = 500) -> Iterator[Stored]:
        """Yield all messages in *place*."""
        return self._broker.walk(queue, place, page_size=page_size)

    def seek_dead(self, queue: str, ids: Sequence[str] | None = None) -> Generator[Stored, None, None]:
        """Yield dead letters for a caller who changes them meanwhile."""
        return self._broker.seek_dead(queue, ids)

    def find(self, queue: str, ids: Sequence[str]) -> list[Stored]:
        """Return the messages among *ids* that *queue* holds."""
        return self._broker.find(queue, ids)

    def requeue(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        """Replay dead letters."""
        return self._broker.requeue(queue, ids)

    def remove(self, queue: str, ids: Sequence[str], *, place: Place | None = None) -> list[str]:
        """Delete messages by id."""
        return self._broker.remove(queue, ids, place=place)

    def dead_beyond(self, queue: str, *, count: int | None, before: float | None, limit: int = 500) -> list[str]:
        """Return the ids of dead letters beyond the bounds."""
        return self._broker.dead_beyond(queue, count=count, before=before, limit=limit)

    def purge(self, queue: str, *, place: Place = Place.READY) -> int:
        """Delete all messages in *place*."""
        return self._broker.purge(queue, place=place)

    def share(self, backend: Backend) -> None:
        """Let the inner broker keep state that its clients share in *backend*."""
        self._broker.share(backend)

    def interrupt(self) -> None:
        """Make a ``receive`` that blocks in another thread return soon."""
        self._broker.interrupt()

    def tell_set_aside(self, hear: Callable[[str, str, str], None]) -> None:
        """Call *hear* with each message that the inner broker itself finds malformed."""
        self._broker.tell_set_aside(hear)

    def check(self) -> list[str]:
        """Ask the service for problems that an operator should know."""
        return self._broker.check()

    def check_queues(self, queues: Sequence[str], *, max_deliveries: int) -> list[str]:
        """Ask the service whether *queues* are set up as workers need them."""
        return self._broker.check_queues(queues, max_deliveries=max_deliveries)

    def notes(self) -> list[str]:
        """Return facts that may interest an operator."""
        return self._broker.notes()

    def close(self) -> None:
        """Close the inner broker; the backend is closed by its owner."""
        self._broker.close()


class _Subscribed(Subscription):
    """A subscription to the broker inside, whose deliveries pass through its wrapper."""

    def __init__(self, inner: Subscription, received: Callable[[list[Delivery]], list[Delivery]]) -> None:
        self._inner, self._received = inner, received

    def next(self, *, limit: int, wait: float, queues: Sequence[str] = ()) -> list[Delivery]:
        """Return deliveries."""
        return self._received(self._inner.next(limit=limit, wait=wait, queues=queues))

    def close(self) -> None:
        """End the subscription."""
        self._inner.close()
