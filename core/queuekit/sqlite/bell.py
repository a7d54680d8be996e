"""Waking those who wait, in other processes as well: named pipes beside the database.

A sender writes one byte, after its commit, to the pipe of the queue; whoever waits for the queue polls the pipe, and
looks into the database when it can be read. The byte is a hint and nothing more: a waiter looks after it has begun to
listen and before it blocks, and once a second in any case.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import stat
import threading
import time
import zlib
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import quote

__all__ = ["LONGEST_SLEEP", "Bell", "Ear"]

LONGEST_SLEEP = 1.0
"""Seconds after which a waiter looks without having been called."""
POLLING = (0.05, 0.5)
"""Seconds between two looks where there are no named pipes: the first, and the longest."""
MOST_PIPES = 200
"""Pipes that a sender keeps open."""
MOST_KEYS = 16
"""A waiter for more records than these is woken by any."""
ANY = "any"


class Bell:
    """The pipes of one database.

    Args:
        directory: Where they are; made when first needed.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._results = os.path.join(directory, "results")  # noqa: PTH118 - paths as text
        self._lock = threading.Lock()
        self._pipes: dict[str, int] = {}
        self._pid = os.getpid()
        self._ears: set[Ear] = set()
        self._interrupts = 0
        self._heard = 0

    def ring(self, queues: Iterable[str]) -> None:
        """Wake those who wait for messages of *queues*; call it after the commit."""
        with self._lock_of_this_process():
            for queue in queues:
                with contextlib.suppress(OSError):  # a full pipe wakes as well, and without one they look by themselves
                    os.write(self._pipes.get(queue) or self._open(queue), b"!")

    def listen(self, queues: Iterable[str]) -> Ear:
        """Return an ear for *queues*, to be used as a context manager."""
        return Ear(self, [self._path_of(queue) for queue in queues])

    def ring_results(self, keys: Sequence[str]) -> None:
        """Wake those who wait for one of the final records *keys*; call it after the commit."""
        with contextlib.suppress(OSError):
            names = os.listdir(self._results)  # noqa: PTH208 - on the way of every commit
            if names:
                marks = {ANY, *map(_mark, keys)}
                for name in names:
                    if not marks.isdisjoint(name.split("-")):
                        _call(os.path.join(self._results, name))  # noqa: PTH118

    def listen_results(self, keys: Sequence[str]) -> Ear:
        """Return an ear for the final records *keys*, to be used as a context manager."""
        marks = "-".join(sorted({_mark(key) for key in keys})) if len(keys) <= MOST_KEYS else ANY
        name = f"{os.getpid()}.{threading.get_ident()}.{time.monotonic_ns()}-{marks}"
        return Ear(self, [os.path.join(self._results, name)], temporary=True)  # noqa: PTH118

    def interrupt(self) -> None:
        """Wake those who listen in this process and have them return; if there are none, the next one."""
        with self._lock_of_this_process():
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
        """Close the pipes that this process writes to."""
        with self._lock_of_this_process():
            self._close_pipes()

    def join(self, ear: Ear) -> None:
        """Count *ear* among those that an interrupt pokes."""
        with self._lock_of_this_process():
            self._ears.add(ear)

    def leave(self, ear: Ear) -> None:
        """Undo :meth:`join`."""
        with self._lock_of_this_process():
            self._ears.discard(ear)

    def _lock_of_this_process(self) -> threading.Lock:
        """Return the lock; in a child, first forget what belongs to the parent."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock = threading.Lock()
            self._ears = set()
            self._heard = self._interrupts
            self._close_pipes()
        return self._lock

    def _path_of(self, queue: str) -> str:
        return os.path.join(self._directory, "queue-" + quote(queue, safe=""))  # noqa: PTH118

    def _open(self, queue: str) -> int:
        if len(self._pipes) >= MOST_PIPES:
            self._close_pipes()
        self._pipes[queue] = open_pipe(self._path_of(queue))
        return self._pipes[queue]

    def _close_pipes(self) -> None:
        while self._pipes:
            os.close(self._pipes.popitem()[1])


class Ear:
    """What one waiting thread listens with: pipes, and a way for its own process to interrupt it.

    Args:
        bell: Where to register for interrupts.
        paths: Pipes to listen to.
        temporary: Whether the pipes are this ear's own, to be removed with it.
    """

    def __init__(self, bell: Bell, paths: Sequence[str], *, temporary: bool = False) -> None:
        self._bell = bell
        self._paths = paths
        self._temporary = temporary
        self._pipes: list[int] = []
        self._own: tuple[int, ...] = ()
        self._poked = threading.Event()
        self._pause = POLLING[0]

    def __enter__(self) -> Self:
        try:
            self._poll = select.poll()
            self._own = os.pipe()
            self._poll.register(self._own[0], select.POLLIN)
            for path in self._paths:
                self._pipes.append(open_pipe(path, private=self._temporary))
                self._poll.register(self._pipes[-1], select.POLLIN)
        except (OSError, AttributeError):
            self._forget()  # no named pipes here: look again and again
        self._bell.join(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bell.leave(self)
        self._forget()

    def wait(self, timeout: float) -> None:
        """Block until called or poked, for at most *timeout* seconds; look again after it in any case."""
        if not self._pipes:
            self._poked.wait(min(timeout, self._pause))
            self._pause = min(self._pause * 2, POLLING[1])
            return
        for pipe, _ in self._poll.poll(math.ceil(min(timeout, LONGEST_SLEEP) * 1_000)):
            with contextlib.suppress(BlockingIOError):  # another waiter has read it; both look
                os.read(pipe, 65_536)

    def poke(self) -> None:
        """Make a wait in another thread of this process end."""
        self._poked.set()
        if self._pipes:
            os.write(self._own[1], b"!")

    def _forget(self) -> None:
        for pipe in (*self._pipes, *self._own):
            os.close(pipe)
        self._pipes, self._own = [], ()
        if self._temporary:
            for path in self._paths:
                with contextlib.suppress(OSError):
                    os.unlink(path)  # noqa: PTH108


def open_pipe(path: str, *, private: bool = False) -> int:
    """Open the named pipe at *path*, made if need be, for reading and writing without ever blocking.

    A *private* one gets its name only once it is open, since :func:`_call` removes those that nobody listens to.

    Raises:
        OSError: There can be no named pipe.
    """
    made = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}") if private else path  # noqa: PTH
    try:
        pipe = os.open(made, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        _make_pipe(made)
        pipe = os.open(made, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
        os.close(pipe)
        raise OSError(f"{made} is not a named pipe")
    if private:
        os.rename(made, path)  # noqa: PTH104
    return pipe


def _make_pipe(path: str) -> None:
    directory = os.path.dirname(path)  # noqa: PTH120
    for each in (os.path.dirname(directory), directory):  # noqa: PTH120
        with contextlib.suppress(FileExistsError):
            os.mkdir(each, 0o700)  # noqa: PTH102
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, 0o600)


def _call(path: str) -> None:
    """Wake the owner of a private pipe; if there is none any more, remove it."""
    if os.path.basename(path).startswith("."):  # noqa: PTH119
        return
    try:
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108
        return
    try:
        with contextlib.suppress(OSError):
            os.write(pipe, b"!")
    finally:
        os.close(pipe)


def _mark(key: str) -> str:
    """Return the part of a private pipe's name that stands for *key*."""
    return f"{zlib.crc32(key.encode('utf-8', 'surrogatepass')):08x}"
