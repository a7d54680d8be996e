"""The contract of a broker: bytes in queues under leases, all in batches.

A plugin fills :meth:`Broker.send`, :meth:`~Broker.receive`, :meth:`~Broker.extend` and :meth:`~Broker.settle`; the
rest is optional and said by its :class:`Capabilities`. Invariants QK1-QK15 (docs/delivery.md) hold for all of them.
Methods are synchronous and thread-safe; a broker opens its connection at first use, opens a new one after a fork,
reconnects by itself, and decides every lease, due time and expiry on the server's clock (QK11).
"""

from __future__ import annotations

import abc
import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import attrs

from queuekit.backend import Backend, Join, Page, Record
from queuekit.envelope import Envelope
from queuekit.errors import CapabilityError, TooLargeError
from queuekit.values import quick_frozen

__all__ = [
    "Ack",
    "Broker",
    "Capabilities",
    "CommitItem",
    "Dead",
    "Delivery",
    "Lease",
    "Limits",
    "Place",
    "QueueCounts",
    "Release",
    "Replace",
    "Settlement",
    "Stored",
]


class Place(enum.StrEnum):
    """Where a message is (QK1: in exactly one of these, or gone)."""

    READY = "ready"
    DELAYED = "delayed"
    LEASED = "leased"
    DEAD = "dead"


class Lease(NamedTuple):
    """What must be shown to keep a message: light, so that it can cross to another process.

    Whoever shows it may renew the lease and settle the message: another client, a fork, a supervisor that never claimed
    anything. A service that ties leases to a connection declares ``portable_leases=False``.
    """

    queue: str
    id: str
    token: str
    number: int


@quick_frozen(kw_only=True)
class Delivery:
    """A message under a lease."""

    envelope: Envelope
    token: str
    """Fence: text that only this claim knows, in whatever process or fork; a stale one changes nothing (QK4). A few
    hundred characters at most: a worker has room for thousands of such leases, and for fewer of longer ones."""
    number: int
    """How many times it has been claimed, this one included; grows with each claim. It may begin anew with a
    :class:`Replace` and with a replay, where these are new messages to the service."""
    crashes: int = 0
    """Earlier claims that ended with neither settle nor uncounted release; above 0 it is a suspect (QK6)."""
    sent_at: float = 0.0
    """UTC epoch seconds at which the broker accepted it, on the broker's clock."""
    claimed_at: float = 0.0
    """UTC epoch seconds of this claim on the broker's clock."""
    unmarked: bool = False
    """Whether the broker has looked for the mark that it was told to look for, and there is none."""

    @property
    def id(self) -> str:
        """Id of the message."""
        return self.envelope.id

    @property
    def queue(self) -> str:
        """Queue that it came from."""
        return self.envelope.queue

    @property
    def lease(self) -> Lease:
        """What :meth:`Broker.extend` needs."""
        return Lease(self.envelope.queue, self.envelope.id, self.token, self.number)


@quick_frozen
class Ack:
    """Done: the message leaves the broker; its id is remembered for ``limits.dedup_window``."""

    delivery: Delivery


@quick_frozen
class Release:
    """Give the message back. With no delay it returns to its old place in the order."""

    delivery: Delivery
    delay: float = attrs.field(default=0.0, kw_only=True)
    """Seconds until it may be handed out again."""
    counted: bool = attrs.field(default=False, kw_only=True)
    """Whether it counts as a crash, as an expired lease does."""


@quick_frozen
class Replace:
    """Put *envelope* in the place of the message, in one step where the engine can: the next attempt or hop.

    It keeps the id and raises attempt or hop, takes its due time from the envelope's ``delay`` and ``not_before``,
    keeps the unique key, and starts with no crashes.
    """

    delivery: Delivery
    envelope: Envelope


@quick_frozen
class Dead:
    """Move the message to the dead letters, intact."""

    delivery: Delivery
    reason: str = attrs.field(kw_only=True)
    """One of a few words: failed, crashed, malformed, unknown, rejected."""
    holder: str = attrs.field(default="", kw_only=True)
    """Worker that held it last."""
    error: str = attrs.field(default="", kw_only=True)
    """Error type and text, at most 2,000 characters."""


Retry = Replace
"""The earlier name of :class:`Replace`, for plugins that were written with it."""

Settlement = Ack | Release | Replace | Dead


@quick_frozen(kw_only=True)
class CommitItem:
    """What one step does: if the settlement's lease is stale none of it happens, else all of it (QK12)."""

    settlement: Settlement | None = None
    records: tuple[Record, ...] = ()
    """Written where newer than what is there."""
    joins: tuple[Join, ...] = ()
    sends: tuple[Envelope, ...] = ()


@attrs.frozen(kw_only=True)
class QueueCounts:
    """A queue at a glance."""

    ready: int = 0
    delayed: int = 0
    leased: int = 0
    dead: int = 0
    oldest_age: float | None = None
    """Seconds since the oldest ready message became due; ``None`` if there is none."""


@attrs.frozen(kw_only=True)
class Stored:
    """A message as :meth:`Broker.peek` shows it."""

    envelope: Envelope
    place: Place
    due: float = 0.0
    """UTC epoch seconds: when it may be, or might have been, handed out; for a lease, when it ends."""
    sent_at: float = 0.0
    number: int = 0
    crashes: int = 0
    reason: str = ""
    error: str = ""
    holder: str = ""
    died_at: float | None = None


@attrs.frozen(kw_only=True)
class Capabilities:
    """What the service can do by itself. Core emulates some, and refuses the rest when the app starts."""

    fenced_ack: bool = True
    """A settle with a stale token changes nothing and is reported."""
    delay: bool = True
    priority: bool = True
    dedup: bool = True
    """A send repeated with the same (id, generation, attempt, hop) adds nothing (QK13)."""
    unique: bool = True
    """Takes unique keys in the same step as the send."""
    fifo: bool = True
    """Within a queue and priority, messages are handed out in the order of their due times."""
    blocking_receive: bool = True
    """``receive`` is woken by a send, not by polling."""
    inspect: bool = True
    """``counts``, ``peek`` and ``queues`` tell about single messages."""
    remove: bool = True
    """``remove`` takes waiting messages out by id."""
    dead_letters: bool = True
    """Keeps dead letters itself, with reason, for ``peek``, ``requeue`` and ``purge``."""
    commit: bool = False
    """``commit`` does a whole :class:`CommitItem` in one step, with a backend of the same ``engine_id``."""
    processes: bool = True
    """Other processes see the same queues."""
    portable_leases: bool = True
    """Any process that shows a :class:`Lease` may renew and settle it; where false, only the client that claimed."""


@attrs.frozen(kw_only=True)
class Limits:
    """The service's numbers; core asks these, never the plugin's name."""

    max_batch: int = 1_000
    """Most messages in one call of send, receive, extend or settle; at least 10. Where the service takes fewer at once,
    the plugin parts them."""
    max_wait: float = 60.0
    """Longest ``wait`` of a receive, in seconds."""
    max_delay: float | None = None
    """Longest delay in seconds; ``None`` for any. Beyond it core delays again on receipt (hops)."""
    max_lease: float | None = None
    """Longest time that a message can be held, in seconds."""
    max_body: int = 16_000_000
    """Longest body in bytes."""
    lease_granularity: float = 0.001
    """Seconds by which leases and delays may be rounded up."""
    dedup_window: float = 300.0
    """Seconds that an id is remembered after the message is gone."""
    dead_retention: float | None = None
    """Seconds after which the service itself throws a dead letter away; ``None`` for never."""


class Broker(abc.ABC):
    """Queues of messages under leases.

    Every method may raise :class:`~queuekit.errors.UnavailableError` when the service does not answer; nothing is
    lost then, and the call may be repeated.
    """

    capabilities: Capabilities = Capabilities()
    limits: Limits = Limits()
    engine_id: str | None = None
    """Equal for a broker and a backend that can commit together; ``None`` for never."""
    largest_wanted: int | None = None
    """Bytes beyond which core refuses a body, set by core: one that lies elsewhere need not be read for that."""

    @abc.abstractmethod
    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Put *envelopes* on their queues in one round trip and return, for each, the id that holds the place.

        That is its own id, also when the same send is repeated (QK13), or the id of the message that holds its
        unique key. When it returns the messages are stored as safely as the service promises.

        Raises:
            PartialSendError: Some were refused; the others are on their queues.
            TooLargeError: A body is above ``limits.max_body``; nothing was sent.
        """

    @abc.abstractmethod
    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Take up to *limit* due messages under a lease; an empty list if *wait* passes without one.

        Ready becomes leased in one step (QK2). Within a queue, priority 9 comes first, then the order of due times.
        Upkeep comes first, on the server's clock, at most 1,000 each: delayed messages that are due become ready,
        expired leases become ready again, each in its old place, with one more crash counted (QK7). The wait is cut to
        the next due time or expiry. ``limit=0, wait=0`` does the upkeep alone.

        Args:
            queues: Names, most urgent first. One never sent to is empty, not an error.
            limit: Most messages to take; cut to ``limits.max_batch``.
            wait: Seconds to block; 0 looks once. Cut to ``limits.max_wait``.
            lease: Seconds until they are handed out again unless extended or settled.
        """

    @abc.abstractmethod
    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Make *leases* end *lease* seconds from now, in one round trip, and return those already lost.

        Any of them may have been claimed by another client or process, whose supervisor calls this with no more than
        the leases. Where ``capabilities.portable_leases`` is false, only the client that claimed them calls it.
        """

    @abc.abstractmethod
    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Carry out *settlements* in one round trip and return the deliveries whose lease was already lost.

        Each is independent of the others (QK8). A stale token changes nothing (QK4).

        Any of them may have been claimed by another client or process. For one that has died, its supervisor makes a
        :class:`Release` from the lease alone: the envelope of its delivery then has id, queue, generation and attempt,
        and an empty body. A service that cannot put a message back uncounted without its body may count it as a crash.
        Where ``capabilities.portable_leases`` is false, only the client that claimed settles.
        """

    def commit(self, items: Sequence[CommitItem]) -> list[bool]:
        """Carry out each item in one step, all in one round trip; false where the lease was lost.

        Called only if ``capabilities.commit`` and the backend has the same ``engine_id``. Records are written under
        :attr:`~queuekit.backend.Condition.NEWER`; a join that completes its group sends what it carries.
        """
        raise self._cannot("commit")

    def look_for_marks(self, prefix: str) -> bool:
        """From now on look with each claim for records whose key is *prefix* and a message's id; return whether it can.

        Called only if the backend has the same ``engine_id``. A delivery is ``unmarked`` where there is none, which
        saves its worker a round trip before the task may begin.
        """
        return False

    def share(self, backend: Backend) -> None:  # noqa: B027 - most services tell their clients all that they need
        """Hear once, before the first call, of the result backend that all clients of the app use.

        A broker may keep there what its service cannot tell from one client to another, under keys of its own that
        begin with its scheme. Losing one of these records must lose no message.
        """

    def queues(self) -> list[str]:
        """Return the names of all queues that hold or held messages, sorted."""
        raise self._cannot("list queues")

    def counts(self, queues: Sequence[str]) -> dict[str, QueueCounts]:
        """Return the counts of each of *queues*; of one never sent to, zeros."""
        raise self._cannot("count messages")

    def peek(self, queue: str, *, place: Place, limit: int = 100, cursor: str | None = None) -> Page[Stored]:
        """Return messages of *queue* in *place* without touching them, next first; dead ones latest first."""
        raise self._cannot("show waiting messages")

    def find(self, queue: str, ids: Sequence[str]) -> list[Stored]:
        """Return those of *ids* that *queue* holds, wherever they are."""
        wanted = set(ids)
        return [stored for place in Place for stored in self.walk(queue, place) if stored.envelope.id in wanted]

    def requeue(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        """Replay dead letters (all, or *ids*): ready at once, generation + 1, attempt 0; return their ids."""
        raise self._cannot("replay dead letters")

    def remove(self, queue: str, ids: Sequence[str], *, place: Place | None = None) -> list[str]:
        """Take messages out for good and return the ids that were there.

        Args:
            queue: Where they are.
            ids: Which.
            place: Only from here; ``None`` means ready or delayed. Leased ones cannot be removed.
        """
        raise self._cannot("remove messages by id")

    def purge(self, queue: str, *, place: Place = Place.READY) -> int:
        """Take all messages of *queue* in *place* out for good and return how many there were."""
        raise self._cannot("purge")

    def interrupt(self) -> None:  # noqa: B027 - a broker that waits briefly needs nothing
        """Make a ``receive`` that blocks in another thread return soon; without this a stop waits for it."""

    def tell_set_aside(self, hear: Callable[[str, str, str], None]) -> None:  # noqa: B027 - few set anything aside
        """From now on call *hear* with queue, id and reason of each message that the broker itself found malformed.

        Such a message is among the dead letters and was delivered to nobody, so nobody else could log it.
        """

    def check(self) -> list[str]:
        """Ask the service for what an operator should know (persistence off, eviction on); one line each."""
        return []

    def check_queues(self, queues: Sequence[str], *, max_deliveries: int) -> list[str]:
        """Ask the service whether *queues* keep what workers rest on; one line for each problem.

        Args:
            queues: Those that the app sends to or works on; one that is not there yet is no problem.
            max_deliveries: Deliveries that end in a crash after which core gives a message up.
        """
        return []

    def notes(self) -> list[str]:
        """Return what an operator may like to know though nothing is wrong, such as what a task costs; one line each.

        The service is not asked.
        """
        return []

    def close(self) -> None:  # noqa: B027 - nothing to close is a legal answer
        """Close all connections; may be called twice."""

    def walk(self, queue: str, place: Place, *, page_size: int = 500) -> Iterator[Stored]:
        """Yield all messages of *queue* in *place*, in the order of :meth:`peek`, holding one page at a time."""
        cursor: str | None = None
        while True:
            page = self.peek(queue, place=place, limit=page_size, cursor=cursor)
            yield from page.items
            cursor = page.cursor
            if cursor is None:
                return

    def check_sizes(self, envelopes: Iterable[Envelope]) -> None:
        """Refuse bodies above ``limits.max_body``; a ``send`` calls this before anything has happened.

        Raises:
            TooLargeError: Names the first message that is too large.
        """
        most = self.limits.max_body
        for envelope in envelopes:
            if len(envelope.body) > most:
                size = f"{len(envelope.body):,} bytes, above the limit of {most:,}"
                raise TooLargeError(f"the body of message {envelope.id} has {size}")

    def _cannot(self, what: str) -> CapabilityError:
        return CapabilityError(f"{type(self).__name__} cannot {what}")
