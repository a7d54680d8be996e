"""Wakes waiting threads: one thread per process follows a change stream while there are listeners, and notifies them.

A change is only a hint: a waiter polls after the stream is open and before it blocks, and now and then in any case.
Where there are no change streams, or the stream breaks, waiters poll, at first often and then less.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from pymongo.errors import OperationFailure, PyMongoError

from queuekit.errors import QueuekitError
from queuekit.forks import renew_in_forks
from queuekit.interrupts import Interrupts
from queuekit_mongo.failures import NO_STREAMS

__all__ = ["Listener", "Notifier", "Stream"]

POLLING = (0.01, 0.075)
"""Seconds between two polls without a stream: the first, and the longest while there were messages lately."""
SLUMBER = 0.3
"""Seconds between two polls without a stream and without messages for long: a poll costs a millisecond of CPU."""
QUIET = 10.0
"""Seconds without messages that count as long."""
LONGEST_SLEEP = 5.0
"""Seconds after which a waiter polls without having been notified."""
LINGER = 0.25
"""Seconds that a stream is kept without listeners: a worker that takes a message soon waits for the next."""
OPENING = 1.0
"""Seconds to wait for a stream to open; meanwhile nothing is missed, as waiters poll after that."""
BROKEN = 1.0
"""Seconds before a broken stream is opened again."""


class Stream(Protocol):
    """A change stream, as far as it is used here."""

    @property
    def alive(self) -> bool:
        """Whether there can be another change; none after the collection is gone."""
        ...

    def try_next(self) -> Any:
        """Return the next change, or ``None`` after a while without one."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Notifier:
    """The stream of one process, and its listeners.

    Args:
        available: Returns whether there are change streams.
        follow: Opens one.
        name_of: Returns what a change is about, as listeners name it; empty for a change of no interest.
    """

    def __init__(
        self, *, available: Callable[[], bool], follow: Callable[[], Stream], name_of: Callable[[Any], str]
    ) -> None:
        self._available = available
        self._follow = follow
        self._name_of = name_of
        self._useless = False
        self.interrupts = Interrupts()
        """Wake the waits of this process."""
        self.renew_in_fork()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Leave thread and lock to the parent: their holder is not there to release them."""
        self._changed = threading.Condition()
        self._listeners: set[Listener] = set()
        self._thread: threading.Thread | None = None
        self._open = False
        self._closed = False

    def listen(self, names: Sequence[str], *, since: float | None = None) -> Listener:
        """Return a listener for changes about *names*, to be used as a context manager.

        Args:
            names: What to listen for.
            since: Monotonic seconds since which there was nothing; default: now.
        """
        return Listener(self, frozenset(names), since=time.monotonic() if since is None else since)

    def close(self) -> None:
        """Wake all and end the thread; listening again begins another."""
        self.interrupts.interrupt()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def streams(self) -> bool:
        """Whether a stream is open, so that listeners need not poll."""
        return self._open

    def join(self, listener: Listener) -> None:
        """Register *listener*, and wait for the stream to be open if there can be one."""
        self.interrupts.join(listener)
        with self._changed:
            self._listeners.add(listener)
            if self._useless or not self._available():
                return
            self._closed = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="queuekit-mongo-stream", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._open or self._useless, OPENING)

    def leave(self, listener: Listener) -> None:
        """Undo :meth:`join`."""
        self.interrupts.leave(listener)
        with self._changed:
            self._listeners.discard(listener)

    def _run(self) -> None:
        while self._is_wanted(None):
            try:
                stream = self._follow()
                try:
                    self._set_open(is_open=True)
                    self._notify_while_wanted(stream)
                finally:
                    self._set_open(is_open=False)
                    stream.close()
            except OperationFailure as error:
                if error.code in NO_STREAMS:
                    self._useless = True
                    break
                self._pause()
            except (PyMongoError, QueuekitError):
                self._pause()
        with self._changed:
            self._thread = None
            self._changed.notify_all()

    def _notify_while_wanted(self, stream: Stream) -> None:
        while self._is_wanted(LINGER):
            change = stream.try_next()
            if change is not None:
                self._notify(self._name_of(change))
            elif not stream.alive:
                raise PyMongoError("the stream has ended")  # the collection was dropped

    def _is_wanted(self, patience: float | None) -> bool:
        """Wait for a listener, at most *patience* seconds; return false without one, or after :meth:`close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._listeners or self._closed, patience)
            return bool(self._listeners) and not self._closed

    def _notify(self, name: str) -> None:
        with self._changed:
            for listener in self._listeners:
                if name in listener.names:
                    listener.wake()

    def _set_open(self, *, is_open: bool) -> None:
        with self._changed:
            self._open = is_open
            self._changed.notify_all()
            for listener in self._listeners:
                listener.wake()  # changes while the stream was closed are polled for now

    def _pause(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, BROKEN)


class Listener:
    """Listens for one waiting thread.

    Args:
        notifier: Where to register.
        names: What it listens for.
        since: Monotonic seconds since which there was nothing.
    """

    def __init__(self, notifier: Notifier, names: frozenset[str], *, since: float) -> None:
        self.names = names
        self._notifier = notifier
        self._woken = threading.Event()
        self._slumbers_at = since + QUIET
        self._pause = SLUMBER if time.monotonic() >= self._slumbers_at else POLLING[0]

    def __enter__(self) -> Self:
        self._notifier.join(self)
        self._woken.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._notifier.leave(self)

    def wait(self, timeout: float) -> bool:
        """Block until notified, for at most *timeout* seconds, and return whether it was; poll again in any case."""
        if self._notifier.streams:
            timeout = min(timeout, LONGEST_SLEEP)
        else:
            timeout = min(timeout, self._pause)
            longest = SLUMBER if time.monotonic() >= self._slumbers_at else POLLING[1]
            self._pause = min(self._pause * 1.5, longest)
        notified = self._woken.wait(timeout)
        self._woken.clear()
        return notified

    def wake(self) -> None:
        """End a wait in another thread."""
        self._woken.set()
