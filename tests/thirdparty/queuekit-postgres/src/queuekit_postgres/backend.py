"""Results on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from queuekit.backend import Backend, BackendCapabilities, Condition, Page, Record
from queuekit.clock import Clock
from queuekit.errors import TooLargeError
from queuekit.urls import EngineURL

from queuekit_postgres import records as steps
from queuekit_postgres.database import Cursor, Database, PostgresOptions

__all__ = ["PostgresBackend"]


class PostgresBackend(Backend):
    """Records in a table; see :class:`~queuekit.backend.Backend` for the methods."""

    capabilities = BackendCapabilities(notify=True)

    def __init__(
        self,
        url: EngineURL,
        *,
        options: PostgresOptions | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        """Keep what is needed to connect; open nothing yet."""
        self._database = Database(url, options or PostgresOptions())
        self.engine_id = self._database.name

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        """Write *records* where *condition* and *expect* allow it."""
        for record in records:
            if len(record.body) > self.limits.max_record:
                raise TooLargeError(f"record {record.key} has {len(record.body):,} bytes, above the limit")

        def step(cursor: Cursor) -> list[bool]:
            steps.expire(cursor)
            written = [steps.put(cursor, record, condition, expect) for record in records]
            self._database.tell(cursor, {f"record {record.key}" for record in records if record.final})
            return written

        return self._database.run(step)

    def get(self, keys: Sequence[str]) -> dict[str, Record]:
        """Return the live records among *keys*."""
        return self._database.run(lambda cursor: steps.get(cursor, keys))

    def wait(self, keys: Sequence[str], *, timeout: float) -> dict[str, Record]:
        """Wait for a final record among *keys*."""
        topics = {f"record {key}" for key in keys}
        return self._database.wait(lambda cursor: (steps.get(cursor, keys, final=True), None), topics, timeout) or {}

    def delete(self, keys: Sequence[str], *, expect: int | None = None) -> int:
        """Remove records."""
        return self._database.run(lambda cursor: steps.delete(cursor, keys, expect))

    def scan(self, prefix: str, *, limit: int = 100, cursor: str | None = None) -> Page[Record]:
        """Return live records whose key starts with *prefix*, sorted by key."""
        found = self._database.run(lambda step: steps.scan(step, prefix, limit=limit + 1, after=cursor or ""))
        items = tuple(found[:limit])
        return Page(items=items, cursor=items[-1].key if len(found) > limit else None)

    def join(self, group: str, member: int, size: int, *, ttl: float = 604_800.0) -> tuple[bool, int]:
        """Count *member* into *group*."""
        return self._database.run(lambda cursor: steps.join(cursor, group, member, ttl))

    def close(self) -> None:
        """Close all connections."""
        self._database.close()
