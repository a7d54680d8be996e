"""Find, count and cut the connections of this process, whatever client library opened them."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from queuekit.clock import SystemClock

__all__ = ["DAY", "CutAfter", "Leftovers", "SteadyClock", "a_day_ahead", "cut", "off_by", "open_connections"]

_FILES = Path("/dev/fd")
"""Folder that lists the open files of this process, on Linux and macOS."""
DAY = 86_400.0
"""Seconds by which tests set a clock wrong."""
_REAL = time.time
_ROUNDS = 3
"""Tries, of which one must leave nothing: SQLite, for example, keeps files open for reuse."""
_LOOK = 0.005


class SteadyClock:
    """The machine's clock, which no test sets wrong. It stands for the clock of a result backend."""

    def __init__(self) -> None:
        machine = SystemClock()
        self.monotonic, self.sleep, self.wait = machine.monotonic, machine.sleep, machine.wait

    def time(self) -> float:
        """Return UTC epoch seconds."""
        return _REAL()


def open_connections() -> set[int]:
    """Return the inode numbers of this process's stream sockets that have a peer with an address."""
    return {number for number, _ in _connections()}


def cut(known: Collection[int] = ()) -> int:
    """Cut all connections of this process except *known*, while their users still use them, as a network failure does.

    Returns:
        The number of connections cut.
    """
    ended = 0
    for number, connection in _connections():
        if number not in known:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
                ended += 1
    return ended


class CutAfter:
    """Ends all connections of this process as soon as so many writes have gone over them, while it is entered.

    Args:
        writes: How many; those of any thread count.
        known: Connections that are left alone.
    """

    def __init__(self, writes: int, *, known: Collection[int] = ()) -> None:
        self._left = writes
        self._known = known
        self._lock = threading.Lock()
        self._patch = pytest.MonkeyPatch()
        self.happened = False
        """Whether there were so many writes."""

    def __enter__(self) -> Self:
        for kind in (socket.socket, ssl.SSLSocket):
            for name in ("send", "sendall", "sendmsg"):
                if name in vars(kind) or kind is socket.socket:
                    self._patch.setattr(kind, name, self._counted(getattr(kind, name)), raising=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

    def _counted(self, write: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(write)
        def counted(connection: socket.socket, *args: Any, **kwargs: Any) -> Any:
            done = write(connection, *args, **kwargs)
            if _has_peer(connection):
                self._count()
            return done

        return counted

    def _count(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left != 0:
                return
        self.happened = cut(self._known) > 0


def _has_peer(connection: socket.socket) -> bool:
    """Return whether this is a connection to a service, and not the pair of a pipe."""
    with contextlib.suppress(OSError):
        return connection.type == socket.SOCK_STREAM and bool(connection.getpeername())
    return False


def _connections() -> Iterator[tuple[int, socket.socket]]:
    """Yield the inode number and a duplicate of each connection, without the socket pairs that threads wake by."""
    for fd in _open_files():
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            with socket.socket(fileno=os.dup(fd)) as duplicate:
                if duplicate.type == socket.SOCK_STREAM and duplicate.getpeername():
                    yield os.fstat(duplicate.fileno()).st_ino, duplicate


def _open_files() -> list[int]:
    """Return the descriptors of all open files of this process; none if the system does not list them."""
    return [int(entry.name) for entry in _FILES.iterdir()] if _FILES.is_dir() else []


class Leftovers:
    """The threads and open files added to this process since this object was made."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._files = len(_open_files())

    def found(self) -> list[str]:
        """Return a line for each new thread, and one if more files are open than before."""
        lines = [f"thread {thread.name!r}" for thread in threading.enumerate() if thread not in self._threads]
        more = len(_open_files()) - self._files
        return [*lines, f"{more} open files or connections"] if more > 0 else lines

    @classmethod
    def of(cls, use: Callable[[], object], *, timeout: float) -> list[str]:
        """Return what each *use* leaves after *timeout* seconds, without what the first use creates and shares."""
        use()
        found: list[str] = []
        for _ in range(_ROUNDS):
            before = cls()
            for _ in range(3):
                use()
            found = before._lasting(timeout)
            if not found:
                break
        return found

    def _lasting(self, timeout: float) -> list[str]:
        """Return what is left after *timeout* seconds, or an empty list as soon as nothing is left."""
        deadline = time.monotonic() + timeout
        while True:
            gc.collect()
            found = self.found()
            if not found or time.monotonic() >= deadline:
                return found
            time.sleep(_LOOK)


@contextlib.contextmanager
def a_day_ahead() -> Iterator[None]:
    """Set this process's wall clock a day ahead, for the clients that are made and used inside."""
    with off_by(DAY):
        yield


@contextlib.contextmanager
def off_by(seconds: float) -> Iterator[None]:
    """Set this process's wall clock *seconds* ahead, for the clients that are made and used inside."""
    real = time.time

    def wrong() -> float:
        return real() + seconds

    # Core's clock holds a reference to the function, so it is patched too.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", wrong)
        patch.setattr(SystemClock, "time", staticmethod(wrong))
        yield
