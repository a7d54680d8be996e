"""Sets the time of a file to the time of day: ``python -m queuekit.engines.sqlite.settime jobs.db``.

Stop everything that uses the file first. Delays, leases and expiry times keep their remaining length; messages sent
with an ``eta`` keep that time.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Sequence

from queuekit.clock import Clock, SystemClock
from queuekit.engines.sqlite import layout as schema
from queuekit.engines.sqlite.connection import fault
from queuekit.engines.sqlite.file_clock import Anchor, FileTime
from queuekit.errors import QueuekitError, UnavailableError

__all__ = ["main", "set_time"]

_PATIENCE = 5.0
_USED = "{} is used by another process"
_MESSAGES = """
UPDATE messages SET sent_at = sent_at + :by, lease_until = lease_until + :by, died_at = died_at + :by,
    due = CASE WHEN state = 1 AND CAST(not_before AS REAL) >= due - 0.01 THEN due ELSE due + :by END"""
_NOT_YET = """
UPDATE messages SET state = 1, due = CAST(not_before AS REAL) WHERE state = 0 AND CAST(not_before AS REAL) > :now"""
_MOVE = (
    _MESSAGES,
    _NOT_YET,
    "UPDATE unique_keys SET ends = ends + :by",
    "UPDATE records SET expires_at = expires_at + :by WHERE expires_at IS NOT NULL",
    "UPDATE groups SET expires_at = expires_at + :by",
    "DELETE FROM meta WHERE name = 'mark'",
    "INSERT OR REPLACE INTO meta(name, value) VALUES ('clock', :clock)",
)


def set_time(path: str, *, clock: Clock | None = None) -> float:
    """Set the time of the file at *path* to the time of day, and return the seconds by which it was moved.

    Raises:
        UnavailableError: It is not a queuekit database, or another process uses it.
    """
    if not os.path.isfile(path):  # noqa: PTH113 - a path as text
        raise UnavailableError(f"{path} does not exist", fix="Name the file of the sqlite:/// URL")
    with contextlib.closing(sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)) as connection:
        try:
            schema.prepare(connection.execute, path)
            return _set(connection, path, FileTime(clock or SystemClock()))
        except sqlite3.Error as error:
            raise fault(error, path, patience=_PATIENCE) from error


def _set(connection: sqlite3.Connection, path: str, time: FileTime) -> float:
    # SQLite leaves the write-ahead mode only if this connection is the only one.
    if _mode(connection, "DELETE") != "delete":
        raise UnavailableError(_USED.format(path), fix="Stop all workers and senders, and call again")
    try:
        connection.execute("BEGIN EXCLUSIVE")
        rows = connection.execute("SELECT value FROM meta WHERE name = 'clock'").fetchall()
        before, after = Anchor.read(rows[0][0]) if rows else None, time.anchor()
        if before is None or not time.holds(before):
            connection.execute("ROLLBACK")
            return 0.0  # the next process that uses the file starts at the time of day
        by = after.offset - before.offset
        for sql in _MOVE:
            connection.execute(sql, {"by": by, "clock": str(after), "now": after.offset + after.seen})
        connection.execute("COMMIT")
    finally:
        _mode(connection, "WAL")
    return by


def _mode(connection: sqlite3.Connection, wanted: str) -> str:
    """Set the journal mode and return the mode in effect."""
    try:
        return str(connection.execute(f"PRAGMA journal_mode = {wanted}").fetchone()[0])
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        return "wal"


def main(arguments: Sequence[str]) -> int:
    """Set the time of the given file, and return the exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        asked = list(arguments) in (["--help"], ["-h"])
        (sys.stdout if asked else sys.stderr).write("usage: python -m queuekit.engines.sqlite.settime FILE\n")
        return 0 if asked else 2
    try:
        by = set_time(os.path.realpath(os.path.expanduser(arguments[0])))  # noqa: PTH111 - as a URL's path is read
    except QueuekitError as error:
        sys.stderr.write(f"Error {error}\n")
        return 4
    sys.stdout.write(f"{arguments[0]} goes by the time of day: its time was moved by {by:+.3f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
