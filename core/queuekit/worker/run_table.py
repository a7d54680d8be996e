"""The bodies that a worker process runs, in shared memory that stays readable after the process was killed.

Each run thread writes the serial number of its run before it enters the body, so that the supervisor can distinguish
tasks that may have killed the process from those that were only waiting in it (QK6). The process also writes
heartbeats, so that the supervisor can detect a body that keeps all other threads from running.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterable
from typing import NamedTuple

from queuekit.worker.probes import Pulse
from queuekit.worker.recycling import Usage

__all__ = ["Inside", "RowsOfOthers", "RunTable"]

_BEAT = struct.Struct("=d")
_ENTRY = struct.Struct("=Qdd")
_THREAD = struct.Struct("=qQ")
_PULSE = struct.Struct("=ddd?")
_USAGE = struct.Struct("=QQ")


class Inside(NamedTuple):
    """A run inside its body."""

    since: float
    """Monotonic time of its entry."""
    limit: float
    """Monotonic time at which its time limit ends; infinite without a limit, and while another body blocks it."""
    thread: int = 0
    """The system's id of its thread; 0 if unknown."""
    ident: int = 0
    """Python's identifier of its thread; 0 if unknown."""
    row: int = 0
    """Its row."""


class RunTable:
    """Rows of (serial, time of entry, limit), times in monotonic seconds; serial 0 marks a free row.

    Args:
        count: Number of rows.
        fileno: Descriptor of a file of :meth:`size` bytes shared with another process, or -1 for private memory.
    """

    def __init__(self, count: int, *, fileno: int = -1) -> None:
        self.count, self.fileno = count, fileno
        self._memory = mmap.mmap(fileno, self.size(count))
        self._starts = [_BEAT.size + row * _ENTRY.size for row in range(count)]

    @staticmethod
    def size(count: int) -> int:
        """Return the bytes that *count* rows take."""
        return _BEAT.size + (_ENTRY.size + _THREAD.size) * count + _PULSE.size + _USAGE.size

    def thread(self, row: int, number: int, ident: int = 0) -> None:
        """Record the system's id and Python's identifier of the thread that runs the bodies of *row*."""
        _THREAD.pack_into(self._memory, self._place(row), number, ident)

    def _place(self, row: int) -> int:
        return _BEAT.size + self.count * _ENTRY.size + row * _THREAD.size

    def enter(self, row: int, serial: int, now: float, timeout: float | None = None) -> None:
        """Record that run *serial* enters its body at the monotonic time *now*, with *timeout* seconds to run."""
        limit = math.inf if timeout is None else now + timeout
        _ENTRY.pack_into(self._memory, self._starts[row], serial, now, limit)

    def limit(self, row: int, moment: float) -> None:
        """Set the end of the time limit of the run in *row* to the monotonic time *moment*."""
        serial, since, _ = _ENTRY.unpack_from(self._memory, self._starts[row])
        _ENTRY.pack_into(self._memory, self._starts[row], serial, since, moment)

    def leave(self, row: int) -> None:
        """Free *row*."""
        _ENTRY.pack_into(self._memory, self._starts[row], 0, 0.0, 0.0)

    def keep_only(self, serials: Iterable[int]) -> None:
        """Free all rows except those of *serials*, so that other runs do not become suspects."""
        kept = set(serials)
        for row in range(self.count):
            serial, _, _ = _ENTRY.unpack_from(self._memory, self._starts[row])
            if serial not in kept:
                self.leave(row)

    def suspect(self, serials: Iterable[int], now: float) -> None:
        """Enter runs whose bodies have ended into free rows, so that they become suspects too; the last ones first."""
        left = [serial for serial in serials if serial not in self.entered()]
        for row in range(self.count):
            if left and not _ENTRY.unpack_from(self._memory, self._starts[row])[0]:
                self.enter(row, left.pop(), now)

    def entered(self) -> dict[int, Inside]:
        """Return the runs inside their bodies, by serial."""
        rows = (_ENTRY.unpack_from(self._memory, start) for start in self._starts)
        inside = [(row, *entry) for row, entry in enumerate(rows) if entry[0]]
        return {serial: Inside(since, limit, *self._thread_of(row), row) for row, serial, since, limit in inside}

    def _thread_of(self, row: int) -> tuple[int, int]:
        number, ident = _THREAD.unpack_from(self._memory, self._place(row))
        return number, ident

    def is_loop(self, inside: Inside) -> bool:
        """Return whether a run is on the event loop of a worker, which uses the second half of the rows."""
        return inside.row >= self.count // 2

    def beat(self, now: float) -> None:
        """Record a heartbeat at the monotonic time *now*."""
        _BEAT.pack_into(self._memory, 0, now)

    @property
    def last_beat(self) -> float:
        """Time of the last :meth:`beat`; 0 before the first."""
        moment: float = _BEAT.unpack_from(self._memory, 0)[0]
        return moment

    def report(self, pulse: Pulse) -> None:
        """Record for how long the loops of the process have not moved."""
        _PULSE.pack_into(self._memory, self._place(self.count), *pulse)

    @property
    def pulse(self) -> Pulse:
        """The last :meth:`report`."""
        return Pulse(*_PULSE.unpack_from(self._memory, self._place(self.count)))

    def use(self, usage: Usage) -> None:
        """Record what the process has used."""
        _USAGE.pack_into(self._memory, self._place(self.count) + _PULSE.size, *usage)

    @property
    def usage(self) -> Usage:
        """The last :meth:`use`."""
        return Usage(*_USAGE.unpack_from(self._memory, self._place(self.count) + _PULSE.size))

    def close(self) -> None:
        """Release the memory."""
        self._memory.close()


class RowsOfOthers:
    """The rows of a run table as a process for bodies writes them, which runs several for one row.

    Args:
        fileno: Descriptor of the table's file.
    """

    def __init__(self, fileno: int) -> None:
        self._memory = mmap.mmap(fileno, 0)

    def enter(self, row: int, serial: int, now: float, limit: float) -> None:
        """Record that run *serial* enters its body at the monotonic time *now*, with *limit* seconds to run."""
        _ENTRY.pack_into(self._memory, _BEAT.size + row * _ENTRY.size, serial, now, now + limit)
