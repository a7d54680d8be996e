"""Whole messages over a socket between a worker and a child, read as they arrive.

``multiprocessing.connection`` reads the length and the message one after the other, and blocks until all has come: a
child that is stopped in the middle of a large answer would hold its thread for as long.
"""

from __future__ import annotations

import os
import struct
from collections import deque

__all__ = ["FramedSocket"]

_LENGTH = struct.Struct("=Q")
_LEAST, _MOST = 1 << 13, 1 << 20
"""Bytes to read at a time."""
_SMALL = 1 << 16
"""Bytes up to which length and message are joined."""


class FramedSocket:
    """One end of the socket. One thread reads, and one writes.

    Args:
        file: Descriptor of the blocking socket; its owner closes it.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 0
        """Bytes that the first message needs, with its length; 0 until that is known."""
        self._whole: deque[bytes] = deque()
        """Messages that were read and not asked for yet."""

    def send(self, data: bytes) -> None:
        """Send a message; blocks while the other end does not read.

        Raises:
            OSError: The other end is closed.
        """
        length = _LENGTH.pack(len(data))
        if len(data) <= _SMALL:
            self._write(length + data)
        else:
            self._write(length)
            self._write(data)

    def _write(self, data: bytes) -> None:
        written = os.write(self._file, data)
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def receive(self) -> bytes:
        """Return the next message; blocks until it is there.

        Raises:
            EOFError: The other end is closed.
        """
        while not self._whole:
            self._whole.extend(self.read())
        return self._whole.popleft()

    @property
    def has_part(self) -> bool:
        """Whether the beginning of a message was read, and its end was not."""
        return self._have > 0

    def read(self) -> list[bytes]:
        """Read once what is there; return the messages that are whole. Blocks only if nothing is there.

        Raises:
            EOFError: The other end is closed.
        """
        try:
            part = os.read(self._file, min(_MOST, max(_LEAST, self._need - self._have)))
        except ConnectionResetError as error:
            raise EOFError from error
        if not part:
            raise EOFError
        self._parts.append(part)
        self._have += len(part)
        return [] if self._have < self._need else self._split()

    def _split(self) -> list[bytes]:
        """Take the whole messages out of what was read."""
        data = b"".join(self._parts) if len(self._parts) > 1 else self._parts[0]
        found, start, self._need = list[bytes](), 0, 0
        while not self._need and len(data) - start >= _LENGTH.size:
            end = start + _LENGTH.size + _LENGTH.unpack_from(data, start)[0]
            if end > len(data):
                self._need = end - start
            else:
                found.append(data[start + _LENGTH.size : end])
                start = end
        self._have = len(data) - start
        self._parts = [data[start:]] if self._have else []
        return found
