"""Whole messages over a socket between a worker and a child, read as they arrive.

``multiprocessing.connection`` reads the length and the message one after the other, and blocks until all has come: a
child that is stopped in the middle of a large answer would hold its thread for as long.
"""

from __future__ import annotations

import os
import select
import struct

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
        """Bytes of the message that is being read, with its length; 0 until that is known."""

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

    def wait(self, seconds: float) -> bool:
        """Wait at most *seconds*, and return whether there is something to read."""
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        return bool(poll.poll(seconds * 1_000))

    def receive(self) -> bytes:
        """Return the next message; blocks until it is there.

        Raises:
            EOFError: The other end is closed.
        """
        while True:
            message = self.read()
            if message is not None:
                return message

    def read(self) -> bytes | None:
        """Read once what is there; return the message if it is whole. Blocks only if nothing is there.

        Each message is answered before the next is sent, so that nothing comes after it.

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
        if not self._need and self._have >= _LENGTH.size:
            self._parts = [b"".join(self._parts)]
            self._need = _LENGTH.size + _LENGTH.unpack_from(self._parts[0])[0]
        if not self._need or self._have < self._need:
            return None
        whole = b"".join(self._parts) if len(self._parts) > 1 else self._parts[0]
        self._parts, self._have, self._need = [], 0, 0
        return whole[_LENGTH.size :]
