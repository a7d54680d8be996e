"""The result backend of ``sqlite:///``."""

# ruff: noqa: S608 - statements are built from constants of this package, never from a caller's text
from __future__ import annotations

import json
import time
from collections.abc import Sequence
from random import Random

from queuekit.backend import Backend, BackendCapabilities, BackendLimits, Condition, Join, Page, Record
from queuekit.clock import Clock
from queuekit.engines.sqlite import records as kept
from queuekit.engines.sqlite.database import Database
from queuekit.engines.sqlite.options import SqliteOptions
from queuekit.engines.sqlite.upkeep import Upkeep
from queuekit.engines.sqlite.waiting import LONGEST_SLEEP, Notifier
from queuekit.urls import EngineURL

__all__ = ["BACKEND_CAPABILITIES", "BACKEND_LIMITS", "SqliteBackend"]

BACKEND_CAPABILITIES = BackendCapabilities(notify=True, same=True)
BACKEND_LIMITS = BackendLimits()

_KEYS = "key IN (SELECT value FROM json_each(?))"
_GET = f"{kept.READ} WHERE {_KEYS} AND {kept.LIVE}"
_FINAL = f"{_GET} AND final = 1"
_DELETE = f"DELETE FROM records WHERE {_KEYS} AND {kept.LIVE}"
_DELETE_VERSION = f"{_DELETE} AND version = ?"
_SCAN = f"{kept.READ} WHERE {{start}} ? AND {{end}} ? AND {kept.LIVE} ORDER BY key LIMIT ?"


class SqliteBackend(Backend):
    """Records in one file, shared by the processes of a machine; see :class:`~queuekit.backend.Backend`.

    Args:
        url: ``sqlite:///FILE``; a broker of the same file can commit together with it.
        options: Options of the file.
        clock: The machine's clock.
        random: Spreads the retries of several processes.
    """

    capabilities = BACKEND_CAPABILITIES
    limits = BACKEND_LIMITS

    def __init__(
        self,
        url: EngineURL,
        *,
        options: SqliteOptions | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._database = Database.of(url, options=options, clock=clock, random=random)
        self.engine_id = f"sqlite:{self._database.path}"
        self._notifier = Notifier(f"{self._database.path}-wake")
        self._upkeep = Upkeep(self._database, self._notifier)

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        """Write *records* where *condition* and *expect* allow it."""
        if not records:
            return []
        self.check_sizes(records)
        written = self._put(records, condition, expect)
        final = [record.key for record, yes in zip(records, written, strict=True) if yes and record.final]
        if final:
            self._notifier.notify_results(final)
        self._upkeep.sweep()
        return written

    def get(self, keys: Sequence[str]) -> dict[str, Record]:
        """Return the live records among *keys*."""
        return self._select(_GET, keys)

    def wait(self, keys: Sequence[str], *, timeout: float) -> dict[str, Record]:
        """Wait for a final record among *keys*; a write in any process wakes it."""
        deadline = time.monotonic() + timeout
        found = self._select(_FINAL, keys)
        if found or timeout <= 0:
            return found
        with self._notifier.listen_results(keys) as listener:
            while True:
                found = self._select(_FINAL, keys)
                left = deadline - time.monotonic()
                if found or left <= 0:
                    return found
                listener.wait(min(left, LONGEST_SLEEP))

    def delete(self, keys: Sequence[str], *, expect: int | None = None) -> int:
        """Delete records."""
        parameters = (json.dumps(keys), self._database.time.now())
        if expect is None:
            return self._database.write(_DELETE, parameters)
        return self._database.write(_DELETE_VERSION, (*parameters, expect))

    def scan(self, prefix: str, *, limit: int = 100, cursor: str | None = None) -> Page[Record]:
        """Return live records in the order of their keys; the cursor is the last key of the page."""
        now = self._database.time.now()
        end = kept.prefix_end(prefix)
        # Without an end, "key >=" with an empty text holds for any key.
        sql = _SCAN.format(start="key >=" if cursor is None else "key >", end="key >=" if end is None else "key <")
        rows = self._database.read(sql, (cursor or prefix, end or "", now, limit + 1))
        items = tuple(kept.read_record(row, now) for row in rows[:limit])
        return Page(items=items, cursor=items[-1].key if items and len(rows) > limit else None)

    def join(self, group: str, member: int, size: int, *, ttl: float = 604_800.0) -> tuple[bool, int]:
        """Count *member* into *group*."""
        with self._database.transaction() as transaction:
            now = self._database.time.now()
            new, count = kept.join(transaction, group, [member], ttl=ttl, now=now)
        return new > 0, count

    def join_many(self, joins: Sequence[Join]) -> list[int]:
        """Count several members into their groups, in one transaction."""
        arrivals: dict[str, list[Join]] = {}
        for one in joins:
            arrivals.setdefault(one.group, []).append(one)
        counts: dict[str, int] = {}
        with self._database.transaction() as transaction:
            now = self._database.time.now()
            for group, some in arrivals.items():
                members = [one.member for one in some]
                _, counts[group] = kept.join(transaction, group, members, ttl=some[-1].ttl, now=now)
        return [counts[one.group] for one in joins]

    def check(self) -> list[str]:
        """Return problems of the file that an operator should know."""
        return self._database.check()

    def now(self) -> float | None:
        """Return UTC epoch seconds of the file."""
        return self._database.time.now()

    def close(self) -> None:
        """Close all connections."""
        self._database.close()
        self._notifier.close()

    def _put(self, some: Sequence[Record], condition: Condition, expect: int | None) -> list[bool]:
        now = self._database.time.now()
        if len(some) == 1 and expect is None and condition is not Condition.SAME:
            return [kept.write(self._database, some, condition=condition, now=now) == 1]
        with self._database.transaction() as transaction:
            return kept.put_each(transaction, some, condition=condition, expect=expect, now=now)

    def _select(self, sql: str, keys: Sequence[str]) -> dict[str, Record]:
        now = self._database.time.now()
        return {row[0]: kept.read_record(row, now) for row in self._database.read(sql, (json.dumps(keys), now))}
