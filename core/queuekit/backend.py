"""The contract of a result backend: an expiring record store with an atomic join.

Results, group counters, locks, leader leases, cancel marks and worker presence are all records. Only core knows what
they mean. All methods are batched, synchronous and thread-safe. A backend connects at first use and again after a
fork, reconnects by itself, and decides every TTL on the server's clock (QK11).
"""

from __future__ import annotations

import abc
import enum
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from queuekit.errors import TooLargeError
from queuekit.values import frozen, quick_frozen

__all__ = ["Backend", "BackendCapabilities", "BackendLimits", "Condition", "Join", "Page", "Record"]

T = TypeVar("T")


class Condition(enum.Enum):
    """When :meth:`Backend.put` writes a record."""

    ALWAYS = "always"
    """Unconditionally."""
    ABSENT = "absent"
    """Only if no live record has the key."""
    NEWER = "newer"
    """Only if no live record has the key, or the live one has a smaller rank."""
    SAME = "same"
    """Only if the live record has the ``version`` of the record being written; 0 means that there is none.

    Each record is compared with its own version. Needs the capability ``same``. A backend that does not declare it
    never receives this condition; :meth:`Backend.put_same` works with every backend.
    """


@quick_frozen(kw_only=True)
class Record:
    """A small value that is stored under a key and expires.

    Attributes:
        key: Kind and id, e.g. ``"result:0190..."``; any text without control characters, at most 250 characters.
        body: Any bytes; opaque to the backend.
        ttl: Seconds from the write until it expires; ``None`` keeps it. When read: the seconds left.
        rank: Position in the key's history, below 2**53; see :func:`queuekit.states.rank`.
        final: Whether this record ends the key's history; :meth:`Backend.wait` waits for a final record.
        version: Grows with each write of the key, even across deletion and expiry; set by the backend. ``put`` ignores
            it except under :attr:`Condition.SAME`.
        task: Name of the task, for people who query the store.
        state: State, for people who query the store.
        error: Error type and text, for people who query the store.
        at: UTC epoch seconds of the last change of state, for people who query the store.
    """

    key: str
    body: bytes = b""
    ttl: float | None = None
    rank: int = 0
    final: bool = False
    version: int = 0
    task: str | None = None
    state: str | None = None
    error: str | None = None
    at: float | None = None


@frozen(kw_only=True)
class Page(Generic[T]):
    """One page of a listing.

    Attributes:
        items: What is on this page, in the order of the listing.
        cursor: Pass it to the next call; ``None`` on the last page.
    """

    items: tuple[T, ...]
    cursor: str | None = None


@quick_frozen(kw_only=True)
class Join:
    """A member's arrival in a group, as part of a commit or of a batch.

    Attributes:
        group: Name of the group.
        member: Index of the member, from 0; each counts once.
        size: Members that complete the group.
        then: Envelopes to send when the group is complete; their ids are derived, so a repeated send adds nothing.
        ttl: Seconds for which the group is remembered after its last arrival.
    """

    group: str
    member: int
    size: int
    then: tuple[object, ...] = ()
    ttl: float = 604_800.0


@frozen(kw_only=True)
class BackendCapabilities:
    """What the service can do by itself; the conformance suite tests each declared capability.

    Attributes:
        atomic_join: :meth:`Backend.join` counts each member exactly once, even under concurrency.
        notify: A write wakes :meth:`Backend.wait`; it does not poll.
        scan: :meth:`Backend.scan` is supported, and uses an index.
        processes: Other processes see the same records.
        same: :meth:`Backend.put` supports :attr:`Condition.SAME`, in one round trip for all records, and at most
            another one to learn which were refused.
        durable: Records and groups last until they expire or are deleted. If false, the service may drop any of them at
            any time, e.g. to make room. Core then notices that it has lost a group, and ends what waits for the group
            as failed.
    """

    atomic_join: bool = True
    notify: bool = False
    scan: bool = True
    processes: bool = True
    same: bool = False
    durable: bool = True


@frozen(kw_only=True)
class BackendLimits:
    """The limits of the service.

    Attributes:
        max_record: Longest body, in bytes.
        ttl_granularity: Seconds by which an expiry may be rounded.
    """

    max_record: int = 16_000_000
    ttl_granularity: float = 0.001

    def check_sizes(self, records: Iterable[Record]) -> None:
        """Reject bodies above :attr:`max_record`; a broker that commits records calls this.

        Raises:
            TooLargeError: A body is too large; names the first such record.
        """
        most = self.max_record
        for record in records:
            if len(record.body) > most:
                size = f"{len(record.body):,} bytes, above the limit of {most:,}"
                raise TooLargeError(f"record {record.key} has {size}")


class Backend(abc.ABC):
    """A store of expiring records.

    Every method may raise :class:`~queuekit.errors.UnavailableError` when the service does not answer.
    """

    capabilities: BackendCapabilities = BackendCapabilities()
    limits: BackendLimits = BackendLimits()
    """The limits that core reads; an instance sets its own if they depend on its options."""
    engine_id: str | None = None
    """Equal for a broker and a backend that can commit together; ``None`` if it never can."""

    @abc.abstractmethod
    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        """Write *records* in one round trip and return for each whether it was written.

        Each record is checked and written atomically, independently of the others. If several records have the same
        key, each sees the effect of those before it.

        Args:
            records: At most ``limits.max_record`` bytes of body each.
            condition: See :class:`Condition`; expired records count as absent.
            expect: Write only if the live record has this version; 0 means absent. Used for locks. ``SAME`` ignores it.

        Raises:
            TooLargeError: A body is above ``limits.max_record``; nothing was written.
        """

    def put_same(self, records: Sequence[Record]) -> list[bool]:
        """Write records whose ``version`` is that of the live record (0: none); return for each whether it was written.

        Takes one round trip if ``capabilities.same`` is declared, and at most another one to learn which records were
        refused; else one per record.
        """
        if self.capabilities.same:
            return self.put(records, condition=Condition.SAME)
        return [written for record in records for written in self.put([record], expect=record.version)]

    @abc.abstractmethod
    def get(self, keys: Sequence[str]) -> dict[str, Record]:
        """Return the live records among *keys* in one round trip, without expired ones."""

    @abc.abstractmethod
    def wait(self, keys: Sequence[str], *, timeout: float) -> dict[str, Record]:
        """Block until a record among *keys* is final, at most *timeout* seconds, and return the final records.

        Return at once if one is final already, and an empty dict on timeout.
        """

    @abc.abstractmethod
    def delete(self, keys: Sequence[str], *, expect: int | None = None) -> int:
        """Delete records and return how many existed; with *expect*, only records of that version."""

    @abc.abstractmethod
    def scan(self, prefix: str, *, limit: int = 100, cursor: str | None = None) -> Page[Record]:
        """Return live records whose key starts with *prefix*, at most *limit* per page.

        A record that exists during the whole scan is returned at least once.
        """

    @abc.abstractmethod
    def join(self, group: str, member: int, size: int, *, ttl: float = 604_800.0) -> tuple[bool, int]:
        """Count *member* (0 to size - 1) into *group*, atomically.

        Returns:
            Whether this is the member's first arrival, and how many different members have arrived. At least one
            caller sees the count reach *size*; a repeated member sees the current count.

        Args:
            group: Name of the group.
            member: Index of the member.
            size: Number of members; a hint for the engine.
            ttl: Seconds from this arrival until the group is forgotten.
        """

    def now(self) -> float | None:
        """Return UTC epoch seconds on the service's clock, which all clients share; ``None`` if it cannot be read."""
        return None

    def join_many(self, joins: Sequence[Join]) -> list[int]:
        """Count several members into their groups, in one round trip if the service supports that.

        Each arrival is atomic and may be repeated, as with :meth:`join`; the whole batch need not be atomic. The
        default implementation calls :meth:`join` for each.

        Returns:
            For each, how many different members of its group have arrived: itself included, others of this call
            included or not. At least one caller sees the count reach the size.
        """
        return [self.join(one.group, one.member, one.size, ttl=one.ttl)[1] for one in joins]

    def walk(self, prefix: str) -> Iterator[Record]:
        """Yield all live records whose key starts with *prefix*, one page of :meth:`scan` at a time."""
        cursor: str | None = None
        while True:
            page = self.scan(prefix, cursor=cursor)
            yield from page.items
            cursor = page.cursor
            if cursor is None:
                return

    def check_sizes(self, records: Iterable[Record]) -> None:
        """Reject bodies above ``limits.max_record``; ``put`` calls this before it writes anything.

        Raises:
            TooLargeError: A body is too large; names the first such record.
        """
        self.limits.check_sizes(records)

    def check(self) -> list[str]:
        """Ask the service for problems that an operator should know (eviction, missing index); one line each."""
        return []

    def notes(self) -> list[str]:
        """Return facts that may interest an operator, such as the cost of a task; one line each.

        This does not contact the service.
        """
        return []

    def close(self) -> None:  # noqa: B027 - a backend may have nothing to close
        """Close all connections; may be called twice."""
