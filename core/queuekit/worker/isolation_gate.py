"""Decide which suspects of a crash may run at the same time."""

from __future__ import annotations

import threading

__all__ = ["IsolationGate"]


class IsolationGate:
    """Runs a suspect exclusively if its next crash would be its last but an earlier one is unconfirmed.

    A body that ends the whole process group, as the kernel may do when memory runs out, ends other suspects too. They
    all get the same marks; only an exclusive run shows which one is the cause.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._closed = False
        self._queue = 0
        """How many wait to run exclusively; meanwhile no others enter, or they would wait forever."""

    def enter(self, *, exclusive: bool, patience: float) -> bool:
        """Enter, and return true; return false if that is not allowed within *patience* seconds."""
        with self._changed:
            self._queue += exclusive
            entered = self._changed.wait_for(lambda: self._may_enter(exclusive=exclusive), patience)
            self._queue -= exclusive
            if entered:
                self._inside += 1
                self._closed = exclusive
            else:
                self._changed.notify_all()
            return entered

    def _may_enter(self, *, exclusive: bool) -> bool:
        return not self._inside if exclusive else not self._closed and not self._queue

    def leave(self, *, exclusive: bool) -> None:
        """Leave, after :meth:`enter` returned true."""
        with self._changed:
            self._inside -= 1
            self._closed = self._closed and not exclusive
            self._changed.notify_all()
