"""Named pipes that are made when first needed, never block, and are removed when nothing listens."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

__all__ = ["drain", "open_pipe", "wake"]

_OPEN = os.O_NONBLOCK | os.O_CLOEXEC if os.name == "posix" else 0
CAPACITY = 65_536
"""Bytes that are read at once; what a pipe holds on Linux."""


def open_pipe(path: Path, *, private: bool = False) -> int:
    """Open the pipe at *path*, made if need be, for reading and writing.

    A *private* one gets its name only once it is open, since :func:`wake` removes pipes without a listener.

    Raises:
        OSError: A named pipe cannot be made or opened there.
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
    """Wake the owner of the private pipe at *path*; if there is none any more, remove it."""
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
    """Read what is in *pipe*, unless another waiter has read it."""
    with contextlib.suppress(BlockingIOError):
        os.read(pipe, CAPACITY)


def _make(path: Path) -> None:
    """Make the pipe at *path*, and the two directories above it, for this user alone."""
    for directory in (path.parent.parent, path.parent):
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, 0o600)
