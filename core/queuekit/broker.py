"""The contract of a broker: bytes in queues under leases, all in batches.

A plugin implements :meth:`Broker.send`, :meth:`~Broker.receive`, :meth:`~Broker.extend` and :meth:`~Broker.settle`; the
rest is optional and declared by its :class:`Capabilities`. Invariants QK1-QK15 (docs/delivery.md) hold for all of them.
Methods are synchronous and thread-safe. A broker connects at first use and again after a fork, reconnects by itself,
and decides every lease, due time and expiry on the server's clock (QK11). If the service does not tell the time
(:attr:`Capabilities.tells_time`), times are on the clock that the broker's factory is given.
"""

from __future__ import annotations

import abc
import enum
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import attrs

from queuekit.backend import Backend, Join, Page, Record
from queuekit.envelope import Envelope, options_in
from queuekit.errors import CapabilityError, TooLargeError, UnavailableError
from queuekit.timelimit import made_progress, time_left
from queuekit.values import frozen, quick_frozen

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
    "Subscription",
    "count_each",
]

_FIRST_PAGE = 20
"""Messages in the first page of a walk, since their size is not known yet."""
_PAGE_BYTES = 4_000_000
"""Approximate bytes of bodies in one page of a walk."""


class Place(enum.StrEnum):
    """The part of a queue that a message is in (QK1: exactly one, or gone)."""

    READY = "ready"
    DELAYED = "delayed"
    LEASED = "leased"
    DEAD = "dead"


class Lease(NamedTuple):
    """Proof that a worker holds a message; small, so that it can be passed to another process.

    Any holder of it may renew the lease and settle the message: another client, a fork, a supervisor that never claimed
    anything. A service that ties leases to a connection declares ``portable_leases=False``.

    Attributes:
        queue: Queue of the message.
        id: Id of the message.
        token: Fencing token of the claim, as in :attr:`Delivery.token`.
        number: Number of the claim, as in :attr:`Delivery.number`.
    """

    queue: str
    id: str
    token: str
    number: int


@quick_frozen(kw_only=True)
class Delivery:
    """A message under a lease.

    Attributes:
        envelope: The message.
        token: Fencing token: text unique to this claim across processes and forks; a stale token changes nothing (QK4).
            At most a few hundred characters: a worker's lease table has room for thousands of such tokens, but fewer
            longer ones.
        number: How many times it has been claimed, including this claim. It may restart with a :class:`Replace` or a
            replay, if these are new messages to the service.
        crashes: Earlier claims that ended with neither a settlement nor an uncounted release; above 0 it is a suspect
            (QK6).
        sent_at: UTC epoch seconds at which the broker accepted it, on the broker's clock.
        claimed_at: UTC epoch seconds of this claim, on the broker's clock.
        unmarked: Whether the broker has looked for the marks of :meth:`Broker.look_for_marks` and found none.
        unread: Why the broker could not read the body that the message refers to, e.g. because it was deleted. Core
            dead-letters such a message with this text.
    """

    envelope: Envelope
    token: str
    number: int
    crashes: int = 0
    sent_at: float = 0.0
    claimed_at: float = 0.0
    unmarked: bool = False
    unread: str = ""

    @property
    def id(self) -> str:
        """Id of the message."""
        return self.envelope.id

    @property
    def queue(self) -> str:
        """Queue of the message."""
        return self.envelope.queue

    @property
    def lease(self) -> Lease:
        """The lease, for :meth:`Broker.extend`."""
        return Lease(self.envelope.queue, self.envelope.id, self.token, self.number)


@quick_frozen
class Ack:
    """Done: the message leaves the broker; its id is remembered for ``limits.dedup_window``.

    Attributes:
        delivery: The message, as it was claimed.
    """

    delivery: Delivery


@quick_frozen
class Release:
    """Put the message back. Without a delay it returns to its previous position in the queue.

    Attributes:
        delivery: The message, as it was claimed.
        delay: Seconds until it may be delivered again.
        counted: Whether it counts as a crash, as an expired lease does.
    """

    delivery: Delivery
    delay: float = attrs.field(default=0.0, kw_only=True)
    counted: bool = attrs.field(default=False, kw_only=True)


@quick_frozen
class Replace:
    """Replace the message with *envelope*, its next attempt or hop, in one step if the engine can.

    It keeps the id and the unique key, raises attempt or hop, takes its due time from the envelope's ``delay`` and
    ``not_before``, and starts with no crashes. The envelope's ``queue`` may be another one: an operator moves messages.

    Attributes:
        delivery: The message, as it was claimed.
        envelope: What takes its place.
    """

    delivery: Delivery
    envelope: Envelope


@quick_frozen
class Dead:
    """Move the message to the dead letters, intact.

    Attributes:
        delivery: The message, as it was claimed.
        reason: One of a few words: failed, crashed, malformed, unknown, rejected, unsigned.
        holder: Last worker that held it.
        error: Error type and text, at most 2,000 characters.
    """

    delivery: Delivery
    reason: str = attrs.field(kw_only=True)
    holder: str = attrs.field(default="", kw_only=True)
    error: str = attrs.field(default="", kw_only=True)


Retry = Replace
"""The earlier name of :class:`Replace`, for plugins that were written with it."""

Settlement = Ack | Release | Replace | Dead


@quick_frozen(kw_only=True)
class CommitItem:
    """The changes of one atomic step: all of them happen, or none if the settlement's lease is stale (QK12).

    Attributes:
        settlement: Settles the message that the changes come from; ``None`` if they come from no message.
        records: Written if newer than the stored ones.
        joins: Arrivals in groups.
        sends: Messages to send.
    """

    settlement: Settlement | None = None
    records: tuple[Record, ...] = ()
    joins: tuple[Join, ...] = ()
    sends: tuple[Envelope, ...] = ()


@frozen(kw_only=True)
class QueueCounts:
    """The number of messages in each place of a queue.

    Attributes:
        ready: Messages that may be delivered now.
        delayed: Messages that are due later.
        leased: Messages that workers hold.
        dead: Dead letters.
        oldest_age: Seconds since the oldest ready message became due; ``None`` if none is ready.
        at_least: Places whose number is a lower bound, since counting all would have taken too long.
    """

    ready: int = 0
    delayed: int = 0
    leased: int = 0
    dead: int = 0
    oldest_age: float | None = None
    at_least: frozenset[Place] = frozenset()


@frozen(kw_only=True)
class Stored:
    """A message as returned by :meth:`Broker.peek`.

    Attributes:
        envelope: The message.
        place: Where it is.
        due: UTC epoch seconds at which it is, or was, due; of a leased message, when the lease ends.
        sent_at: UTC epoch seconds at which the broker accepted it; 0 if unknown.
        number: How many times it has been claimed.
        crashes: Claims that ended in a crash.
        reason: Of a dead letter: why it is dead, as in :attr:`Dead.reason`.
        error: Of a dead letter: error type and text.
        holder: Of a dead letter: the last worker that held it.
        died_at: Of a dead letter: UTC epoch seconds of its death; ``None`` if it is not dead or the broker does not
            know.
    """

    envelope: Envelope
    place: Place
    due: float = 0.0
    sent_at: float = 0.0
    number: int = 0
    crashes: int = 0
    reason: str = ""
    error: str = ""
    holder: str = ""
    died_at: float | None = None


@frozen(kw_only=True)
class Capabilities:
    """What the service can do by itself. Core emulates some missing capabilities and refuses the rest at start.

    Attributes:
        fenced_ack: A settlement with a stale token changes nothing and is reported.
        delay: Hides a message until its delay has passed and its ``not_before`` is reached.
        priority: Within a queue, delivers messages of a higher priority first.
        dedup: A send repeated with the same (id, generation, attempt, hop) adds nothing (QK13).
        unique: Takes unique keys in the same step as the send.
        fifo: Within a queue and priority, messages are delivered in the order of their due times.
        blocking_receive: A send wakes ``receive``; it does not poll.
        inspect: ``counts``, ``peek`` and ``queues`` report single messages.
        remove: ``remove`` removes waiting messages by id.
        dead_letters: Keeps dead letters itself, with the reason, for ``peek``, ``requeue`` and ``purge``.
        commit: ``commit`` applies a whole :class:`CommitItem` in one step, with a backend of the same ``engine_id``.
        processes: Other processes see the same queues.
        portable_leases: Any process with a :class:`Lease` may renew and settle it; if false, only the client that
            claimed it may.
        tells_time: The service has a clock, on which ``sent_at``, ``claimed_at`` and ``not_before`` are. If false, they
            are on the clock passed to the factory, which gives the time of the result backend; never on
            ``time.time()``.
        counts: :meth:`Broker.counts` returns at least the number of waiting messages. Defaults to the value of
            ``inspect``.
        push: The service pushes messages: workers use :meth:`Broker.subscribe` instead of ``receive``.
        lanes: Within a queue and priority, lanes take turns by their weights (:class:`~queuekit.envelope.Lane`): the
            only message of a lane starts after about one message of each other lane, however many those have. False by
            default.
        approximate_lanes: The service itself prefers messages of lanes that have few in flight, without a promise and
            without weights. False by default.
    """

    fenced_ack: bool = True
    delay: bool = True
    priority: bool = True
    dedup: bool = True
    unique: bool = True
    fifo: bool = True
    blocking_receive: bool = True
    inspect: bool = True
    remove: bool = True
    dead_letters: bool = True
    commit: bool = False
    processes: bool = True
    portable_leases: bool = True
    tells_time: bool = True
    counts: bool = attrs.field(default=attrs.Factory(lambda self: self.inspect, takes_self=True))
    push: bool = False
    lanes: bool = False
    approximate_lanes: bool = False


@frozen(kw_only=True)
class Limits:
    """The limits of the service; core relies on these, never on the plugin's name.

    Attributes:
        max_batch: Most messages in one call of send, receive, extend or settle; at least 10. If the service takes fewer
            at once, the plugin splits the batch.
        batch_bytes: Most bytes of bodies in one call of send, settle or commit. Core splits larger batches, so that a
            timeout applies to one part instead of many large messages. A single message, or a single step, may be
            larger.
        max_wait: Longest ``wait`` of a receive, in seconds.
        max_delay: Longest delay, in seconds; ``None`` for no limit. ``Envelope.delay`` is never longer, but
            ``not_before`` may be later: cut that, and core delays the message again on receipt (hops).
        max_lease: Longest lease, in seconds; ``None`` for no limit. Core never asks for a longer one, and renews in
            time.
        max_body: Longest body, in bytes.
        lease_granularity: Seconds by which leases and delays may be rounded up.
        dedup_window: Seconds for which an id is remembered after its message is gone.
        dead_retention: Seconds after which the service itself deletes a dead letter; ``None`` for never.
        dead_in_order: Dead letters that ``peek`` lists in order; ``None`` for all. A service that has no order of its
            own can only sort what it has read. Then ``peek`` lists no others, and ``walk`` yields all in parts of at
            most so many, each newest first.
        dead_searched: Dead letters that ``find``, ``requeue`` and ``remove`` look at in search of an id, if the service
            shows dead letters only by handing them out; ``None`` if they find each one at once.
    """

    max_batch: int = 1_000
    batch_bytes: int = 1_000_000
    max_wait: float = 60.0
    max_delay: float | None = None
    max_lease: float | None = None
    max_body: int = 16_000_000
    lease_granularity: float = 0.001
    dedup_window: float = 300.0
    dead_retention: float | None = None
    dead_in_order: int | None = None
    dead_searched: int | None = None


class Subscription(abc.ABC):
    """The deliveries that one worker gets from a broker, see :meth:`Broker.subscribe`."""

    @abc.abstractmethod
    def next(self, *, limit: int, wait: float, queues: Sequence[str] = ()) -> list[Delivery]:
        """Return up to *limit* deliveries; an empty list if none arrives within *wait* seconds.

        :meth:`Broker.interrupt` ends the wait. ``limit=0, wait=0`` does upkeep alone.

        Args:
            limit: Maximum number of deliveries.
            wait: Seconds to block; 0 only looks at what was pushed.
            queues: The queues of the subscription, most urgent first for this call; empty for their first order.

        Raises:
            UnavailableError: The service does not answer. Core closes the subscription and makes another.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """End the subscription; may be called twice.

        What was pushed and not returned by :meth:`next` goes back at once, uncounted. What was returned stays leased:
        the worker settles it later.
        """


class _Polling(Subscription):
    """A subscription to a broker that does not push."""

    def __init__(self, broker: Broker, queues: Sequence[str], *, prefetch: int, lease: float) -> None:
        self._broker, self._queues, self._most, self._lease = broker, queues, prefetch, lease

    def next(self, *, limit: int, wait: float, queues: Sequence[str] = ()) -> list[Delivery]:
        """Receive."""
        most = min(limit, self._most)
        return self._broker.receive(queues or self._queues, limit=most, wait=wait, lease=self._lease)

    def close(self) -> None:
        """Do nothing: all that was received was returned."""


def beyond(dead: Sequence[tuple[float | None, str]], *, count: int | None, before: float | None) -> list[str]:
    """Return the ids that :meth:`Broker.dead_beyond` selects from times and ids of dead letters, oldest first."""
    over = 0 if count is None else len(dead) - count
    old = -1.0 if before is None else before
    return [id for number, (died, id) in enumerate(dead) if number < over or (died is not None and died < old)]


def count_each(queues: Sequence[str], count: Callable[[str], QueueCounts]) -> dict[str, QueueCounts]:
    """Return the counts of *queues* from a service that counts them one by one; for those it did not, 0 or more.

    Once one has failed and the caller's time is over, no other is asked for.

    Raises:
        UnavailableError: It counted none.
    """
    found: dict[str, QueueCounts] = {}
    failed: list[UnavailableError] = []
    for queue in queues:
        if failed and not time_left(1.0):
            break
        try:
            found[queue] = count(queue)
        except UnavailableError as error:
            failed.append(error)
    if failed and not found:
        raise failed[0]
    return {queue: found.get(queue, QueueCounts(at_least=frozenset(Place))) for queue in queues}


class Broker(abc.ABC):
    """Queues of messages under leases.

    Every method may raise :class:`~queuekit.errors.UnavailableError` when the service does not answer. Nothing is lost
    then, and the call may be repeated.
    """

    capabilities: Capabilities = Capabilities()
    limits: Limits = Limits()
    """The limits that core reads; an instance sets its own if they depend on its options."""
    engine_id: str | None = None
    """Equal for a broker and a backend that can commit together; ``None`` if it never can."""
    message_options: type | None = None
    """attrs class whose fields are the options of the service for a single message, all with defaults. Callers give
    them as ``options(broker={"name": value})``; core checks them against this class. ``None``: there are none."""
    largest_wanted: int | None = None
    """Bytes above which core refuses a body; set by core, so that a broker need not fetch a larger body."""

    @abc.abstractmethod
    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Put *envelopes* on their queues in one round trip and return an id for each.

        That is its own id, even if the send is repeated (QK13), or the id of the message that holds its unique key.
        When this returns, the messages are stored as safely as the service promises.

        Raises:
            PartialSendError: Some messages were refused; the others are on their queues.
            TooLargeError: A body is above ``limits.max_body``; nothing was sent.
        """

    @abc.abstractmethod
    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Take up to *limit* due messages under a lease; return an empty list if *wait* passes without one.

        A ready message becomes leased in one step (QK2). Within a queue, priority 9 comes first, then the earliest due
        time. Upkeep comes first, on the server's clock, for at most 1,000 messages of each kind: delayed messages that
        are due become ready; messages with expired leases become ready in their previous position, with one more
        crash counted (QK7). The wait ends early at the next due time or expiry. ``limit=0, wait=0`` does upkeep only.

        Args:
            queues: Names, most urgent first. A queue that was never sent to is empty, not an error.
            limit: Most messages to take; capped at ``limits.max_batch``.
            wait: Seconds to block; 0 looks once. Capped at ``limits.max_wait``.
            lease: Seconds until the messages are delivered again unless extended or settled.
        """

    def subscribe(self, queues: Sequence[str], *, prefetch: int, lease: float) -> Subscription:
        """Have messages of *queues* pushed from now on, each under a lease as with :meth:`receive`.

        Workers call this where ``capabilities.push`` is declared; a worker has one subscription at a time. The base
        body returns one that calls :meth:`receive`.

        Args:
            queues: Names, most urgent first.
            prefetch: Maximum number of deliveries that are pushed and not settled at any moment.
            lease: Seconds until a message is delivered again unless its lease is extended or it is settled. A service
                whose leases last as long as the connection ignores it.
        """
        return _Polling(self, queues, prefetch=prefetch, lease=lease)

    @abc.abstractmethod
    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Make *leases* end *lease* seconds from now, in one round trip, and return the leases already lost.

        A lease may have been claimed by another client or process: a supervisor calls this with nothing but the leases.
        If ``capabilities.portable_leases`` is false, only the client that claimed them calls it.
        """

    def renew(self, leases: Sequence[Lease], *, lease: float) -> list[Lease | None]:
        """Make *leases* end *lease* seconds from now, and return the lease to show from now on for each.

        The base body calls :meth:`extend`, which suits a service whose leases keep their tokens. Override this method
        only if renewal changes the token; the old one is then lost. Core calls it in the process that claimed the
        messages, because no other could know the new token: such a broker is used as one without ``portable_leases``.

        Returns:
            In the order of *leases*; ``None`` for each that is lost.
        """
        lost = set(self.extend(leases, lease=lease))
        return [None if one in lost else one for one in leases]

    @abc.abstractmethod
    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Apply *settlements* in one round trip and return the deliveries whose lease was already lost.

        Settlements are independent of each other (QK8). A stale token changes nothing (QK4).

        A lease may have been claimed by another client or process. For a process that has died, its supervisor builds a
        :class:`Release` from the lease alone: the envelope of the delivery has id, queue, generation, attempt and an
        empty body. A service that cannot put a message back uncounted without its body may count it as a crash. The
        other settlements come with the delivery as it was claimed: its envelope has the unique key and the body. If
        ``capabilities.portable_leases`` is false, only the client that claimed settles.
        """

    def commit(self, items: Sequence[CommitItem]) -> list[bool]:
        """Apply each item in one step, all in one round trip; return False for items whose lease was lost.

        Called only if ``capabilities.commit`` is set and the backend has the same ``engine_id``. Records are written
        under :attr:`~queuekit.backend.Condition.NEWER`; a join that completes its group sends its envelopes.
        """
        raise self._cannot("commit")

    def options_of(self, envelope: Envelope) -> Any:
        """Return the options that a message carries, an instance of :attr:`message_options`; ``None`` without any.

        They are in the header of the body, so they stay with the message when it is tried again, delayed again or
        replayed. The bytes are untrusted: options that the class does not have are left out, and values that it refuses
        count as no options.
        """
        kind, given = self.message_options, options_in(envelope.body)
        if kind is None or not given:
            return None
        names = {field.alias or field.name for field in attrs.fields(kind) if field.init}
        try:
            return kind(**{name: value for name, value in given.items() if name in names})
        except Exception:  # noqa: BLE001 - whatever the class raises for bytes that core did not write
            return None

    def look_for_marks(self, prefix: str) -> bool:
        """Look for records that mark claimed messages from now on; return whether this is supported.

        The record of a message is ``<prefix><message id>``. An id with a dot is that of a part of a workflow, which
        ``<prefix><id up to the first dot>`` marks as well. A delivery with no such record is ``unmarked``, which saves
        its worker a round trip before the task starts. Called only if the backend has the same ``engine_id``.
        """
        return False

    def share(self, backend: Backend) -> None:  # noqa: B027 - most services store all the state that clients share
        """Receive the result backend that all clients of the app use; called once, before any other method.

        A broker may keep state there that its clients share but its service cannot store, under keys that begin with
        its scheme. Losing such a record must not lose a message.
        """

    def queues(self) -> list[str]:
        """Return the names of all queues that hold or held messages, sorted."""
        raise self._cannot("list queues")

    def strays(self) -> list[str]:
        """Return the queues to which the service itself has moved messages: at a limit, or if theirs is gone.

        None of them is a queue of the app. :meth:`receive` hands their messages out with the queue that each was sent
        to, as far as that is known, and :meth:`counts` counts them. Only those that hold messages are returned.
        """
        return []

    def counts(self, queues: Sequence[str]) -> dict[str, QueueCounts]:
        """Return the counts of each of *queues*; zeros for a queue that was never sent to.

        If counting all takes too long, the rest is a lower bound, perhaps of 0: see :attr:`QueueCounts.at_least`.
        """
        raise self._cannot("count messages")

    def peek(self, queue: str, *, place: Place, limit: int = 100, cursor: str | None = None) -> Page[Stored]:
        """Return messages of *queue* in *place* without changing them, next first; dead letters newest first.

        See :attr:`Limits.dead_in_order` for services that cannot put all dead letters in order.
        """
        raise self._cannot("show waiting messages")

    def find(self, queue: str, ids: Sequence[str]) -> list[Stored]:
        """Return the messages among *ids* that *queue* holds, in any place."""
        wanted = set(ids)
        return [stored for place in Place for stored in self.walk(queue, place) if stored.envelope.id in wanted]

    def search(self, queues: Sequence[str], id: str) -> Stored | None:
        """Return the message *id* from the first of *queues* that holds it, in any place; ``None`` if none does.

        The base body asks for one queue after the other; override it where the service looks into all at once.
        """
        for queue in queues:
            if found := self.find(queue, [id]):
                return found[0]
            made_progress()
        return None

    def requeue(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        """Replay dead letters (all, or *ids*) and return their ids.

        Each is ready at once, with generation + 1, and with attempt, hop and crashes at 0; everything else stays, its
        ``expires`` too.
        """
        raise self._cannot("replay dead letters")

    def seek_dead(self, queue: str, ids: Sequence[str] | None = None) -> Generator[Stored, None, None]:
        """Yield dead letters of *queue* (all, or *ids*) in any order, for a caller who changes them meanwhile.

        Close what this returns. Override it, and :meth:`walk`, where the service shows a dead letter only by handing it
        out: until then, what was yielded stays hidden, and :meth:`find`, :meth:`requeue` and :meth:`remove` reach the
        last hundred without a search.
        """
        if ids is None:
            yield from self.walk(queue, Place.DEAD)
        else:
            yield from (stored for stored in self.find(queue, ids) if stored.place is Place.DEAD)

    def dead_beyond(self, queue: str, *, count: int | None, before: float | None, limit: int = 500) -> list[str]:
        """Return the ids of dead letters of *queue* that are beyond its bounds, oldest first; change nothing.

        The base body walks over all dead letters; override it where the service finds the oldest by itself, or hands
        out only some of them: those are then the oldest of these.

        Args:
            queue: Name of the queue.
            count: Dead letters to keep; all but the latest so many are beyond. ``None`` for no bound.
            before: UTC epoch seconds; those that died earlier are beyond. ``None`` for no bound.
            limit: Most ids to return.
        """
        found = [(stored.died_at, stored.envelope.id) for stored in self.walk(queue, Place.DEAD)]
        return beyond(found[::-1], count=count, before=before)[:limit]

    def remove(self, queue: str, ids: Sequence[str], *, place: Place | None = None) -> list[str]:
        """Delete messages and return the ids that existed.

        Args:
            queue: Queue that holds them.
            ids: Ids of the messages.
            place: The only place to delete from; ``None`` means ready or delayed. Leased messages cannot be deleted.
        """
        raise self._cannot("remove messages by id")

    def purge(self, queue: str, *, place: Place = Place.READY) -> int:
        """Delete all messages of *queue* in *place* and return how many there were."""
        raise self._cannot("purge")

    def interrupt(self) -> None:  # noqa: B027 - not needed if waits are short
        """Make a ``receive`` that blocks in another thread return soon; otherwise a stopping worker waits for it."""

    def tell_set_aside(self, hear: Callable[[str, str, str], None]) -> None:  # noqa: B027 - few brokers do
        """Call *hear* with queue, id and reason of each message that the broker itself finds malformed from now on.

        Such a message goes to the dead letters without a delivery, so no worker could log it.
        """

    def check(self) -> list[str]:
        """Ask the service for problems that an operator should know (persistence off, eviction on); one line each."""
        return []

    def check_queues(self, queues: Sequence[str], *, max_deliveries: int) -> list[str]:
        """Ask the service whether *queues* are set up as workers need them; one line for each problem.

        Args:
            queues: Queues that the app sends to or serves; one that does not exist yet is not a problem.
            max_deliveries: Crashed deliveries after which core dead-letters a message.
        """
        return []

    def notes(self) -> list[str]:
        """Return facts that may interest an operator, such as the cost of a task; one line each.

        This does not contact the service.
        """
        return []

    def close(self) -> None:  # noqa: B027 - a broker may have nothing to close
        """Close all connections; may be called twice."""

    def walk(self, queue: str, place: Place, *, page_size: int = 500) -> Iterator[Stored]:
        """Yield all messages of *queue* in *place*, in the order of :meth:`peek`, one page at a time."""
        cursor: str | None = None
        limit = min(page_size, _FIRST_PAGE)
        while True:
            page = self.peek(queue, place=place, limit=limit, cursor=cursor)
            yield from page.items
            cursor = page.cursor
            if cursor is None:
                return
            # Assume that the next messages are of the same size: pages of large messages are short.
            held = sum(len(stored.envelope.body) for stored in page.items)
            limit = max(1, min(page_size, len(page.items) * _PAGE_BYTES // held)) if held else page_size

    def check_sizes(self, envelopes: Iterable[Envelope]) -> None:
        """Reject bodies above ``limits.max_body``; ``send`` calls this before it sends anything.

        Raises:
            TooLargeError: A body is too large; names the first such message.
        """
        most = self.limits.max_body
        for envelope in envelopes:
            if len(envelope.body) > most:
                size = f"{len(envelope.body):,} bytes, above the limit of {most:,}"
                raise TooLargeError(f"the body of message {envelope.id} has {size}")

    def _cannot(self, what: str) -> CapabilityError:
        return CapabilityError(f"{type(self).__name__} cannot {what}")
