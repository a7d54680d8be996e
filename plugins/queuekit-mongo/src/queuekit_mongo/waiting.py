"""Notify waiting threads: one thread per process follows a change stream while there are listeners.

A change is only a hint: a waiter polls once the stream is open, before it blocks, and now and then in any case. Without
change streams, or when the stream breaks, waiters poll, first often and then less often.
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
"""Seconds between two polls without a stream: the first pause, and the longest after recent messages."""
SLUMBER = 0.3
"""Seconds between two polls without a stream after a long time without messages; a poll costs 1 ms of CPU."""
QUIET = 10.0
"""Seconds without messages that count as a long time."""
LONGEST_SLEEP = 5.0
"""Seconds after which a waiter polls without a notification."""
LINGER = 0.25
"""Seconds that a stream is kept without listeners: a worker that gets a message soon waits for the next."""
OPENING = 1.0
"""Seconds to wait for a stream to open; nothing is missed meanwhile, since waiters poll afterwards."""
BROKEN = 1.0
"""Seconds before a broken stream is opened again."""


class Stream(Protocol):
    """The part of a change stream that this module uses."""

    @property
    def alive(self) -> bool:
        """Whether another change may follow; false after the collection was dropped."""
        ...

    def try_next(self) -> Any:
        """Return the next change, or ``None`` after a while without one."""
        ...

    def close(self) -> None:
        """Close the stream."""
        ...


class Notifier:
    """The stream of one process, and its listeners.

    Args:
        available: Returns whether change streams can be used.
        follow: Opens a change stream.
        name_of: Returns the name to notify for a change; empty for an irrelevant change.
    """

    def __init__(
        self, *, available: Callable[[], bool], follow: Callable[[], Stream], name_of: Callable[[Any], str]
    ) -> None:
        self._available = available
        self._follow = follow
        self._name_of = name_of
        self._useless = False
        self.interrupts = Interrupts()
        """Interrupt the waits of this process."""
        self.renew_in_fork()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Replace thread and lock: the fork has no thread that would release the lock."""
        self._changed = threading.Condition()
        self._listeners: set[Listener] = set()
        self._thread: threading.Thread | None = None
        self._open = False
        self._closed = False

    def listen(self, names: Sequence[str], *, since: float | None = None) -> Listener:
        """Return a listener for changes of *names*; use it as a context manager.

        Args:
            names: Names to listen for.
            since: Monotonic time of the last change; default: now.
        """
        return Listener(self, frozenset(names), since=time.monotonic() if since is None else since)

    def close(self) -> None:
        """Wake all waiters and end the thread; a later listener starts another."""
        self.interrupts.interrupt()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def streams(self) -> bool:
        """Whether a stream is open, so that listeners need not poll."""
        return self._open

    def join(self, listener: Listener) -> None:
        """Register *listener*, and wait for the stream to open, if there can be one."""
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
                listener.wake()  # let it poll for changes that the closed stream missed

    def _pause(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, BROKEN)


class Listener:
    """Receives notifications for one waiting thread.

    Args:
        notifier: The notifier to register with.
        names: Names to listen for.
        since: Monotonic time of the last change.
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
        """Block for at most *timeout* seconds; return whether a notification came. Poll again in either case."""
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
        """End the wait of the waiting thread."""
        self._woken.set()
