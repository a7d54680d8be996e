"""Time as an argument: what core asks of a clock, the machine's, and one that stands still until a test moves it."""

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
"""Virtual time moves in steps of this size (about a microsecond), so that adding it up never rounds."""
_GLANCE = 0.05
"""Real seconds after which a waiting thread looks again, whatever it may have missed."""


class Clock(Protocol):
    """What the core asks of time. Engines without a clock of their own (memory, sqlite) use it as the server's."""

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
        """Wait on a held *condition* for at most *timeout* seconds; false if the time passed."""
        ...


class SystemClock:
    """The machine's clock."""

    # The functions themselves, without a call around them: each message asks several times.
    time = staticmethod(_time)
    monotonic = staticmethod(_monotonic)

    def sleep(self, seconds: float) -> None:
        """Block the calling thread."""
        time.sleep(seconds)

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a held *condition* for at most *timeout* seconds; false if the time passed."""
        return condition.wait(timeout)


class VirtualClock:
    """A :class:`Clock` for engines without a clock of their own, such as ``memory://``.

    Threads that sleep or wait on it go on when another thread calls :meth:`advance`::

        clock = VirtualClock()
        broker = MemoryBroker(EngineURL.parse("memory://"), clock=clock)
        broker.send([Envelope(id="a", queue="q", body=b"", delay=3600)])
        clock.advance(3600)
        broker.receive(["q"], limit=1, wait=0, lease=30)       # there it is

    Args:
        start: UTC epoch seconds at which it stands first; whole seconds.
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
        """Wait on a held *condition* for at most *timeout* virtual seconds; false if they passed.

        Like any wait on a condition it may end early, so call it in a loop.
        """
        end = math.inf if timeout is None else self._elapsed + timeout
        with self._registered(condition):
            if self._elapsed < end:
                condition.wait(_GLANCE)
        return self._elapsed < end

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass at once, and wake all who wait."""
        with self._lock:
            self._elapsed += math.ceil(seconds / _GRAIN) * _GRAIN
            waiting = list(self._waiting)
        for condition in waiting:
            with condition:
                condition.notify_all()

    @property
    def waiting(self) -> int:
        """How many threads sleep or wait on this clock at the moment."""
        return len(self._waiting)

    def wait_for_waiters(self, count: int, *, timeout: float = 10.0) -> None:
        """Block until *count* threads sleep or wait, so that an :meth:`advance` reaches them.

        Raises:
            TimeoutError: They did not within *timeout* real seconds.
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
