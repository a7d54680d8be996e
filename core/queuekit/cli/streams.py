"""Handle standard output and standard error that are closed, full, or cannot encode a character."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys

from queuekit.logs.plaintext import clean

__all__ = ["failed_write", "finish_output", "make_streams_safe"]


_OF_WRITES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE, errno.EBADF})
"""Error numbers of failed writes to a stream; such errors name no file."""


def make_streams_safe() -> io.StringIO | None:
    """Escape characters that a stream cannot encode; return the stand-in for standard output if that is closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Otherwise the next file to be opened gets this number, and writes to the stream go into it.
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - open as long as the process lives
    if sys.stdout is not None:
        return None
    lost = io.StringIO()
    sys.stdout = lost
    return lost


def finish_output(lost: io.StringIO | None) -> None:
    """Flush standard output; *lost* is its stand-in if it is closed.

    Raises:
        OSError: The output cannot be written.
    """
    sys.stdout.flush()
    if lost is not None and lost.getvalue():
        raise OSError(errno.EBADF, "it is closed, and the output is lost")


def failed_write(error: OSError) -> str:
    """Return an operating system error as one line; discard buffered output that cannot be written."""
    what = error.strerror or type(error).__name__
    names = [clean(str(name)) for name in (error.filename, error.filename2) if name is not None]
    if names or error.errno not in _OF_WRITES:
        return ": ".join([*names, what])
    # Python flushes standard output again at exit, and would report the error a second time.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return f"cannot write to standard output: {what}"
