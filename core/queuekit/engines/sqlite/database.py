"""Executes statements and transactions on one file, and retries while the file is busy."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from queuekit.clock import Clock, SystemClock
from queuekit.engines.sqlite import layout
from queuekit.engines.sqlite.boot_clock import OF_A_TEST
from queuekit.engines.sqlite.checks import exposures, short_of_room
from queuekit.engines.sqlite.connection import Handle, fault, is_busy
from queuekit.engines.sqlite.file_clock import Anchor, FileTime
from queuekit.engines.sqlite.options import SqliteOptions, check_version, database_path, written_path
from queuekit.engines.sqlite.statements import Parameters, Row
from queuekit.errors import UnavailableError, bare
from queuekit.timelimit import time_left
from queuekit.urls import EngineURL

__all__ = ["Database", "Transaction"]

PAUSE = (0.000_3, 0.003)
"""Seconds between two tries while another process writes. SQLite's own back-off starves processes for seconds."""
LOG_BYTES = 64_000_000
"""Size to which a larger write-ahead log is truncated."""
CHECKPOINT_BYTES = 4_096_000
"""Growth of the write-ahead log after which it is checkpointed into the file."""
LARGEST_LEAD = 5.0
"""Seconds by which the file's time may differ from the time of day before an operator is warned."""
READONLY = 8
"""SQLite's code for a file that this process cannot write."""
_ADD_QUEUES = "INSERT OR IGNORE INTO queues(name) SELECT value FROM json_each(?)"
_TIMES = "SELECT name, value FROM meta WHERE name IN ('mark', 'clock')"
_SAVE_CLOCK = "INSERT OR REPLACE INTO meta(name, value) VALUES ('clock', ?)"
_END_LEASES = "UPDATE messages SET lease_until = ? WHERE state = 2"
_SAVE_MARK = (
    "INSERT INTO meta(name, value) VALUES ('mark', ?) "
    "ON CONFLICT(name) DO UPDATE SET value = excluded.value WHERE excluded.value > value"
)


class Database:
    """The file at *path*.

    Every method may raise :class:`~queuekit.errors.UnavailableError`, and no error of ``sqlite3``.

    Args:
        path: Absolute path.
        options: Options of the file.
        clock: The machine's clock.
        random: Spreads the retries of several processes.
    """

    def __init__(self, path: str, *, options: SqliteOptions, clock: Clock, random: Random) -> None:
        check_version()
        self.path = path
        self.written = path
        """The path as given, before symbolic links were resolved."""
        self._private = options.private
        self.on_set_aside: Callable[[str, str, str], None] | None = None
        """Called with queue, id and reason of each message that is set aside."""
        self.time = FileTime(clock, begin=self._begin)
        self.random = random
        self.patience = options.busy_timeout
        self._sync = options.sync
        self._threads = threading.local()
        self._handles: weakref.WeakSet[Handle] = weakref.WeakSet()
        self._writers = _writers.setdefault(path, _WriterLock())
        self._known_queues: set[str] = set()

    @classmethod
    def of(
        cls, url: EngineURL, *, options: SqliteOptions | None, clock: Clock | None, random: Random | None
    ) -> Database:
        """Return the database of *url*, with defaults for missing arguments."""
        made = cls(
            database_path(url),
            options=options or SqliteOptions(),
            clock=clock or SystemClock(),
            random=random or Random(),  # noqa: S311 - for fencing tokens and jitter, not for secrets
        )
        made.written = written_path(url)
        return made

    def read(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Return all rows of a SELECT; a missing file counts as empty, and reading does not create it."""
        handle = self.handle()
        with handle.lock:
            try:
                connection = handle.usable()
                if connection is None and self.is_missing():
                    return self._read_empty(sql, parameters)
                return self.patiently(connection or self._open(handle), sql, parameters).fetchall()
            except sqlite3.Error as error:
                raise self.fault(handle, error) from bare(error)

    def write(self, sql: str, parameters: Parameters = ()) -> int:
        """Execute one statement, which is a transaction of its own, and return how many rows it changed."""
        handle = self.handle()
        writers = self.turn()
        try:
            with handle.lock:
                try:
                    connection = self.ready(handle)
                    changed = self.patiently(connection, sql, parameters).rowcount
                    self.save_mark(connection)
                except sqlite3.Error as error:
                    raise self.fault(handle, error) from bare(error)
                return changed
        finally:
            writers.release()

    def transaction(self) -> Transaction:
        """Return a context manager around several statements: BEGIN IMMEDIATE, then COMMIT, or ROLLBACK on an error."""
        return Transaction(self)

    def know(self, queues: set[str]) -> None:
        """Add *queues* to the list of queues that were ever sent to."""
        for queue in queues - self._known_queues:
            self.write(_ADD_QUEUES, (json.dumps([queue]),))
            self._known_queues.add(queue)

    def give_back(self, pages: int) -> None:
        """Return up to *pages* unused pages to the file system, unless others are writing."""
        handle = self.handle()
        writers = self.turn()
        try:
            with handle.lock:
                try:
                    # Not ``execute``, which runs a single step of a statement without columns, so frees one page.
                    self.ready(handle).executescript(f"PRAGMA incremental_vacuum({pages})")
                except sqlite3.Error as error:
                    if not is_busy(error):
                        raise self.fault(handle, error) from bare(error)
        finally:
            writers.release()

    def is_missing(self) -> bool:
        """Return whether the file does not exist yet but could be created."""
        return not os.path.lexists(self.path) and os.access(os.path.dirname(self.path), os.W_OK | os.X_OK)  # noqa: PTH120

    def check(self) -> list[str]:
        """Return problems of the file that an operator should know, one line each."""
        self.read("SELECT 1 FROM meta")
        lines = [*exposures(self.written, self.path), *short_of_room(self.path)]
        if self.is_missing():
            return lines
        mode = Path(self.path).stat().st_mode
        if mode & 0o077:
            lines.append(f"{self.path} can be read by other users; chmod 600 it")
        lead = self.time.ahead()
        if abs(lead) > LARGEST_LEAD:
            where = "ahead of" if lead > 0 else "behind"
            lines.append(
                f"the time of {self.path} is {abs(lead):.0f} s {where} the time of day; eta, expires and schedules are "
                "off by that. If the time of day is right, stop everything that uses the file, then run: "
                f"python -m queuekit.engines.sqlite.settime {shlex.quote(self.path)}"
            )
        return lines

    def close(self) -> None:
        """Close the connections of all threads; a later call opens new ones."""
        self.time.forget()
        for handle in list(self._handles):
            if handle.lock.acquire(timeout=self.patience + 1.0):
                try:
                    handle.close()
                finally:
                    handle.lock.release()

    # -- for transactions too ------------------------------------------------------------------------------------

    def handle(self) -> Handle:
        """Return this thread's handle."""
        try:
            handle: Handle = self._threads.handle
        except AttributeError:
            handle = self._threads.handle = Handle(self.path)
            self._handles.add(handle)
        return handle

    def turn(self) -> threading.Lock:
        """Take this process's turn to write and return the lock to release."""
        lock = self._writers.lock
        if not lock.acquire(blocking=False) and not lock.acquire(timeout=time_left(self.patience + 1.0)):
            raise UnavailableError(f"{self.path} was kept busy by other threads of this process", fix="Call again")
        return lock

    def ready(self, handle: Handle) -> sqlite3.Connection:
        """Return the open connection of *handle*, whose lock the caller holds."""
        return handle.usable() or self._open(handle)

    def patiently(self, connection: sqlite3.Connection, sql: str, parameters: Parameters = ()) -> sqlite3.Cursor:
        """Execute *sql*, retrying while others hold the lock."""
        try:
            return connection.execute(sql, parameters)
        except sqlite3.Error as error:
            if not is_busy(error):
                raise
        deadline = time.monotonic() + time_left(self.patience)
        while True:
            time.sleep(self.random.uniform(*PAUSE))
            try:
                return connection.execute(sql, parameters)
            except sqlite3.Error as error:
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise

    def save_mark(self, connection: sqlite3.Connection) -> None:
        """Store the time, for processes that start after the clock was set back."""
        mark = self.time.mark_to_save()
        if mark is not None:
            self.patiently(connection, _SAVE_MARK, (mark,))

    def fault(self, handle: Handle, error: sqlite3.Error) -> UnavailableError:
        """Return the error to raise for *error*, and let the next call open a new connection."""
        if not is_busy(error):
            handle.close()
        return fault(error, self.path, patience=self.patience)

    def _begin(self) -> None:
        """Open the file, which sets the time; a thread that is at work in it goes on with the time as it was."""
        if self.handle().lock.locked():
            self.time.recall()
        else:
            self.read("SELECT 1")

    def _read_empty(self, sql: str, parameters: Parameters) -> list[Row]:
        """Return the rows of a SELECT on an empty file, created in memory for this call only."""
        with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            layout.prepare(connection.execute, self.path)
            return connection.execute(sql, parameters).fetchall()

    def _open(self, handle: Handle) -> sqlite3.Connection:
        if self._private and (found := exposures(self.written, self.path)):
            fix = "Put it into a folder of its own (chmod 700), or turn private off"
            raise UnavailableError(found[0], fix=fix, passing=False)
        connection = handle.open()
        try:
            layout.prepare(lambda sql: self.patiently(connection, sql), self.path)
            self._check_shared(connection)
            connection.execute(f"PRAGMA synchronous = {self._sync}")
            # Some systems overwrite all that is deleted, so that the end of a large message writes as much as its send.
            connection.execute("PRAGMA secure_delete = FAST")
            connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_BYTES // layout.PAGE}")
            self.time.follow(self._anchor(connection))
        except BaseException:
            handle.close()
            raise
        if handle.replaced:
            # A new file lacks the queues that are in use: add them again.
            self.patiently(connection, _ADD_QUEUES, (json.dumps(sorted(self._known_queues)),))
            handle.replaced = False
        return connection

    def _anchor(self, connection: sqlite3.Connection) -> Anchor:
        """Return the anchor of the file's time; after another boot, write a new one and end all leases."""
        anchor = Anchor.read(dict(self.patiently(connection, _TIMES).fetchall()).get("clock"))
        if anchor is not None and self.time.holds(anchor):
            return anchor
        try:
            self.patiently(connection, "BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != READONLY:
                raise
            return self.time.anchor(_mark(dict(connection.execute(_TIMES).fetchall())))
        try:
            anchor = self._begin_boot(connection)
            self.patiently(connection, "COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
            raise
        return anchor

    def _begin_boot(self, connection: sqlite3.Connection) -> Anchor:
        """Store a new anchor, unless another process has just done so."""
        times = dict(connection.execute(_TIMES).fetchall())
        before = Anchor.read(times.get("clock"))
        if before is not None and self.time.holds(before):
            return before
        anchor = self.time.anchor(_mark(times))
        if before is not None and anchor.boot == OF_A_TEST != before.boot:
            return anchor  # a test's clock must not end the leases of others
        connection.execute(_SAVE_CLOCK, (str(anchor),))
        if before is not None:
            connection.execute(_END_LEASES, (anchor.offset + anchor.seen,))
        return anchor

    def _check_shared(self, connection: sqlite3.Connection) -> None:
        """Raise if the file system does not let several processes use the file at once."""
        ((mode,),) = self.patiently(connection, "PRAGMA journal_mode = WAL").fetchall()
        if mode != "wal":
            raise UnavailableError(
                f"{self.path} cannot be shared: SQLite's write-ahead log does not work there, only mode {mode!r}",
                fix="Put it on a local disk",
                passing=False,
            )


def _mark(times: Mapping[str, object]) -> float:
    """Return the last time stored in the file."""
    mark = times.get("mark")
    return float(mark) if isinstance(mark, int | float) else float("-inf")


class Transaction:
    """Several statements in one step. It takes the write lock first, so that no later statement can fail for it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> Self:
        database = self._database
        self._handle = database.handle()
        self._writers = database.turn()
        self._handle.lock.acquire()
        try:
            self._connection = database.ready(self._handle)
            database.patiently(self._connection, "BEGIN IMMEDIATE")
        except BaseException as error:
            self._leave()
            if isinstance(error, sqlite3.Error):
                raise database.fault(self._handle, error) from bare(error)
            raise
        return self

    def read(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Return all rows of a SELECT."""
        return self._connection.execute(sql, parameters).fetchall()

    def write(self, sql: str, parameters: Parameters = ()) -> int:
        """Execute a statement and return how many rows it changed."""
        return self._connection.execute(sql, parameters).rowcount

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._commit()
            else:
                self._undo()
        except sqlite3.Error as failure:
            self._undo()
            raise self._database.fault(self._handle, failure) from bare(failure)
        finally:
            self._leave()
        if isinstance(error, sqlite3.Error):
            raise self._database.fault(self._handle, error) from bare(error)

    def _commit(self) -> None:
        self._database.save_mark(self._connection)
        self._database.patiently(self._connection, "COMMIT")

    def _undo(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.rollback()

    def _leave(self) -> None:
        self._handle.lock.release()
        self._writers.release()


class _WriterLock:
    """Lets the threads of one process queue for a file without sleeping."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


_writers: weakref.WeakValueDictionary[str, _WriterLock] = weakref.WeakValueDictionary()


def _renew_locks() -> None:
    """Create new locks in a child process, since threads of the parent may hold the old ones."""
    for writers in list(_writers.values()):
        writers.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
