"""Interrupts a broker's waits from another thread: helps implement ``interrupt`` and ``receive``."""

from __future__ import annotations

import threading
from typing import Protocol

from queuekit.forks import renew_in_forks

__all__ = ["Interrupts", "Wakeable"]


class Wakeable(Protocol):
    """One thread's wait."""

    def wake(self) -> None:
        """End this wait, or the next one; may be called from any thread, and repeatedly."""
        ...


class Interrupts:
    """Interrupts of one broker in this process: each ends all current waits or, if there are none, the next one."""

    def __init__(self) -> None:
        self._count = 0
        self.renew_in_fork()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Drop the waits and pending interrupts of the parent process."""
        self._lock = threading.Lock()
        self._waits: set[Wakeable] = set()
        self.handled = self._count
        """Number of handled interrupts: read it when a ``receive`` begins, and pass it to :meth:`interrupted`."""

    def interrupt(self) -> None:
        """Wake all waits; if there are none, interrupt the next ``receive``."""
        with self._lock:
            self._count += 1
            for wait in self._waits:
                wait.wake()

    def interrupted(self, handled: int) -> bool:
        """Return whether an interrupt came since *handled*, and count it as handled; call this before each wait."""
        if self._count == handled:
            return False
        self.handled = self._count
        return True

    def join(self, wait: Wakeable, *, since: int | None = None) -> None:
        """Wake *wait* on interrupts until :meth:`leave`; wake it at once if one came since *since*."""
        with self._lock:
            self._waits.add(wait)
            if since is not None and self._count != since:
                wait.wake()

    def leave(self, wait: Wakeable) -> None:
        """Undo :meth:`join`."""
        with self._lock:
            self._waits.discard(wait)
