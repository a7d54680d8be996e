"""The contract of a result backend: an expiring record store with an atomic join.

Results, group counters, locks, leader leases, cancel marks and worker presence are all records; what they mean is
core's business. All methods are batched, synchronous and thread-safe. A backend opens its connection at first use,
opens a new one after a fork, reconnects by itself, and decides every TTL on the server's clock (QK11).
"""

from __future__ import annotations

import abc
import enum
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

import attrs

from queuekit.errors import TooLargeError
from queuekit.values import quick_frozen

__all__ = ["Backend", "BackendCapabilities", "BackendLimits", "Condition", "Join", "Page", "Record"]

T = TypeVar("T")


class Condition(enum.Enum):
    """When :meth:`Backend.put` writes a record."""

    ALWAYS = "always"
    """Whatever is there."""
    ABSENT = "absent"
    """Only if no live record has the key."""
    NEWER = "newer"
    """Only if no live record has the key, or the one there has a smaller rank."""


@quick_frozen(kw_only=True)
class Record:
    """A small value under a key, which forgets itself."""

    key: str
    """Kind and id, e.g. ``"result:0190..."``; any text without control characters, at most 250 characters."""
    body: bytes = b""
    """Opaque; any bytes."""
    ttl: float | None = None
    """Seconds from the write until it is gone; ``None`` keeps it. Read back as what is left."""
    rank: int = 0
    """Place in the key's history, below 2**53; see :func:`queuekit.states.rank`."""
    final: bool = False
    """Whether this ends the history: :meth:`Backend.wait` returns when it does."""
    version: int = 0
    """Grows with each write of the key, also over a deletion or an expiry; set by the backend, ignored by ``put``."""
    task: str | None = None
    """For people who query the store: name of the task."""
    state: str | None = None
    """For people: the state."""
    error: str | None = None
    """For people: error type and text."""
    at: float | None = None
    """For people: UTC epoch seconds of the last move."""


@attrs.frozen(kw_only=True)
class Page(Generic[T]):
    """A part of a listing."""

    items: tuple[T, ...]
    cursor: str | None = None
    """Pass it to the next call; ``None`` when there is no more."""


@quick_frozen(kw_only=True)
class Join:
    """A member's arrival in a group, as part of a commit or of a batch."""

    group: str
    member: int
    size: int
    then: tuple[object, ...] = ()
    """Envelopes to send when the group is complete; their ids are derived, so sending them again adds nothing."""
    ttl: float = 604_800.0
    """Seconds that the group is remembered after its last arrival."""


@attrs.frozen(kw_only=True)
class BackendCapabilities:
    """What the service can do by itself; the conformance suite holds it to each of them."""

    atomic_join: bool = True
    """:meth:`Backend.join` counts each member once whatever runs at the same time."""
    notify: bool = False
    """:meth:`Backend.wait` is woken by the write, not by polling."""
    scan: bool = True
    """:meth:`Backend.scan` works, on an index."""
    processes: bool = True
    """Other processes see the same records."""


@attrs.frozen(kw_only=True)
class BackendLimits:
    """The service's numbers."""

    max_record: int = 16_000_000
    """Longest body in bytes."""
    ttl_granularity: float = 0.001
    """Seconds by which an expiry may be rounded."""

    def check_sizes(self, records: Iterable[Record]) -> None:
        """Refuse bodies above :attr:`max_record`; a broker that commits records calls this.

        Raises:
            TooLargeError: Names the first record that is too large.
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
    engine_id: str | None = None
    """Equal for a broker and a backend that can commit together; ``None`` for never."""

    @abc.abstractmethod
    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        """Write *records* in one round trip and tell for each whether it was written.

        Each record is written or refused as a whole, independently of the others, in one step with the check
        of its condition. Of several records with one key the later sees the earlier.

        Args:
            records: At most ``limits.max_record`` bytes of body each.
            condition: See :class:`Condition`; expired records count as absent.
            expect: Write only if the live record has this version; 0 means absent. For locks.

        Raises:
            TooLargeError: A body is above ``limits.max_record``; nothing was written.
        """

    @abc.abstractmethod
    def get(self, keys: Sequence[str]) -> dict[str, Record]:
        """Return the live records among *keys* in one round trip; expired ones are not there."""

    @abc.abstractmethod
    def wait(self, keys: Sequence[str], *, timeout: float) -> dict[str, Record]:
        """Return the final records among *keys*, blocking at most *timeout* seconds until there is one.

        Returns at once if one is final already; an empty dict if the time passes.
        """

    @abc.abstractmethod
    def delete(self, keys: Sequence[str], *, expect: int | None = None) -> int:
        """Remove records and return how many there were; with *expect* only those of that version."""

    @abc.abstractmethod
    def scan(self, prefix: str, *, limit: int = 100, cursor: str | None = None) -> Page[Record]:
        """Return live records whose key starts with *prefix*, at most *limit* a page.

        Each record that lives through the whole scan is returned at least once.
        """

    @abc.abstractmethod
    def join(self, group: str, member: int, size: int, *, ttl: float = 604_800.0) -> tuple[bool, int]:
        """Count *member* (0 to size - 1) into *group*, atomically.

        Returns:
            Whether it is the first time, and how many different members have arrived. Of all callers, at least
            one sees the count reach *size*; a repeated member sees the present count.

        Args:
            group: Name of the group.
            member: Index of the member.
            size: How many members there are; a hint for the engine.
            ttl: Seconds from this arrival until the group is forgotten.
        """

    def now(self) -> float | None:
        """Return UTC epoch seconds on the service's clock, which all who use it share; ``None`` if it does not tell."""
        return None

    def join_many(self, joins: Sequence[Join]) -> list[int]:
        """Count several members into their groups, in a round trip for all where the service can.

        Each arrival is atomic by itself, as with :meth:`join`, and may be repeated; all of them together need not be.
        The base body calls :meth:`join` for one after the other.

        Returns:
            For each how many different members of its group have arrived, those of this call included or not, but its
            own always. Of all callers, at least one sees the count reach the size.
        """
        return [self.join(one.group, one.member, one.size, ttl=one.ttl)[1] for one in joins]

    def walk(self, prefix: str) -> Iterator[Record]:
        """Yield all live records whose key starts with *prefix*, as :meth:`scan` does, holding one page at a time."""
        cursor: str | None = None
        while True:
            page = self.scan(prefix, cursor=cursor)
            yield from page.items
            cursor = page.cursor
            if cursor is None:
                return

    def check_sizes(self, records: Iterable[Record]) -> None:
        """Refuse bodies above ``limits.max_record``; a ``put`` calls this before anything has happened.

        Raises:
            TooLargeError: Names the first record that is too large.
        """
        self.limits.check_sizes(records)

    def check(self) -> list[str]:
        """Ask the service for what an operator should know (eviction policy, missing index); one line each."""
        return []

    def notes(self) -> list[str]:
        """Return what an operator may like to know though nothing is wrong, such as what a task costs; one line each.

        The service is not asked.
        """
        return []

    def close(self) -> None:  # noqa: B027 - nothing to close is a legal answer
        """Close all connections; may be called twice."""
