"""A pool of connections to one server, for plugins whose client library has none that survives a fork."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Generic, TypeVar

from queuekit.errors import UnavailableError
from queuekit.forks import renew_in_forks
from queuekit.timelimit import time_left
from queuekit.values import frozen

__all__ = ["Pool"]

T = TypeVar("T")

_of_parents: list[object] = []
"""Connections that belong to a parent process. They are kept, since a finalizer might tell the server goodbye."""


@frozen
class _Lent(Generic[T]):
    connection: T
    forks: int
    """Number of forks of the pool when it was lent."""
    closings: int
    """Number of times that the pool had been closed when it was lent."""


class Pool(Generic[T]):
    """Up to *size* connections, opened on demand and kept for reuse; may be used from several threads.

    A fork begins with an empty pool and leaves the connections of its parent alone. ::

        pool = Pool(connect, close=Connection.close, size=16, timeout=5.0, to="example://host")
        with pool.lend() as connection:
            connection.call(...)

    Args:
        open: Opens a connection. It limits itself to :func:`queuekit.timelimit.time_left`.
        close: Closes one; its errors are ignored.
        size: Most connections at a time.
        timeout: Seconds to wait for a connection if all are in use; less if the caller has less time left.
        to: What the connections lead to, for errors; without a password.
        is_stale: Returns whether the server has closed an idle connection, so that it must not be lent.
    """

    def __init__(
        self,
        open: Callable[[], T],  # noqa: A002 - the word that a reader expects beside `close`
        *,
        close: Callable[[T], object],
        size: int,
        timeout: float,
        to: str,
        is_stale: Callable[[T], bool] | None = None,
    ) -> None:
        if size < 1:
            raise ValueError(f"a pool has at least one connection, not {size}")
        self._open = open
        self._close = close
        self._size = size
        self._timeout = timeout
        self._to = to
        self._is_stale = is_stale
        self._forks = 0
        self._idle: deque[T] = deque()
        self._begin()
        renew_in_forks(self)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._lent = 0
        self._closings = 0
        self._interrupts = 0

    def renew_in_fork(self) -> None:
        """Begin anew, without the connections of the parent."""
        self._forks += 1
        _of_parents.extend(self._idle)
        self._idle = deque()
        self._begin()

    @contextmanager
    def lend(self) -> Iterator[T]:
        """Lend a connection for a ``with`` block.

        If the block raises, the connection is closed, since an answer may still be on its way. After a
        ``ConnectionError`` or another ``OSError``, so are the idle ones, which are probably broken as well.

        Raises:
            UnavailableError: All connections are in use for as long as the caller can wait, or :meth:`interrupt` was
                called meanwhile.
        """
        lent = self._take()
        try:
            yield lent.connection
        except BaseException as error:
            self._take_back(lent, broken=True)
            if isinstance(error, OSError):
                self._close_idle()
            raise
        self._take_back(lent, broken=False)

    def interrupt(self) -> None:
        """End the waits of other threads for a connection; each raises ``UnavailableError``."""
        with self._changed:
            self._interrupts += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Close the idle connections now and the others when they come back; may be called twice.

        The pool can still be used: it opens new connections.
        """
        with self._changed:
            self._closings += 1
        self._close_idle()

    def _take(self) -> _Lent[T]:
        with self._changed:
            self._wait_for_place()
            self._lent += 1
            forks, closings = self._forks, self._closings
            idle = [self._idle.pop()] if self._idle else []
        try:
            for connection in idle:
                if self._is_usable(connection):
                    return _Lent(connection, forks, closings)
                self._discard(connection)
            return _Lent(self._open(), forks, closings)
        except BaseException:
            self._free_place(forks)
            raise

    def _is_usable(self, connection: T) -> bool:
        try:
            return self._is_stale is None or not self._is_stale(connection)
        except BaseException:
            self._discard(connection)
            raise

    def _wait_for_place(self) -> None:
        """Wait until fewer than all connections are lent; the caller holds the lock."""
        if self._lent < self._size:
            return
        end = monotonic() + time_left(self._timeout)
        interrupts = self._interrupts
        while self._lent >= self._size:
            if self._interrupts != interrupts:
                raise UnavailableError(f"the wait for a connection to {self._to} was interrupted")
            left = end - monotonic()
            if left <= 0:
                what = f"all {self._size} connections to {self._to} are in use"
                raise UnavailableError(what, fix="Raise the number of connections, or use fewer threads")
            self._changed.wait(left)

    def _take_back(self, lent: _Lent[T], *, broken: bool) -> None:
        if lent.forks != self._forks:
            _of_parents.append(lent.connection)
            return
        with self._changed:
            kept = not broken and lent.closings == self._closings
            if kept:
                self._idle.append(lent.connection)
        if not kept:
            self._discard(lent.connection)
        self._free_place(lent.forks)

    def _free_place(self, forks: int) -> None:
        if forks == self._forks:
            with self._changed:
                self._lent -= 1
                self._changed.notify()

    def _close_idle(self) -> None:
        with self._changed:
            idle, self._idle = self._idle, deque()
        for connection in idle:
            self._discard(connection)

    def _discard(self, connection: T) -> None:
        with suppress(Exception):
            self._close(connection)
