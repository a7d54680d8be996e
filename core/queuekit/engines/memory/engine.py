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
    """The "server" behind ``memory://NAME``: it lives as long as a broker or a backend holds it.

    Args:
        name: What the URL calls it.
        clock: Its idea of time (QK11).
    """

    def __init__(self, name: str, *, clock: Clock) -> None:
        self.id = f"memory:{name}:{next(_serial)}"
        """Unlike that of every other engine of this process."""
        self.clock = clock
        self.renew_in_fork()
        renew_in_forks(self)
        self.messages = MessageStore(dedup_window=LIMITS.dedup_window)
        self.records = RecordStore()
        self._latest = float("-inf")
        self._next_claim = itertools.count(1).__next__

    def renew_in_fork(self) -> None:
        """Begin with free locks; the messages and records of a fork are a copy of its own."""
        self.lock = threading.Lock()
        """Held for every step on the stores; each step is short."""
        self.sent = threading.Condition(self.lock)
        """Notified when a message may have become available sooner than a waiter expects."""
        self.written = threading.Condition(self.lock)
        """Notified when a record was written."""

    @classmethod
    def of(cls, url: EngineURL, *, clock: Clock) -> MemoryEngine:
        """Return the engine that *url* names, the same for all that use the same clock at one time."""
        name = url.hosts[0] if url.hosts else ""
        # All system clocks are one; any other clock makes an engine of its own.
        key = (name, 0 if isinstance(clock, SystemClock) else id(clock))
        with _engines_lock:
            engine = _engines.get(key)
            if engine is None:
                engine = _engines[key] = cls(name, clock=clock)
            return engine

    def now(self) -> float:
        """Return UTC epoch seconds that never step back, so that nothing is early after the clock was set."""
        self._latest = max(self._latest, self.clock.time())
        return self._latest

    def next_claim(self) -> int:
        """Return a number that no other claim has: tokens stay different whatever the source of chance."""
        return self._next_claim()


_engines: weakref.WeakValueDictionary[tuple[str, int], MemoryEngine] = weakref.WeakValueDictionary()
_engines_lock = threading.Lock()
