"""Standard output and standard error that are closed, full, or cannot hold a character."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys

from queuekit.logs.plaintext import clean

__all__ = ["failed_write", "finish_output", "make_streams_safe"]


_OF_WRITES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE, errno.EBADF})
"""What goes wrong with a stream, whose errors name no file."""


def make_streams_safe() -> io.StringIO | None:
    """Let what a stream cannot encode be written out; return what stands in for a standard output that is closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Else the next file that is opened has this number, and whoever writes to it writes into that.
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
    """Write what is still to be written; *lost* is what stood in for a standard output that is closed.

    Raises:
        OSError: It cannot be written.
    """
    sys.stdout.flush()
    if lost is not None and lost.getvalue():
        raise OSError(errno.EBADF, "it is closed, and what belongs there is lost")


def failed_write(error: OSError) -> str:
    """Return what an operating system's error says, in one line; what standard output cannot take is given up."""
    what = error.strerror or type(error).__name__
    names = [clean(str(name)) for name in (error.filename, error.filename2) if name is not None]
    if names or error.errno not in _OF_WRITES:
        return ": ".join([*names, what])
    # Python would complain once more when it flushes at its end.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return f"cannot write to standard output: {what}"
