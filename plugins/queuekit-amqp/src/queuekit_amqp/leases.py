"""The messages that this process holds. RabbitMQ ties them to the channel; when a lease ends is decided here.

A thread puts back what is held for longer than its lease. What a process holds when it dies, or loses its connection,
RabbitMQ puts back by itself.
"""

from __future__ import annotations

import heapq
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence

import attrs

from queuekit.broker import Delivery, Lease
from queuekit.envelope import Envelope
from queuekit_amqp.channel import Channel
from queuekit_amqp.messages import Counts

__all__ = ["Held", "Leases"]

_SPARE = 64
"""Ends of leases that are over, which may be kept."""


@attrs.define(eq=False)
class Held:
    """A message that this process holds."""

    channel: Channel
    tag: int
    envelope: Envelope
    published: Counts
    """As published, without the deliveries since."""
    deliveries: int
    counts: Counts
    """Until its present delivery."""
    token: str = ""
    until: float = 0.0
    """Monotonic time at which its lease ends."""
    since: float = 0.0
    """Monotonic time of its arrival."""
    moved: bool = False
    """Whether it was published again, and has only to be acknowledged."""
    settling: bool = False
    """Whether a settlement is under way, which the end of the lease does not interrupt."""


class Leases:
    """Leases of one client.

    Args:
        most: Seconds for which RabbitMQ lets a message be held.
        expire: Called with the messages whose leases have ended.
    """

    def __init__(self, *, most: float, expire: Callable[[Sequence[Held]], None]) -> None:
        self._most = most
        self._expire = expire
        self.renew_in_fork()

    def renew_in_fork(self) -> None:
        """Hold nothing: what the parent holds is its own."""
        self._changed = threading.Condition()
        self._held: dict[str, Held] = {}
        self._ends: list[tuple[float, str]] = []
        self._name, self._serial = uuid.uuid4().hex[:20], 0
        self._thread: threading.Thread | None = None
        self._wakes_at = float("-inf")
        self._closed = False

    def hold(self, held: Iterable[Held], *, lease: float) -> None:
        """Begin a lease of *lease* seconds for each of *held*, and set its token."""
        now = time.monotonic()
        with self._changed:
            for one in held:
                self._serial += 1
                one.token = f"{self._name}{self._serial:x}"
                one.until = min(now + lease, one.since + self._most)
                self._held[one.token] = one
                heapq.heappush(self._ends, (one.until, one.token))
            self._watch()

    def _watch(self) -> None:
        """See to it that the thread wakes at the next end of a lease."""
        if not self._ends:
            return
        if self._thread is None:
            self._closed = False
            self._thread = threading.Thread(target=self._run, name="queuekit-amqp-leases", daemon=True)
            self._thread.start()
        elif self._ends[0][0] < self._wakes_at:
            self._changed.notify_all()

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Make *leases* end *lease* seconds from now, and return those that are lost."""
        now = time.monotonic()
        lost: list[Lease] = []
        with self._changed:
            for one in leases:
                held = self._found(one.token, one.id, one.queue, now)
                if held is None:
                    lost.append(one)
                    continue
                held.until = min(now + lease, held.since + self._most)
                heapq.heappush(self._ends, (held.until, held.token))
            self._watch()
        return lost

    def begin(self, deliveries: Sequence[Delivery]) -> list[Held | None]:
        """Return what is held of *deliveries*, now being settled; ``None`` for each whose lease is lost."""
        now = time.monotonic()
        found: list[Held | None] = []
        with self._changed:
            for each in deliveries:
                held = self._found(each.token, each.id, each.queue, now)
                if held is not None and held.settling:
                    held = None  # another settlement of the batch, or of another thread, came first
                if held is not None:
                    held.settling = True
                found.append(held)
        return found

    def _found(self, token: str, id: str, queue: str, now: float) -> Held | None:
        held = self._held.get(token)
        if held is None or now > held.until or (held.envelope.id, held.envelope.queue) != (id, queue):
            return None
        return held

    def end(self, held: Iterable[Held]) -> None:
        """Forget messages that are settled."""
        with self._changed:
            for one in held:
                self._held.pop(one.token, None)
            if len(self._ends) > _SPARE + 4 * len(self._held):
                self._ends = [(one.until, one.token) for one in self._held.values()]
                heapq.heapify(self._ends)

    def keep(self, held: Iterable[Held]) -> None:
        """Go on with leases whose settlement has failed."""
        with self._changed:
            for one in held:
                one.settling = False
                heapq.heappush(self._ends, (one.until, one.token))
            self._watch()

    def lose(self, channel: Channel) -> None:
        """Forget what was held on a channel that has ended."""
        with self._changed:
            for token in [token for token, one in self._held.items() if one.channel is channel]:
                del self._held[token]

    def close(self) -> None:
        """End the thread; RabbitMQ puts back what is still held when the connection ends."""
        with self._changed:
            self._closed = True
            self._held.clear()
            self._ends.clear()
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        """Put back what is held for too long, in a thread of its own."""
        while True:
            with self._changed:
                over = self._over(time.monotonic())
                if self._closed:
                    return
                if not over:
                    self._wakes_at = self._ends[0][0] if self._ends else float("inf")
                    self._changed.wait(max(0.0, self._wakes_at - time.monotonic()) if self._ends else None)
                    self._wakes_at = float("-inf")
                    continue
            self._expire(over)

    def _over(self, now: float) -> list[Held]:
        """Remove and return the messages whose leases have ended."""
        over: list[Held] = []
        while self._ends and self._ends[0][0] < now:
            _, token = heapq.heappop(self._ends)
            held = self._held.get(token)
            if held is not None and held.until < now and not held.settling:
                over.append(self._held.pop(token))
        return over
