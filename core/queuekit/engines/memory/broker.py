"""The broker of ``memory://``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from queuekit.backend import Condition, Join, Page
from queuekit.broker import (
    Broker,
    Capabilities,
    CommitItem,
    Delivery,
    Lease,
    Place,
    QueueCounts,
    Settlement,
    Stored,
)
from queuekit.clock import Clock, SystemClock
from queuekit.engines.memory.engine import LIMITS, MemoryEngine
from queuekit.envelope import Envelope
from queuekit.interrupts import Interrupts
from queuekit.urls import EngineURL

__all__ = ["CAPABILITIES", "MemoryBroker"]

CAPABILITIES = Capabilities(commit=True, processes=False, lanes=True)


class MemoryBroker(Broker):
    """Queues in this process, gone when it ends; see :class:`~queuekit.broker.Broker` for the methods.

    Args:
        url: ``memory://NAME``; a backend and other brokers of that name share the queues.
        options: Not used; this engine has none.
        clock: The server's clock.
        random: Makes the tokens.
    """

    capabilities = CAPABILITIES
    limits = LIMITS

    def __init__(
        self, url: EngineURL, *, options: object = None, clock: Clock | None = None, random: Random | None = None
    ) -> None:
        self._engine = MemoryEngine.of(url, clock=clock or SystemClock())
        self._random = random or Random()  # noqa: S311 - tokens fence claims, they are not secrets
        self.engine_id = self._engine.id
        self._interrupts = Interrupts()

    # -- delivering ----------------------------------------------------------------------------------------------

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Put *envelopes* on their queues."""
        self.check_sizes(envelopes)
        with self._engine.sent:
            now = self._engine.now()
            ids = [self._engine.messages.accept(envelope, now) for envelope in envelopes]
            self._engine.sent.notify_all()
        return ids

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Take due messages under a lease, waiting for the first one."""
        engine = self._engine
        limit = min(limit, self.limits.max_batch)
        deadline = engine.clock.monotonic() + min(wait, self.limits.max_wait)
        with engine.sent:
            handled = self._interrupts.handled
            while True:
                now = engine.now()
                engine.messages.upkeep(queues, now)
                deliveries = engine.messages.claim(queues, limit=limit, lease=lease, now=now, token=self._token)
                left = deadline - engine.clock.monotonic()
                if deliveries or limit <= 0 or left <= 0:
                    return deliveries
                if self._interrupts.interrupted(handled):
                    return []
                engine.clock.wait(engine.sent, self._cut(left, queues, now))

    def _cut(self, left: float, queues: Sequence[str], now: float) -> float:
        """Return the seconds to wait until a message may become ready."""
        event = self._engine.messages.next_event(queues)
        return left if event is None else min(left, max(event - now, self.limits.lease_granularity))

    def receive_while(self, like: Callable[[Delivery], bool], *, limit: int, lease: float) -> list[Delivery]:
        """Take due messages of all queues as :meth:`receive` does, up to the first for which *like* is false."""
        engine = self._engine
        with engine.sent:
            now, names = engine.now(), engine.messages.names()
            engine.messages.upkeep(names, now)
            return engine.messages.claim(names, limit=limit, lease=lease, now=now, token=self._token, like=like)

    def next_event(self) -> float | None:
        """Return when the next message is due, which may have passed, or the next lease ends, in UTC epoch seconds."""
        messages = self._engine.messages
        with self._engine.sent:
            return messages.next_event(messages.names(), ready=True)

    def _token(self) -> str:
        return f"{self._engine.next_claim()}-{self._random.getrandbits(64):016x}"

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Make *leases* end later."""
        with self._engine.sent:
            until = self._engine.now() + lease
            lost = [one for one in leases if not self._engine.messages.extend(one, until=until)]
            self._engine.sent.notify_all()  # a lease may also have become shorter
        return lost

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Apply *settlements*."""
        with self._engine.sent:
            now = self._engine.now()
            lost = [each.delivery for each in settlements if not self._engine.messages.settle(each, now)]
            self._engine.sent.notify_all()
        return lost

    def commit(self, items: Sequence[CommitItem]) -> list[bool]:
        """Apply each item in one step."""
        for item in items:
            self.check_sizes(_envelopes_of(item))
        with self._engine.lock:
            now = self._engine.now()
            done = [self._commit_one(item, now) for item in items]
            self._engine.sent.notify_all()
            self._engine.written.notify_all()
        return done

    def _commit_one(self, item: CommitItem, now: float) -> bool:
        messages, records = self._engine.messages, self._engine.records
        # The settlement comes first: it decides whether the rest may happen, and frees a unique key for the sends.
        if item.settlement is not None and not messages.settle(item.settlement, now):
            return False
        for record in item.records:
            records.put(record, Condition.NEWER, None, now)
        for join in item.joins:
            _, count = records.join(join.group, join.member, join.ttl, now)
            if count >= join.size:
                for envelope in _follow_ups(join):
                    messages.accept(envelope, now)
        for envelope in item.sends:
            messages.accept(envelope, now)
        return True

    # -- inspecting and repairing --------------------------------------------------------------------------------

    def queues(self) -> list[str]:
        """Return the names of all queues."""
        with self._engine.lock:
            return self._engine.messages.names()

    def counts(self, queues: Sequence[str]) -> dict[str, QueueCounts]:
        """Return the counts of *queues*."""
        with self._engine.lock:
            now = self._engine.now()
            return {queue: self._engine.messages.counts(queue, now) for queue in queues}

    def peek(self, queue: str, *, place: Place, limit: int = 100, cursor: str | None = None) -> Page[Stored]:
        """Return messages in *place*."""
        with self._engine.lock:
            return self._engine.messages.page(queue, place, limit=limit, cursor=cursor, now=self._engine.now())

    def find(self, queue: str, ids: Sequence[str]) -> list[Stored]:
        """Return the messages among *ids* that *queue* holds."""
        with self._engine.lock:
            return self._engine.messages.find(queue, ids, self._engine.now())

    def requeue(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        """Replay dead letters."""
        with self._engine.sent:
            replayed = self._engine.messages.requeue(queue, ids, self._engine.now())
            self._engine.sent.notify_all()
        return replayed

    def remove(self, queue: str, ids: Sequence[str], *, place: Place | None = None) -> list[str]:
        """Delete messages by id; leased ones stay."""
        places = {Place.READY, Place.DELAYED} if place is None else {place} - {Place.LEASED}
        with self._engine.lock:
            return self._engine.messages.remove(queue, ids, places, self._engine.now())

    def dead_beyond(self, queue: str, *, count: int | None, before: float | None, limit: int = 500) -> list[str]:
        """Return the ids of dead letters beyond the bounds, oldest first."""
        with self._engine.lock:
            return self._engine.messages.dead_beyond(queue, count=count, before=before)[:limit]

    def purge(self, queue: str, *, place: Place = Place.READY) -> int:
        """Delete all messages in *place*; holders of leased ones lose their leases."""
        with self._engine.lock:
            return len(self._engine.messages.remove(queue, None, {place}, self._engine.now()))

    def interrupt(self) -> None:
        """Make a waiting ``receive`` return; if there is none, the next one returns at once."""
        self._interrupts.interrupt()
        with self._engine.sent:
            self._engine.sent.notify_all()

    def check(self) -> list[str]:
        """Return the limits of this engine."""
        return ["memory:// lives in one process: other processes do not see its data, which is lost when this one ends"]

    def close(self) -> None:
        """End the waits of this broker; it has no connections."""
        self.interrupt()


def _follow_ups(join: Join) -> list[Envelope]:
    """Return the envelopes that *join* sends when its group is complete."""
    return [envelope for envelope in join.then if isinstance(envelope, Envelope)]


def _envelopes_of(item: CommitItem) -> list[Envelope]:
    """Return the envelopes that *item* may send."""
    return [*item.sends, *(envelope for join in item.joins for envelope in _follow_ups(join))]
