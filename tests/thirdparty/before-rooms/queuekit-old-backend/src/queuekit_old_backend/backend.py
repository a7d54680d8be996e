"""Results on old-backend."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import attrs
from queuekit.backend import Backend, Condition, Join, Page, Record
from queuekit.clock import Clock
from queuekit.durations import Seconds
from queuekit.urls import EngineURL

__all__ = ["OldBackendBackend", "OldBackendOptions"]


@attrs.frozen(kw_only=True)
class OldBackendOptions:
    """Options of the URL's query and of the config table ``[old-backend]``; all need a default, and a check."""

    timeout: Seconds = attrs.field(default=5.0, validator=attrs.validators.gt(0))
    """Seconds without an answer after which a call raises UnavailableError."""


class OldBackendBackend(Backend):
    """Results on old-backend.

    Thread-safe. Opens its connection at first use and a new one after a fork, reconnects by itself, raises
    UnavailableError where the service does not answer, and decides every time on the service's clock.
    """

    def __init__(
        self,
        url: EngineURL,
        *,
        options: OldBackendOptions | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        """Keep what is needed to connect; open nothing yet.

        Args:
            url: As configured, for the client library; ``str(url)`` is it without the password, for people.
            options: Checked options; ``None`` for the defaults.
            clock: For engines without a clock of their own; a service has one.
            random: Chance, for jitter. Not for tokens: a fork would draw the same ones; take ``uuid.uuid4().hex``.
        """
        self._url = url
        self._options = options or OldBackendOptions()

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
        raise _left("put")

    def get(self, keys: Sequence[str]) -> dict[str, Record]:
        """Return the live records among *keys* in one round trip; expired ones are not there."""
        raise _left("get")

    def wait(self, keys: Sequence[str], *, timeout: float) -> dict[str, Record]:
        """Return the final records among *keys*, blocking at most *timeout* seconds until there is one.

        Returns at once if one is final already; an empty dict if the time passes.
        """
        raise _left("wait")

    def delete(self, keys: Sequence[str], *, expect: int | None = None) -> int:
        """Remove records and return how many there were; with *expect* only those of that version."""
        raise _left("delete")

    def scan(self, prefix: str, *, limit: int = 100, cursor: str | None = None) -> Page[Record]:
        """Return live records whose key starts with *prefix*, at most *limit* a page.

        Each record that lives through the whole scan is returned at least once.
        """
        raise _left("scan")

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
        raise _left("join")

    def now(self) -> float | None:
        """Return UTC epoch seconds on the service's clock, which all who use it share; ``None`` if it does not tell."""
        return super().now()

    def join_many(self, joins: Sequence[Join]) -> list[int]:
        """Count several members into their groups, in a round trip for all where the service can.

        Each arrival is atomic by itself, as with :meth:`join`, and may be repeated; all of them together need not be.
        The base body calls :meth:`join` for one after the other.

        Returns:
            For each how many different members of its group have arrived, those of this call included or not, but its
            own always. Of all callers, at least one sees the count reach the size.
        """
        return super().join_many(joins)

    def notes(self) -> list[str]:
        """Return what an operator may like to know though nothing is wrong, such as what a task costs; one line each.

        The service is not asked.
        """
        return super().notes()

    def close(self) -> None:
        """Close all connections; may be called twice."""
        super().close()


def _left(method: str) -> NotImplementedError:
    """Return the error of a method that is left to write; delete this when there is none."""
    where = "in src/queuekit_old_backend/backend.py; its docstring says what it promises"
    return NotImplementedError(f"OldBackendBackend.{method} is yours to write, {where}")
