"""The result backend of ``memory://``."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from queuekit.backend import Backend, BackendCapabilities, BackendLimits, Condition, Join, Page, Record
from queuekit.clock import Clock, SystemClock
from queuekit.engines.memory.engine import MemoryEngine
from queuekit.urls import EngineURL

__all__ = ["BACKEND_CAPABILITIES", "BACKEND_LIMITS", "MemoryBackend"]

BACKEND_CAPABILITIES = BackendCapabilities(notify=True, processes=False, same=True)
BACKEND_LIMITS = BackendLimits()


class MemoryBackend(Backend):
    """Records in this process, gone when it ends; see :class:`~queuekit.backend.Backend` for the methods.

    Args:
        url: ``memory://NAME``; a broker and other backends of that name share the engine.
        options: Not used; this engine has none.
        clock: The server's clock.
        random: Not used; all engines are created with the same arguments.
    """

    capabilities = BACKEND_CAPABILITIES
    limits = BACKEND_LIMITS

    def __init__(
        self, url: EngineURL, *, options: object = None, clock: Clock | None = None, random: Random | None = None
    ) -> None:
        self._engine = MemoryEngine.of(url, clock=clock or SystemClock())
        self.engine_id = self._engine.id

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        """Write *records* where *condition* and *expect* allow it."""
        self.check_sizes(records)
        with self._engine.written:
            now = self._engine.now()
            written = [self._engine.records.put(record, condition, expect, now) for record in records]
            self._engine.written.notify_all()
        return written

    def get(self, keys: Sequence[str]) -> dict[str, Record]:
        """Return the live records among *keys*."""
        with self._engine.lock:
            now, get = self._engine.now(), self._engine.records.get
            return {key: record for key in keys if (record := get(key, now)) is not None}

    def wait(self, keys: Sequence[str], *, timeout: float) -> dict[str, Record]:
        """Wait for a final record among *keys*."""
        engine = self._engine
        deadline = engine.clock.monotonic() + timeout
        with engine.written:
            while True:
                final = engine.records.final(keys, engine.now())
                left = deadline - engine.clock.monotonic()
                if final or left <= 0:
                    return final
                engine.clock.wait(engine.written, left)

    def delete(self, keys: Sequence[str], *, expect: int | None = None) -> int:
        """Remove records."""
        with self._engine.lock:
            now = self._engine.now()
            return sum(self._engine.records.delete(key, expect, now) for key in keys)

    def scan(self, prefix: str, *, limit: int = 100, cursor: str | None = None) -> Page[Record]:
        """Return live records whose key starts with *prefix*, sorted by key."""
        with self._engine.lock:
            return self._engine.records.scan(prefix, limit=limit, cursor=cursor, now=self._engine.now())

    def now(self) -> float | None:
        """Return UTC epoch seconds."""
        with self._engine.lock:
            return self._engine.now()

    def join(self, group: str, member: int, size: int, *, ttl: float = 604_800.0) -> tuple[bool, int]:
        """Count *member* into *group*."""
        with self._engine.lock:
            return self._engine.records.join(group, member, ttl, self._engine.now())

    def join_many(self, joins: Sequence[Join]) -> list[int]:
        """Count several members into their groups."""
        with self._engine.lock:
            now = self._engine.now()
            return [self._engine.records.join(one.group, one.member, one.ttl, now)[1] for one in joins]
