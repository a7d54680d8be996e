"""Time as an argument: the protocol of a clock, the machine's clock, and one that tests move by hand."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Clock", "SystemClock", "VirtualClock"]

_time, _monotonic = time.time, time.monotonic

_GRAIN = 2.0**-20
"""Step of virtual time (about a microsecond): a power of two, so that sums are exact."""
_POLL = 0.05
"""Real seconds after which a waiting thread checks the time again, in case it missed a notification."""


class Clock(Protocol):
    """A source of time. Engines without a server clock (memory, sqlite) use it as the server's."""

    def time(self) -> float:
        """Return UTC epoch seconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block the calling thread."""
        ...

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a held *condition* for at most *timeout* seconds; return False on timeout."""
        ...


class SystemClock:
    """The machine's clock."""

    # The functions themselves, not wrappers: each message calls them several times.
    time = staticmethod(_time)
    monotonic = staticmethod(_monotonic)

    def sleep(self, seconds: float) -> None:
        """Block the calling thread."""
        time.sleep(seconds)

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a held *condition* for at most *timeout* seconds; return False on timeout."""
        return condition.wait(timeout)


class VirtualClock:
    """A :class:`Clock` that stands still until :meth:`advance` moves it, for engines such as ``memory://``.

    Threads that sleep or wait on it continue when another thread calls :meth:`advance`::

        clock = VirtualClock()
        broker = MemoryBroker(EngineURL.parse("memory://"), clock=clock)
        broker.send([Envelope(id="a", queue="q", body=b"", delay=3600)])
        clock.advance(3600)
        broker.receive(["q"], limit=1, wait=0, lease=30)       # returns the message

    Args:
        start: Initial time in UTC epoch seconds; whole seconds.
    """

    def __init__(self, start: int = 1_800_000_000) -> None:
        self._start = start
        self._elapsed = 0.0
        self._lock = threading.Lock()
        self._waiting: list[threading.Condition] = []
        self._sleepers = threading.Condition()

    def time(self) -> float:
        """Return UTC epoch seconds."""
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Return seconds since the start."""
        return self._elapsed

    def sleep(self, seconds: float) -> None:
        """Block the calling thread until *seconds* of virtual time have passed."""
        end = self._elapsed + seconds
        with self._sleepers:
            while self._elapsed < end:
                self.wait(self._sleepers, end - self._elapsed)

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a held *condition* for at most *timeout* virtual seconds; return False on timeout.

        Like any wait on a condition it may return early, so call it in a loop.
        """
        end = math.inf if timeout is None else self._elapsed + timeout
        with self._registered(condition):
            if self._elapsed < end:
                condition.wait(_POLL)
        return self._elapsed < end

    def advance(self, seconds: float) -> None:
        """Move the time forward by *seconds*, and wake all waiting threads."""
        with self._lock:
            self._elapsed += math.ceil(seconds / _GRAIN) * _GRAIN
            waiting = list(self._waiting)
        for condition in waiting:
            with condition:
                condition.notify_all()

    @property
    def waiting(self) -> int:
        """Number of threads that sleep or wait on this clock."""
        return len(self._waiting)

    def wait_for_waiters(self, count: int, *, timeout: float = 10.0) -> None:
        """Block until *count* threads sleep or wait, so that an :meth:`advance` reaches them.

        Raises:
            TimeoutError: Fewer do so within *timeout* real seconds.
        """
        deadline = time.monotonic() + timeout
        while self.waiting < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.waiting} of {count} threads wait on the clock")
            time.sleep(0.001)

    @contextmanager
    def _registered(self, condition: threading.Condition) -> Iterator[None]:
        with self._lock:
            self._waiting.append(condition)
        try:
            yield
        finally:
            with self._lock:
                self._waiting.remove(condition)
