"""Named pipes that are created when first needed, never block, and are removed when nothing listens."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

__all__ = ["drain", "open_pipe", "wake"]

_OPEN = os.O_NONBLOCK | os.O_CLOEXEC if os.name == "posix" else 0
CAPACITY = 65_536
"""Bytes to read at once: the capacity of a pipe on Linux."""


def open_pipe(path: Path, *, private: bool = False) -> int:
    """Open the pipe at *path* for reading and writing; create it if it does not exist.

    A *private* pipe gets its name only once it is open, since :func:`wake` removes pipes without a listener.

    Raises:
        OSError: The pipe cannot be created or opened.
    """
    made = path.with_name(f".{path.name}") if private else path
    try:
        pipe = os.open(made, os.O_RDWR | _OPEN)
    except FileNotFoundError:
        _make(made)
        pipe = os.open(made, os.O_RDWR | _OPEN)
    if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
        os.close(pipe)
        raise OSError(errno.EEXIST, "not a named pipe", str(made))
    if private:
        made.rename(path)
    return pipe


def wake(path: str) -> None:
    """Wake the owner of the private pipe at *path*; if the owner is gone, remove the pipe."""
    try:
        pipe = os.open(path, os.O_WRONLY | _OPEN)
    except OSError as error:
        if error.errno == errno.ENXIO:  # no process has it open
            Path(path).unlink(missing_ok=True)
        return
    try:
        with contextlib.suppress(OSError):
            os.write(pipe, b"!")
    finally:
        os.close(pipe)


def drain(pipe: int) -> None:
    """Empty *pipe*, unless another waiter has done so."""
    with contextlib.suppress(BlockingIOError):
        os.read(pipe, CAPACITY)


def _make(path: Path) -> None:
    """Create the pipe at *path* and the two directories above it, for this user only."""
    for directory in (path.parent.parent, path.parent):
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, 0o600)
