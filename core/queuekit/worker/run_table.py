"""A small table in shared memory that says which bodies are being run, readable after the worker was killed.

Each run thread writes the serial number of its run before it enters the body, so that the supervisor can tell a task
that may have killed its process from those that were merely waiting in it (QK6). The process writes as well that it is
alive, so that the supervisor can tell a body that keeps all threads of its process from running.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Inside", "RunTable"]

_BEAT = struct.Struct("=d")
_ENTRY = struct.Struct("=Qdd")
_THREAD = struct.Struct("=q")


class Inside(NamedTuple):
    """A run inside its body."""

    since: float
    """Monotonic seconds of its entry."""
    limit: float
    """Monotonic seconds at which its time is over; infinite without one, and while another keeps it waiting."""
    thread: int = 0
    """The system's number of its thread; 0 if it was not told."""


class RunTable:
    """Rows of (serial, moment of entry, limit), moments in monotonic seconds; serial 0 is free.

    Args:
        count: How many rows.
        fileno: A file of :meth:`size` bytes shared with another process, or -1 for memory of this one.
    """

    def __init__(self, count: int, *, fileno: int = -1) -> None:
        self.count = count
        self._memory = mmap.mmap(fileno, self.size(count))
        self._starts = [_BEAT.size + row * _ENTRY.size for row in range(count)]

    @staticmethod
    def size(count: int) -> int:
        """Return the bytes that *count* rows take."""
        return _BEAT.size + (_ENTRY.size + _THREAD.size) * count

    def thread(self, row: int, number: int) -> None:
        """Say which thread runs what is in *row*, as the system numbers them."""
        _THREAD.pack_into(self._memory, self._place(row), number)

    def _place(self, row: int) -> int:
        return _BEAT.size + self.count * _ENTRY.size + row * _THREAD.size

    def enter(self, row: int, serial: int, now: float, timeout: float | None = None) -> None:
        """Say that run *serial* enters its body at *now*, monotonic seconds, and may stay for *timeout* seconds."""
        limit = math.inf if timeout is None else now + timeout
        _ENTRY.pack_into(self._memory, self._starts[row], serial, now, limit)

    def limit(self, row: int, moment: float) -> None:
        """Say that the time of what runs in *row* is over at *moment*, monotonic seconds."""
        serial, since, _ = _ENTRY.unpack_from(self._memory, self._starts[row])
        _ENTRY.pack_into(self._memory, self._starts[row], serial, since, moment)

    def leave(self, row: int) -> None:
        """Say that row *row* is free."""
        _ENTRY.pack_into(self._memory, self._starts[row], 0, 0.0, 0.0)

    def keep_only(self, serials: Iterable[int]) -> None:
        """Free all rows but those of *serials*: what runs in the others is not to blame for what comes next."""
        kept = set(serials)
        for row in range(self.count):
            serial, _, _ = _ENTRY.unpack_from(self._memory, self._starts[row])
            if serial not in kept:
                self.leave(row)

    def suspect(self, serials: Iterable[int], now: float) -> None:
        """Name runs in the free rows that are to blame as well, though their bodies have ended: the last ones first."""
        left = [serial for serial in serials if serial not in self.entered()]
        for row in range(self.count):
            if left and not _ENTRY.unpack_from(self._memory, self._starts[row])[0]:
                self.enter(row, left.pop(), now)

    def entered(self) -> dict[int, Inside]:
        """Return the runs inside their bodies, by serial."""
        rows = (_ENTRY.unpack_from(self._memory, start) for start in self._starts)
        inside = [(row, *entry) for row, entry in enumerate(rows) if entry[0]]
        return {
            serial: Inside(since, limit, _THREAD.unpack_from(self._memory, self._place(row))[0])
            for row, serial, since, limit in inside
        }

    def beat(self, now: float) -> None:
        """Say that this process is alive at *now*, monotonic seconds."""
        _BEAT.pack_into(self._memory, 0, now)

    @property
    def last_beat(self) -> float:
        """The last moment of :meth:`beat`; 0 before the first."""
        moment: float = _BEAT.unpack_from(self._memory, 0)[0]
        return moment

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
