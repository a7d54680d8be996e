"""Being woken: one thread a process follows a change stream while somebody waits, and tells those whom it concerns.

A change is a hint and nothing more: whoever waits looks after the stream is open and before blocking, and now and then
in any case. Where there are no change streams, or the stream breaks, those who wait look again and again, at first
often and then less.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from pymongo.errors import OperationFailure, PyMongoError

from queuekit.errors import QueuekitError
from queuekit_mongo.failures import NO_STREAMS

__all__ = ["Bell", "Ear", "Stream"]

POLLING = (0.01, 0.075)
"""Seconds between two looks where there is no stream: the first, and the longest while there was something lately."""
SLUMBER = 0.3
"""Seconds between two looks where there is no stream and was nothing for long: a look costs a millisecond of CPU."""
QUIET = 10.0
"""Seconds after which that is long."""
LONGEST_SLEEP = 5.0
"""Seconds after which a waiter looks without having been called."""
LINGER = 0.25
"""Seconds that a stream is kept while nobody waits: whoever takes a message soon waits for the next."""
OPENING = 1.0
"""Seconds to wait for a stream to open; meanwhile nothing is missed, as it is looked for after that."""
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


class Bell:
    """The stream of one process, and who listens.

    Args:
        available: Tells whether there are change streams.
        follow: Opens one.
        name_of: Returns what a change is about, in the words that listeners use; empty for nobody.
    """

    def __init__(
        self, *, available: Callable[[], bool], follow: Callable[[], Stream], name_of: Callable[[Any], str]
    ) -> None:
        self._available = available
        self._follow = follow
        self._name_of = name_of
        self._useless = False
        self._interrupts = self._heard = 0
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._ears: set[Ear] = set()
        self._thread: threading.Thread | None = None
        self._open = False
        self._closed = False

    def _of_this_process(self) -> None:
        """In a child, leave thread and lock to the parent: whoever holds that is not there to let it go."""
        if self._pid != os.getpid():
            self._start()

    def listen(self, names: Sequence[str], *, since: float | None = None) -> Ear:
        """Return an ear for changes about *names*, to be used as a context manager.

        Args:
            names: What to hear about.
            since: Monotonic seconds since which there was nothing; default: now.
        """
        self._of_this_process()
        return Ear(self, frozenset(names), since=time.monotonic() if since is None else since)

    def interrupt(self) -> None:
        """Make those who listen in this process return; if there are none, the next one."""
        self._of_this_process()
        with self._changed:
            self._interrupts += 1
            for ear in self._ears:
                ear.poke()

    def interrupts(self) -> int:
        """Return how many interrupts have been obeyed; hand it to :meth:`interrupted`."""
        return self._heard

    def interrupted(self, heard: int) -> bool:
        """Tell whether there was an interrupt since *heard*, and note that it is obeyed."""
        if self._interrupts == heard:
            return False
        self._heard = self._interrupts
        return True

    def close(self) -> None:
        """Wake all and end the thread; listening again begins another."""
        self.interrupt()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def streams(self) -> bool:
        """Whether a stream is open, so that who listens need not look by itself."""
        return self._open

    def join(self, ear: Ear) -> None:
        """Count *ear* among those to be called, and wait for the stream to be open if there can be one."""
        with self._changed:
            self._ears.add(ear)
            if self._useless or not self._available():
                return
            self._closed = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="queuekit-mongo-stream", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._open or self._useless, OPENING)

    def leave(self, ear: Ear) -> None:
        """Undo :meth:`join`."""
        with self._changed:
            self._ears.discard(ear)

    def _run(self) -> None:
        while self._is_wanted(None):
            try:
                stream = self._follow()
                try:
                    self._tell(is_open=True)
                    self._ring_while_wanted(stream)
                finally:
                    self._tell(is_open=False)
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

    def _ring_while_wanted(self, stream: Stream) -> None:
        while self._is_wanted(LINGER):
            change = stream.try_next()
            if change is not None:
                self._ring(self._name_of(change))
            elif not stream.alive:
                raise PyMongoError("the stream has ended")  # somebody dropped the collection

    def _is_wanted(self, patience: float | None) -> bool:
        """Wait until somebody listens, at most *patience* seconds; false if nobody does, or all is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._ears or self._closed, patience)
            return bool(self._ears) and not self._closed

    def _ring(self, name: str) -> None:
        with self._changed:
            for ear in self._ears:
                if name in ear.names:
                    ear.poke()

    def _tell(self, *, is_open: bool) -> None:
        with self._changed:
            self._open = is_open
            self._changed.notify_all()
            for ear in self._ears:
                ear.poke()  # what came while the stream was closed is looked for now

    def _pause(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, BROKEN)


class Ear:
    """What one waiting thread listens with.

    Args:
        bell: Whose calls.
        names: What it wants to hear about.
        since: Monotonic seconds since which there was nothing.
    """

    def __init__(self, bell: Bell, names: frozenset[str], *, since: float) -> None:
        self.names = names
        self._bell = bell
        self._poked = threading.Event()
        self._slumbers_at = since + QUIET
        self._pause = SLUMBER if time.monotonic() >= self._slumbers_at else POLLING[0]

    def __enter__(self) -> Self:
        self._bell.join(self)
        self._poked.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bell.leave(self)

    def wait(self, timeout: float) -> bool:
        """Block until called, for at most *timeout* seconds; tell whether it was called. Look again in any case."""
        if self._bell.streams:
            timeout = min(timeout, LONGEST_SLEEP)
        else:
            timeout = min(timeout, self._pause)
            longest = SLUMBER if time.monotonic() >= self._slumbers_at else POLLING[1]
            self._pause = min(self._pause * 1.5, longest)
        called = self._poked.wait(timeout)
        self._poked.clear()
        return called

    def poke(self) -> None:
        """End a wait in another thread."""
        self._poked.set()
