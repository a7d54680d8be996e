"""Who may run beside whom, among the suspects of a crash."""

from __future__ import annotations

import threading

__all__ = ["IsolationGate"]


class IsolationGate:
    """A suspect runs with no other suspect, if the next crash would be its last but none was seen.

    A body that ends the whole process group, as the kernel may do when memory runs out, ends other suspects with it:
    they all have the same marks, and only alone is it known whose fault it was.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._closed = False
        self._queue = 0
        """How many wait to run alone: meanwhile no others come in, or they would wait for ever."""

    def enter(self, *, exclusive: bool, patience: float) -> bool:
        """Begin, if that may be within *patience* seconds."""
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
        """End."""
        with self._changed:
            self._inside -= 1
            self._closed = self._closed and not exclusive
            self._changed.notify_all()
