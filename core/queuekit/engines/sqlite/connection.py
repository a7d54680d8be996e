"""Connections to one file: one per thread, none carried across a fork, with errors that name the fix.

SQLite keeps locks per process. After a fork it would assume that it still holds its parent's locks, and even closing an
inherited connection could damage the file. So all connections are closed right before a fork and reopened when needed.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref

from queuekit.errors import UnavailableError
from queuekit.timelimit import time_left

__all__ = ["Handle", "fault", "is_busy"]

BUSY, LOCKED, PROTOCOL = 5, 6, 15
"""SQLite's codes for a file that another connection is using."""
STATEMENTS = 256
"""Compiled statements cached per connection; there are about eighty."""
FORK_PATIENCE = 2.0
"""Seconds for which a fork waits for a statement in another thread."""

CHECK_EVERY = 0.02
"""Seconds between two checks whether the file still has its name: one costs as much as a tenth of a send."""

FIXES = {
    3: "Make the file and its directory writable for this user",  # PERM
    8: "Make the file and its directory writable for this user",  # READONLY
    10: "Check the disk and the system's log",  # IOERR
    11: "Restore it from a backup, or move it away and start with an empty one",  # CORRUPT
    13: "Free some space on the disk; nothing was changed",  # FULL
    14: "Create its directory, or make it readable and writable for this user",  # CANTOPEN
    26: "Name another file: this one holds something else, or is damaged",  # NOTADB
}
"""Fix for each of SQLite's primary codes (sqlite.org/rescode.html)."""
CANTOPEN = 14
_ROUNDING = 0.01
"""Seconds by which SQLite, which counts milliseconds, may give up before the time is over."""
_PERSISTENT = frozenset({3, 8, 11, 26})
"""Primary codes of problems that only a person can fix: PERM, READONLY, CORRUPT, NOTADB."""
_MOVED = 1032
"""Extended code of a file that was renamed; the next connection opens the file that now has the name."""


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether a retry may succeed soon."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in {BUSY, LOCKED, PROTOCOL}


def fault(error: sqlite3.Error, path: str, *, patience: float) -> UnavailableError:
    """Return the error to raise for *error* on the file at *path*."""
    if is_busy(error):
        how_long = f"for {patience:g} s" if time_left(patience) > _ROUNDING else "until the timeout"
        return UnavailableError(
            f"{path} was locked by others {how_long}",
            fix="Call again, raise busy_timeout, or look for a process that keeps a transaction open",
        )
    extended = getattr(error, "sqlite_errorcode", 0)
    code = extended & 0xFF
    directory = os.path.dirname(path)  # noqa: PTH120 - a path as text
    what = f"{path} cannot be used: {error}"
    if code == CANTOPEN and not os.path.isdir(directory):  # noqa: PTH112
        what = f"{path} cannot be opened: the directory {directory} does not exist"
    stays = _is_closed(path) if code == CANTOPEN else code in _PERSISTENT and extended != _MOVED
    return UnavailableError(what, fix=FIXES.get(code, ""), passing=not stays)


def _is_closed(path: str) -> bool:
    """Return whether a file cannot be opened for lack of access; otherwise the process has too many open files."""
    if os.path.lexists(path):
        return not (os.path.isfile(path) and os.access(path, os.R_OK | os.W_OK))  # noqa: PTH113
    return not os.access(os.path.dirname(path), os.W_OK | os.X_OK)  # noqa: PTH120


class Handle:
    """A thread's connection. Its user holds ``lock``, so that a fork happens only between two statements.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.connection: sqlite3.Connection | None = None
        self.file: tuple[int, int] | None = None
        self.replaced = False
        """Whether the file was deleted or replaced, and the connection must be reopened."""
        self._next_check = 0.0
        with _gate:
            _handles.add(self)

    def usable(self) -> sqlite3.Connection | None:
        """Return the connection if it is open and the file was not replaced."""
        if self.connection is not None and (now := time.monotonic()) >= self._next_check:
            self._next_check = now + CHECK_EVERY
            if self.file != file_identity(self.path):
                self.replaced = True
                self.close()
        return self.connection

    def open(self) -> sqlite3.Connection:
        """Open the file; if it does not exist, create it for this user only."""
        with contextlib.suppress(OSError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        self.connection = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS
        )
        self.file = file_identity(self.path)
        return self.connection

    def close(self) -> None:
        """Close the connection; may be called twice."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def abandon(self) -> None:
        """Drop a connection copied from the parent by a fork, without touching it."""
        if self.connection is not None:
            _abandoned.append(self.connection)
            self.connection = None

    def __del__(self) -> None:
        """Close the connection of a thread that has ended."""
        self.close()


def file_identity(path: str) -> tuple[int, int] | None:
    """Return the identity of the file at *path*, which a replacement does not share; ``None`` if it does not exist."""
    try:
        status = os.stat(path)  # noqa: PTH116 - runs in every call
    except OSError:
        return None
    return status.st_dev, status.st_ino


_handles: weakref.WeakSet[Handle] = weakref.WeakSet()
_gate = threading.Lock()
_abandoned: list[sqlite3.Connection] = []
"""Connections of the parent that were in use during the fork, kept so that nothing ever closes them."""
_held: list[Handle] = []


def _before_fork() -> None:
    """Close all connections, and block new ones until the fork is done."""
    _gate.acquire()
    for handle in list(_handles):
        if handle.lock.acquire(timeout=FORK_PATIENCE):
            _held.append(handle)
            handle.close()


def _after_fork() -> None:
    while _held:
        _held.pop().lock.release()
    _gate.release()


def _after_fork_in_child() -> None:
    """Like in the parent, and release the locks that other threads of the parent held."""
    for handle in set(_handles) - set(_held):
        handle.abandon()
        handle.lock = threading.Lock()
    _after_fork()


def _register() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


_register()
