"""The leases that a worker process holds, in memory shared with its supervisor, which renews them.

The worker appends a frame for each batch that it takes or settles. The supervisor reads all frames when it renews
leases or reaps the process. Neither wakes the other, and a task that ends between two reads costs the supervisor
nothing. The memory has two halves. When one is full of frames, the other starts with the leases held at that moment.
"""

from __future__ import annotations

import logging
import mmap
import pickle  # safe: both ends run the same code for the same user
import struct
import sys
import threading
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from queuekit.broker import Lease

__all__ = ["HeldLease", "HeldRow", "LeaseTable"]

_logger = logging.getLogger("queuekit.worker")
_HEAD = 8
"""Bytes of the head, one word written atomically: turn << 32 | bytes of frames. Odd turns use the second half."""
_LENGTH = 0xFFFF_FFFF
_FRAME = struct.Struct("=II")
"""Size of a frame's body, and its checksum, which starts from the turn: neither leftovers of an earlier turn nor a
half-written frame can pass as a frame."""
_USUAL = 262_144
"""Bytes of frames after which the halves are switched, if the held leases then take less than a quarter of that."""


class HeldLease(NamedTuple):
    """A held lease. It is flat and cheap, since one is made for each message and sent to another process."""

    serial: int
    """Number of the run within its process."""
    queue: str
    id: str
    token: str
    number: int
    timeout: float | None = None
    """Seconds that the body may run; after that and a grace period, the lease is not renewed."""
    generation: int = 0
    attempt: int = 0
    apart: bool = False
    """Whether the body runs in a process of its own, so that it cannot have ended the process that held the lease."""
    slot: bool = False
    """Whether it holds a slot of a concurrency limit, which lasts as long as the lease."""

    @property
    def lease(self) -> Lease:
        """The lease as the broker expects it."""
        return Lease(self.queue, self.id, self.token, self.number)


HeldRow = tuple[int, str, str, str, int, float | None, int, int, bool, bool]
"""The values of a :class:`HeldLease`, as a tuple, which takes a third of the time to create."""


class _FullError(Exception):
    """The memory is full."""


class LeaseTable:
    """The held leases, written by one process and read by another, or by the same.

    Args:
        fileno: Descriptor of a file shared with another process, or -1 for private memory.
        size: Bytes of the memory; 0 for the whole file.
    """

    SIZE = 16_777_216
    """Bytes for some ten thousand usual leases. Parts that are not written use no memory."""
    LEAST = 524_288
    """Bytes for some thousand leases."""

    def __init__(self, *, fileno: int = -1, size: int = SIZE) -> None:
        self._memory = mmap.mmap(fileno, size)
        self._half = (len(self._memory) - _HEAD) // 2
        self._word = memoryview(self._memory)[:_HEAD].cast("Q")
        self._rows: dict[int, tuple[Any, ...]] = {}
        # Start at turn 1: in turn 0, the zeros of fresh memory would pass as an empty frame.
        self._turn, self._length = 1, 0
        self._usual = self._use(0)
        self._lock = threading.Lock()
        self.most = sys.maxsize
        """Most leases that fit, as far as known."""

    # -- the worker

    def close(self) -> None:
        """Release the memory."""
        self._word.release()
        self._memory.close()

    def hold(self, leases: Sequence[HeldRow]) -> int:
        """Add *leases*; the supervisor renews them from now on, whatever happens to this process.

        Returns:
            How many were added, from the first on; fewer if the memory is full.

        Raises:
            ValueError: Not even one lease fits, although none is held.
        """
        fit = len(leases)
        while fit:
            try:
                self._hold(leases[:fit])
            except _FullError:
                fit //= 2
            else:
                break
        if fit < len(leases):
            self._is_full(leases[fit])
        return fit

    def _is_full(self, row: HeldRow) -> None:
        """Report that the lease in *row* does not fit, and remember how many do."""
        first = HeldLease._make(row)
        if not self._rows:
            size = f"{len(first.token):,} characters, and all leases share {self._half:,} bytes"
            raise ValueError(f"the lease of {first.id} does not fit: its token has {size}; the broker must shorten it")
        self.most = len(self._rows)
        _logger.warning(
            "the lease table is full: the worker holds at most %d messages at a time; "
            "the broker's tokens exceed a few hundred characters, and it should shorten them",
            self.most,
        )

    def _hold(self, leases: Sequence[HeldRow]) -> None:
        # A plain tuple pickles ten times as fast.
        rows = {lease[0]: tuple(lease) for lease in leases}
        with self._lock:
            self._rows.update(rows)
            try:
                self._append(list(rows.values()), ())
            except BaseException:  # without a frame, nothing would ever remove these rows
                for serial in rows:
                    del self._rows[serial]
                raise

    def done(self, serials: Iterable[int]) -> None:
        """Remove leases."""
        gone = list(serials)
        with self._lock:
            for serial in gone:
                self._rows.pop(serial, None)
            try:
                self._append((), gone)
            except BaseException:
                self._usual = 0  # switch halves with the next frame, or these leases would be renewed forever
                raise

    def _append(self, rows: Sequence[tuple[Any, ...]], gone: Sequence[int]) -> None:
        frame = _framed(rows, gone, self._turn)
        if self._length + len(frame) > self._usual:
            self._turn_over()
            return
        self._write(frame)
        self._length += len(frame)
        self._word[0] = self._turn << 32 | self._length

    def _turn_over(self) -> None:
        """Switch to the other half, starting with all held leases."""
        turn = self._turn + 1
        frame = _framed(list(self._rows.values()), (), turn)
        if len(frame) > self._half:
            raise _FullError
        self._turn, self._length = turn, 0
        self._write(frame)
        self._length = len(frame)
        self._usual = self._use(len(frame))
        self._word[0] = turn << 32 | self._length

    def _use(self, least: int) -> int:
        """Return how many bytes of a half to use if its first frame takes *least*.

        An eighth is reserved, since one frame of all leases may take more than the frames of each.
        """
        return min(self._half * 7 // 8, max(_USUAL, 4 * least))

    def _write(self, frame: bytes) -> None:
        start = self._start(self._turn) + self._length
        self._memory[start : start + len(frame)] = frame

    # -- the supervisor

    def held(self) -> list[HeldLease]:
        """Return the leases that are held, or were held when the writing process ended."""
        while True:
            turn, length = self._place()
            start = self._start(turn)
            frames = self._memory[start : start + length]
            if self._place()[0] == turn:  # otherwise the frames may have been overwritten meanwhile
                return [HeldLease._make(row) for row in _replayed(frames, turn).values()]

    def _place(self) -> tuple[int, int]:
        word = self._word[0]
        return word >> 32, word & _LENGTH

    def _start(self, turn: int) -> int:
        return _HEAD + (turn & 1) * self._half


def _framed(rows: Sequence[tuple[Any, ...]], gone: Sequence[int], turn: int) -> bytes:
    body = pickle.dumps((rows, gone), pickle.HIGHEST_PROTOCOL)
    return _FRAME.pack(len(body), zlib.crc32(body, turn)) + body


def _replayed(frames: bytes, turn: int) -> dict[int, tuple[Any, ...]]:
    """Return the rows that result from *frames*, up to the first incomplete frame."""
    held: dict[int, tuple[Any, ...]] = {}
    start, end = _FRAME.size, len(frames)
    while start <= end:
        size, checksum = _FRAME.unpack_from(frames, start - _FRAME.size)
        body = frames[start : start + size]
        if zlib.crc32(body, turn) != checksum:
            break
        rows, gone = pickle.loads(body)  # noqa: S301 - see the import
        held.update((row[0], row) for row in rows)
        for serial in gone:
            held.pop(serial, None)
        start += size + _FRAME.size
    return held
