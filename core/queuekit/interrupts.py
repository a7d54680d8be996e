"""Interrupts of a broker's waits from another thread: what its ``interrupt`` and ``receive`` need to agree."""

from __future__ import annotations

import threading
from typing import Protocol

from queuekit.forks import renew_in_forks

__all__ = ["Interrupts", "Wakeable"]


class Wakeable(Protocol):
    """One thread's wait."""

    def wake(self) -> None:
        """End it, or the next one; called from any thread, and perhaps again."""
        ...


class Interrupts:
    """Interrupts of one broker in this process: each ends the waits of now or, if there are none, the next one."""

    def __init__(self) -> None:
        self._count = 0
        self.renew_in_fork()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Leave the waits, and what has interrupted them, to the parent."""
        self._lock = threading.Lock()
        self._waits: set[Wakeable] = set()
        self.handled = self._count
        """How many have been handled: read it when a ``receive`` begins, for :meth:`interrupted`."""

    def interrupt(self) -> None:
        """Wake all waits; if there are none, the next ``receive`` finds itself interrupted."""
        with self._lock:
            self._count += 1
            for wait in self._waits:
                wait.wake()

    def interrupted(self, handled: int) -> bool:
        """Return whether there was an interrupt since *handled*, and count it as handled; ask before each wait."""
        if self._count == handled:
            return False
        self.handled = self._count
        return True

    def join(self, wait: Wakeable, *, since: int | None = None) -> None:
        """Have *wait* woken until :meth:`leave`; at once if there was an interrupt since *since*."""
        with self._lock:
            self._waits.add(wait)
            if since is not None and self._count != since:
                wait.wake()

    def leave(self, wait: Wakeable) -> None:
        """Undo :meth:`join`."""
        with self._lock:
            self._waits.discard(wait)
