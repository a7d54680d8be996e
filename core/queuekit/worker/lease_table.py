"""The leases in a worker process's hands, in memory that it shares with its supervisor, who renews them.

The worker appends a frame for each batch that it takes or is done with, and the supervisor reads them all when it
renews leases or buries the process: neither wakes the other, and a task that ends within that time costs the supervisor
nothing. The memory has two halves. When one is full of frames, the other begins with what is held at that moment.
"""

from __future__ import annotations

import logging
import mmap
import pickle  # both ends are ours, and run the same code for the same user
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
"""Bytes of the head, a word written at once: turn << 32 | bytes of frames. Odd turns are in the second half."""
_LENGTH = 0xFFFF_FFFF
_FRAME = struct.Struct("=II")
"""Size of a frame's body, and its checksum, which begins with the turn: so that nothing left from an earlier one and
nothing half-written passes for a frame."""
_USUAL = 262_144
"""Bytes of frames after which a half is left, if what is held then takes less than a quarter of it."""


class HeldLease(NamedTuple):
    """A lease to be kept: light and flat, since one is made for each message and crosses to another process."""

    serial: int
    """Number of the run within its process."""
    queue: str
    id: str
    token: str
    number: int
    timeout: float | None = None
    """Seconds that the body may run; past it, and a grace, the lease is left to end."""
    generation: int = 0
    attempt: int = 0
    apart: bool = False
    """Whether the body runs in a process of its own, and so did not end the one that held the lease."""

    @property
    def lease(self) -> Lease:
        """What the broker wants to see."""
        return Lease(self.queue, self.id, self.token, self.number)


HeldRow = tuple[int, str, str, str, int, float | None, int, int, bool]
"""The values of a :class:`HeldLease`, which take a third of the time to make."""


class _FullError(Exception):
    """There is no room."""


class LeaseTable:
    """What is held, written by one process and read by another, or by the same.

    Args:
        fileno: A file shared with another process, or -1 for memory of this one.
        size: Bytes of the memory; of a file, 0 for all that it has.
    """

    SIZE = 16_777_216
    """Bytes that have room for some ten thousands of usual leases. What is not written takes no place."""
    LEAST = 524_288
    """Bytes that have room for some thousands."""

    def __init__(self, *, fileno: int = -1, size: int = SIZE) -> None:
        self._memory = mmap.mmap(fileno, size)
        self._half = (len(self._memory) - _HEAD) // 2
        self._word = memoryview(self._memory)[:_HEAD].cast("Q")
        self._rows: dict[int, tuple[Any, ...]] = {}
        # Not turn 0, in which the zeros of fresh memory would pass for an empty frame.
        self._turn, self._length = 1, 0
        self._usual = self._use(0)
        self._lock = threading.Lock()
        self.most = sys.maxsize
        """Most that there is room for, as far as is known."""

    # -- the worker

    def close(self) -> None:
        """Give the memory back."""
        self._word.release()
        self._memory.close()

    def hold(self, leases: Sequence[HeldRow]) -> int:
        """Have these kept from now on, whatever happens here next.

        Returns:
            How many of them are, from the first on: fewer where there is room for no more.

        Raises:
            ValueError: There is room for none, though nothing is held.
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
        """Say that there is no room for the lease in *row*, and note how many there is room for."""
        first = HeldLease._make(row)
        if not self._rows:
            size = f"{len(first.token):,} characters, and there are {self._half:,} bytes for all"
            raise ValueError(f"the lease of {first.id} cannot be kept: its token has {size}; let the broker shorten it")
        self.most = len(self._rows)
        _logger.warning(
            "no more than %d leases are kept at a time, since there is no room for more: "
            "the tokens of the broker are longer than a few hundred characters, and it should shorten them",
            self.most,
        )

    def _hold(self, leases: Sequence[HeldRow]) -> None:
        # A plain tuple is ten times as quick to pickle.
        rows = {lease[0]: tuple(lease) for lease in leases}
        with self._lock:
            self._rows.update(rows)
            try:
                self._append(list(rows.values()), ())
            except BaseException:  # one that is said by no frame, and by nobody to be done, would be kept for ever
                for serial in rows:
                    del self._rows[serial]
                raise

    def done(self, serials: Iterable[int]) -> None:
        """Have these kept no longer."""
        gone = list(serials)
        with self._lock:
            for serial in gone:
                self._rows.pop(serial, None)
            try:
                self._append((), gone)
            except BaseException:
                self._usual = 0  # the next frame turns over, or these would be kept for ever
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
        """Begin the other half with all that is held."""
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
        """Return the bytes to use of a half that begins with *least* of them.

        An eighth is always left for what one frame of all leases takes more than a frame for each.
        """
        return min(self._half * 7 // 8, max(_USUAL, 4 * least))

    def _write(self, frame: bytes) -> None:
        start = self._start(self._turn) + self._length
        self._memory[start : start + len(frame)] = frame

    # -- the supervisor

    def held(self) -> list[HeldLease]:
        """Return what is held now, or was when the process that wrote it ended."""
        while True:
            turn, length = self._place()
            start = self._start(turn)
            frames = self._memory[start : start + length]
            if self._place()[0] == turn:  # else it has been written over meanwhile
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
    """Return the rows that *frames* leave, up to the first that is not whole."""
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
