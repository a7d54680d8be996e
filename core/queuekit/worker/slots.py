"""A small table in shared memory that says which bodies are being run, readable after the worker was killed.

Each run thread writes the serial number of its run before it enters the body, so that the supervisor can tell a task
that may have killed its process from those that were merely waiting in it (QK6).
"""

from __future__ import annotations

import mmap
import struct

__all__ = ["Slots"]

_ENTRY = struct.Struct("=Qd")


class Slots:
    """Rows of (serial, monotonic seconds); serial 0 is free.

    Args:
        count: How many rows.
        fileno: A file of :meth:`size` bytes shared with another process, or -1 for memory of this one.
    """

    def __init__(self, count: int, *, fileno: int = -1) -> None:
        self.count = count
        self._memory = mmap.mmap(fileno, self.size(count))

    @staticmethod
    def size(count: int) -> int:
        """Return the bytes that *count* rows take."""
        return _ENTRY.size * count

    def enter(self, row: int, serial: int, now: float) -> None:
        """Say that run *serial* enters its body at *now*, monotonic seconds."""
        _ENTRY.pack_into(self._memory, row * _ENTRY.size, serial, now)

    def leave(self, row: int) -> None:
        """Say that row *row* is free."""
        _ENTRY.pack_into(self._memory, row * _ENTRY.size, 0, 0.0)

    def entered(self) -> dict[int, float]:
        """Return the runs inside their bodies: serial and monotonic seconds of entry."""
        rows = (_ENTRY.unpack_from(self._memory, row * _ENTRY.size) for row in range(self.count))
        return {serial: since for serial, since in rows if serial}

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
