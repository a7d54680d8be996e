"""The lock, the clock and the stores that a memory broker and a memory backend share."""

from __future__ import annotations

import itertools
import threading
import weakref

from queuekit.broker import Limits
from queuekit.clock import Clock, SystemClock
from queuekit.engines.memory.messages import MessageStore
from queuekit.engines.memory.records import RecordStore
from queuekit.forks import renew_in_forks
from queuekit.urls import EngineURL

__all__ = ["LIMITS", "MemoryEngine"]

LIMITS = Limits()
_serial = itertools.count(1)


class MemoryEngine:
    """The "server" behind ``memory://NAME``; it lives as long as a broker or a backend refers to it.

    Args:
        name: Its name in the URL.
        clock: Its clock (QK11).
    """

    def __init__(self, name: str, *, clock: Clock) -> None:
        self.id = f"memory:{name}:{next(_serial)}"
        """Unique among the engines of this process."""
        self.clock = clock
        self.renew_in_fork()
        renew_in_forks(self)
        self.messages = MessageStore(dedup_window=LIMITS.dedup_window)
        self.records = RecordStore()
        self._latest = float("-inf")
        self._next_claim = itertools.count(1).__next__

    def renew_in_fork(self) -> None:
        """Create new locks; a fork has its own copy of messages and records."""
        self.lock = threading.Lock()
        """Held during each step on the stores; each step is short."""
        self.sent = threading.Condition(self.lock)
        """Notified when a message may be available earlier than a waiter expects."""
        self.written = threading.Condition(self.lock)
        """Notified when a record was written."""

    @classmethod
    def of(cls, url: EngineURL, *, clock: Clock) -> MemoryEngine:
        """Return the engine that *url* names; equal names with the same clock share one engine."""
        name = url.hosts[0] if url.hosts else ""
        # All system clocks count as the same clock; any other clock gets a separate engine.
        key = (name, 0 if isinstance(clock, SystemClock) else id(clock))
        with _engines_lock:
            engine = _engines.get(key)
            if engine is None:
                engine = _engines[key] = cls(name, clock=clock)
            return engine

    def now(self) -> float:
        """Return UTC epoch seconds that never step back, so that nothing is early after the clock is set back."""
        self._latest = max(self._latest, self.clock.time())
        return self._latest

    def next_claim(self) -> int:
        """Return a number unique to this claim, so that tokens differ whatever the source of randomness returns."""
        return self._next_claim()


_engines: weakref.WeakValueDictionary[tuple[str, int], MemoryEngine] = weakref.WeakValueDictionary()
_engines_lock = threading.Lock()
