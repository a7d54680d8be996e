"""Which deliveries a process for bodies may begin: one byte for each, which either the process or its worker takes.

The kernel gives each byte to one of the two. So a worker can take back what has not begun, while the process runs on,
and also after its end, however it ended.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

__all__ = ["Permits", "PermitsOfProcess"]

_MOST = 4_096
"""Most bytes to read at a time."""
_NOTIFICATION = b"!"


class Permits:
    """The worker's side.

    Args:
        near: The worker's end of the socket.
        far: A duplicate of the end that the process has.
    """

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._near, self._far = near, far

    def fileno(self) -> int:
        """Return the descriptor that is readable when the process has notified its worker."""
        return self._near.fileno()

    def give(self, numbers: Sequence[int]) -> None:
        """Let the process begin the deliveries *numbers*.

        Raises:
            OSError: It has ended.
        """
        self._near.sendall(bytes(number % 256 for number in numbers))

    def take_back(self) -> int:
        """Return how many of the last deliveries the process has not begun, and now will not begin."""
        with contextlib.suppress(OSError):  # there is none
            return len(self._far.recv(_MOST, socket.MSG_DONTWAIT))
        return 0

    def clear(self) -> None:
        """Discard the notifications that have arrived."""
        with contextlib.suppress(OSError):
            self._near.recv(_MOST, socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Close both ends, which ends a process that waits for a permit."""
        self._near.close()
        self._far.close()


class PermitsOfProcess:
    """The side of the process.

    Args:
        file: Descriptor of its end.
    """

    def __init__(self, file: int) -> None:
        self._socket = socket.socket(fileno=file)

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is a permit."""
        return self._socket.fileno()

    def take(self) -> int | None:
        """Return the number of the next permit modulo 256; ``None`` if there is none yet.

        Raises:
            EOFError: The worker wants no more, or is gone.
        """
        try:
            permit = self._socket.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except ConnectionResetError as error:
            raise EOFError from error
        if not permit:
            raise EOFError
        return permit[0]

    def notify(self) -> None:
        """Tell the worker that there are answers."""
        with contextlib.suppress(OSError):  # it is gone
            self._socket.send(_NOTIFICATION)
