"""Connections: opened at first use, anew after a fork, kept for the next call, dropped when they break."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import attrs
import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row
from queuekit.durations import Seconds
from queuekit.errors import UnavailableError
from queuekit.urls import EngineURL

from queuekit_postgres.schema import CREATE

__all__ = ["Cursor", "Database", "PostgresOptions", "clean"]

T = TypeVar("T")
Connection = psycopg.Connection[DictRow]
Cursor = psycopg.Cursor[DictRow]

_LOCK = 7_184_502
"""Advisory lock under which tables are made, so that two newcomers do not collide."""
_TRIES = 8
_IDLE = 8
"""Most connections that are kept for the next call."""
_LONGEST_LOOK = 5.0
"""Seconds after which a wait looks by itself."""
_left_behind: list[Connection] = []
"""Connections of a parent process: neither used nor closed here, since the socket is the parent's as well."""


@attrs.frozen(kw_only=True)
class PostgresOptions:
    """Options of the URL's query and of the config table ``[postgresql]``."""

    timeout: Seconds = attrs.field(default=5.0, validator=attrs.validators.gt(0))
    """Seconds without an answer after which a call raises UnavailableError."""
    schema: str = attrs.field(default="queuekit", validator=attrs.validators.matches_re(r"[a-z_][a-z0-9_]{0,40}"))
    """Schema of the tables: two apps with different ones do not see each other."""


def clean(text: str | None) -> str | None:
    """Return *text* as PostgreSQL can hold it: without NUL and without halves of characters."""
    return None if text is None else text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


class Database:
    """One database, for any number of threads."""

    def __init__(self, url: EngineURL, options: PostgresOptions) -> None:
        self._url = url
        self._options = options
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._closings = 0
        """How often it was closed: a connection that was lent before is not kept."""
        self._made = False
        self.name = f"postgresql:{','.join(url.hosts)}{url.path}:{options.schema}"
        self.channel = options.schema

    # -- calls ---------------------------------------------------------------------------------------------------

    def run(self, step: Callable[[Cursor], T]) -> T:
        """Return what *step* returns, done in one transaction; again from the start if it met another one."""
        for attempt in range(_TRIES):
            try:
                with self.connection() as connection, connection.transaction(), connection.cursor() as cursor:
                    return step(cursor)
            except UnavailableError as error:
                # A connection that lay idle may have died with its server: all of them have, then.
                self.close()
                if attempt or not isinstance(error.__cause__, psycopg.OperationalError | psycopg.InterfaceError):
                    raise
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                if attempt == _TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection; it comes back unless it broke."""
        connection, closings = self._take(), self._closings
        try:
            yield connection
        except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
            raise
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            with suppress(psycopg.Error):
                connection.close()
            raise self._unavailable(error) from error
        finally:
            self._give_back(connection, closings)

    def close(self) -> None:
        """Close what is not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._closings += 1
        for connection in idle:
            if self._pid == os.getpid():
                connection.close()
            else:
                _left_behind.append(connection)

    # -- waiting -------------------------------------------------------------------------------------------------

    def wait(self, look: Callable[[Cursor], tuple[T, float | None]], topics: set[str], timeout: float) -> T | None:
        """Return the first thing that *look* finds, looking again when one of *topics* is told of.

        Args:
            look: Returns what there is, and the seconds until there may be something by itself.
            topics: What :func:`tell` may say; an empty one wakes everybody.
            timeout: Seconds to look for.
        """
        deadline = time.monotonic() + timeout
        found, soon = self.run(look)
        if found or timeout <= 0:
            return found
        with self.connection() as connection:
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self.channel)))
            try:
                while True:
                    found, soon = self.run(look)
                    left = deadline - time.monotonic()
                    if found or left <= 0:
                        return found
                    pause = min(left, _LONGEST_LOOK, max(soon, 0.001) if soon is not None else left)
                    self._hear(connection, topics, pause)
            finally:
                if not connection.closed:
                    connection.execute("UNLISTEN *")
                    for _ in connection.notifies(timeout=0):
                        pass

    def _hear(self, connection: Connection, topics: set[str], pause: float) -> None:
        """Wait until one of *topics* is told of, at most *pause* seconds."""
        end = time.monotonic() + pause
        while (left := end - time.monotonic()) > 0:
            heard = {notify.payload for notify in connection.notifies(timeout=left, stop_after=1)}
            if heard & topics:
                return

    def tell(self, cursor: Cursor, topics: set[str]) -> None:
        """Wake, once the transaction of *cursor* is done, who waits for one of *topics*."""
        for topic in sorted(topics):
            cursor.execute("SELECT pg_notify(%s, %s)", (self.channel, topic))

    # -- connections ---------------------------------------------------------------------------------------------

    def _take(self) -> Connection:
        if self._pid != os.getpid():
            _left_behind.extend(self._idle)
            self._pid, self._lock, self._idle = os.getpid(), threading.Lock(), []
        with self._lock:
            if self._idle:
                return self._idle.pop()
        try:
            return self._open()
        except psycopg.Error as error:
            raise self._unavailable(error) from error

    def _give_back(self, connection: Connection, closings: int) -> None:
        if connection.closed or connection.broken:
            connection.close()
            return
        with self._lock:
            if len(self._idle) < _IDLE and closings == self._closings:
                self._idle.append(connection)
                return
        connection.close()

    def _open(self) -> Connection:
        hosts = [host.rpartition(":") if ":" in host else (host, "", "5432") for host in self._url.hosts]
        milliseconds = int(self._options.timeout * 1000)
        connection = psycopg.connect(
            host=",".join(host for host, _, _ in hosts) or None,
            port=",".join(port for _, _, port in hosts) or None,
            user=self._url.username,
            password=self._url.password,
            dbname=self._url.path.strip("/") or None,
            connect_timeout=max(2, round(self._options.timeout)),
            options=f"-c search_path={self._options.schema} -c statement_timeout={milliseconds}",
            application_name="queuekit",
            autocommit=True,
            row_factory=dict_row,
        )
        try:
            self._make_tables(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_tables(self, connection: Connection) -> None:
        """Make the tables, unless they are there: even IF NOT EXISTS locks tables that others write to."""
        if self._made:
            return
        last = connection.execute("SELECT to_regclass(%s) AS found", (f"{self._options.schema}.member",)).fetchone()
        if last is None or last["found"] is None:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                name = sql.Identifier(self._options.schema)
                connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))
                connection.execute(CREATE)
        self._made = True

    def _unavailable(self, error: Exception) -> UnavailableError:
        text = " ".join(self._url.hide(str(error)).split())
        return UnavailableError(f"PostgreSQL at {','.join(self._url.hosts) or 'localhost'} did not answer: {text}")

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a database is opened anew in each process")
