"""Wakes waiting threads, also in other processes, through named pipes next to the database.

After its commit, a sender writes one byte to the pipe of the queue. A listener polls the pipe and reads the database
when the pipe has data. The byte is only a hint: a waiter reads the database after it begins to listen and before it
blocks, and once a second in any case. A thread that waits for records listens to its own pipe in ``results/``, named
after the records.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
import time
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from queuekit.engines.sqlite.pipes import drain, open_pipe, wake
from queuekit.forks import renew_in_forks
from queuekit.interrupts import Interrupts

__all__ = ["LONGEST_SLEEP", "Listener", "Notifier"]

LONGEST_SLEEP = 1.0
"""Seconds after which a waiter polls the database without a notification."""
POLLING = (0.05, 0.5)
"""Seconds between two polls on systems without named pipes: first and longest."""
MOST_PIPES = 200
"""Most pipes that a sender keeps open."""
MOST_KEYS = 16
"""Most records in the name of a pipe; any record wakes a thread that waits for more."""
ANY = "any"


class Notifier:
    """The pipes of one database.

    Args:
        directory: Directory of the pipes; created when first needed.
    """

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._results = f"{directory}/results"
        self._pipes: dict[str, int] = {}
        self.interrupts = Interrupts()
        """Interrupts of the waits in this process."""
        self.renew_in_fork()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Create a new lock, and close the pipes of the parent."""
        self._lock = threading.Lock()
        self._close_pipes()

    def notify(self, queues: Iterable[str]) -> None:
        """Wake the waiters for messages of *queues*; call it after the commit."""
        with self._lock:
            for queue in queues:
                try:
                    os.write(self._pipes.get(queue) or self._pipe_of(queue), b"!")
                except OSError:  # a full pipe wakes its waiters too; waiters without a pipe poll
                    continue

    def listen(self, queues: Iterable[str]) -> Listener:
        """Return a listener for *queues*, to be used as a context manager."""
        return Listener(self.interrupts, [self._path_of(queue) for queue in queues])

    def notify_results(self, keys: Sequence[str]) -> None:
        """Wake the waiters for one of the final records *keys*; call it after the commit."""
        try:
            names = os.listdir(self._results)  # noqa: PTH208 - runs in every commit, and is mostly empty
        except OSError:
            return  # no thread has ever waited for a result
        if names:
            marks = {ANY, *map(_mark, keys)}
            for name in names:
                if not name.startswith(".") and not marks.isdisjoint(name.split("-")):
                    wake(f"{self._results}/{name}")

    def listen_results(self, keys: Sequence[str]) -> Listener:
        """Return a listener for the final records *keys*, to be used as a context manager."""
        marks = "-".join(sorted({_mark(key) for key in keys})) if len(keys) <= MOST_KEYS else ANY
        name = f"{os.getpid()}.{threading.get_ident()}.{time.monotonic_ns()}-{marks}"
        return Listener(self.interrupts, [self._directory / "results" / name], private=True)

    def close(self) -> None:
        """Close the pipes that this process writes to."""
        with self._lock:
            self._close_pipes()

    def _path_of(self, queue: str) -> Path:
        return self._directory / ("queue-" + quote(queue, safe=":"))

    def _pipe_of(self, queue: str) -> int:
        pipe = self._pipes.get(queue)
        if pipe is None:
            if len(self._pipes) >= MOST_PIPES:
                self._close_pipes()
            pipe = self._pipes[queue] = open_pipe(self._path_of(queue))
        return pipe

    def _close_pipes(self) -> None:
        while self._pipes:
            os.close(self._pipes.popitem()[1])


class Listener:
    """Listens for one waiting thread: to pipes, and to interrupts of its own process.

    Args:
        interrupts: Interrupts that end its waits.
        paths: Pipes to listen to.
        private: Whether the pipes belong to this listener and are removed with it.
    """

    def __init__(self, interrupts: Interrupts, paths: Sequence[Path], *, private: bool = False) -> None:
        self._interrupts = interrupts
        self._paths = paths
        self._private = private
        self._pipes: list[int] = []
        self._wake_pipe: int | None = None
        self._woken = threading.Event()
        self._pause = POLLING[0]

    def __enter__(self) -> Self:
        try:
            self._open()
        except (OSError, AttributeError):  # no named pipes or no poll() on this system: poll the database
            self._close()
        self._interrupts.join(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._interrupts.leave(self)
        self._close()

    def wait(self, timeout: float) -> None:
        """Block until notified or woken, for at most *timeout* seconds; the caller polls the database in any case."""
        if not self._pipes:
            self._woken.wait(min(timeout, self._pause))
            self._pause = min(self._pause * 2, POLLING[1])
            return
        for pipe, _ in self._poll.poll(math.ceil(min(timeout, LONGEST_SLEEP) * 1_000)):
            drain(pipe)

    def wake(self) -> None:
        """End a wait in another thread of this process."""
        self._woken.set()
        if self._wake_pipe is not None:
            os.write(self._wake_pipe, b"!")

    def _open(self) -> None:
        self._poll = select.poll()
        woken, self._wake_pipe = os.pipe()
        self._pipes += (woken, self._wake_pipe)
        self._poll.register(woken, select.POLLIN)
        for path in self._paths:
            self._pipes.append(open_pipe(path, private=self._private))
            self._poll.register(self._pipes[-1], select.POLLIN)

    def _close(self) -> None:
        self._wake_pipe = None
        while self._pipes:
            os.close(self._pipes.pop())
        if self._private:
            for path in self._paths:
                with contextlib.suppress(OSError):
                    path.unlink()


def _mark(key: str) -> str:
    """Return the part of a private pipe's name that identifies *key*."""
    return f"{zlib.crc32(key.encode('utf-8', 'surrogatepass')):08x}"
