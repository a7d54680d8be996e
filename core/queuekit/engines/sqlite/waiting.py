"""Waking those who wait, in other processes as well: named pipes beside the database.

A sender writes one byte, after its commit, to the pipe of the queue; whoever waits for the queue polls the pipe, and
looks into the database when it can be read. The byte is a hint and nothing more: a waiter looks after it has begun to
listen and before it blocks, and once a second in any case. Who waits for records has a pipe of its own in
``results/``, named after the records.
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

from queuekit.engines.sqlite.pipes import call, drain, open_pipe

__all__ = ["LONGEST_SLEEP", "Bell", "Ear"]

LONGEST_SLEEP = 1.0
"""Seconds after which a waiter looks without having been called."""
POLLING = (0.05, 0.5)
"""Seconds between two looks where there are no named pipes: the first, and the longest."""
MOST_PIPES = 200
"""Pipes that a sender keeps open."""
MOST_KEYS = 16
"""Who waits for more records than these is woken by any."""
ANY = "any"


class Bell:
    """The pipes of one database.

    Args:
        directory: Where they are; made when first needed.
    """

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._results = f"{directory}/results"
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
                try:
                    os.write(self._pipes.get(queue) or self._pipe_of(queue), b"!")
                except OSError:  # a full pipe wakes as well; without one they look by themselves
                    continue

    def listen(self, queues: Iterable[str]) -> Ear:
        """Return an ear for *queues*, to be used as a context manager."""
        return Ear(self, [self._path_of(queue) for queue in queues])

    def ring_results(self, keys: Sequence[str]) -> None:
        """Wake those who wait for one of the final records *keys*; call it after the commit."""
        try:
            names = os.listdir(self._results)  # noqa: PTH208 - on the way of every commit, and mostly empty
        except OSError:
            return  # nobody has ever waited
        if names:
            marks = {ANY, *map(_mark, keys)}
            for name in names:
                if not name.startswith(".") and not marks.isdisjoint(name.split("-")):
                    call(f"{self._results}/{name}")

    def listen_results(self, keys: Sequence[str]) -> Ear:
        """Return an ear for the final records *keys*, to be used as a context manager."""
        marks = "-".join(sorted({_mark(key) for key in keys})) if len(keys) <= MOST_KEYS else ANY
        name = f"{os.getpid()}.{threading.get_ident()}.{time.monotonic_ns()}-{marks}"
        return Ear(self, [self._directory / "results" / name], private=True)

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


class Ear:
    """What one waiting thread listens with: pipes, and a way for its own process to interrupt it.

    Args:
        bell: Where to register for interrupts.
        paths: Pipes to listen to.
        private: Whether the pipes are this ear's own, to be removed with it.
    """

    def __init__(self, bell: Bell, paths: Sequence[Path], *, private: bool = False) -> None:
        self._bell = bell
        self._paths = paths
        self._private = private
        self._pipes: list[int] = []
        self._poke_at: int | None = None
        self._poked = threading.Event()
        self._pause = POLLING[0]

    def __enter__(self) -> Self:
        try:
            self._open()
        except (OSError, AttributeError):  # no named pipes here, or no poll: look again and again
            self._close()
        self._bell.join(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bell.leave(self)
        self._close()

    def wait(self, timeout: float) -> None:
        """Block until called or poked, for at most *timeout* seconds; look again after it in any case."""
        if not self._pipes:
            self._poked.wait(min(timeout, self._pause))
            self._pause = min(self._pause * 2, POLLING[1])
            return
        for pipe, _ in self._poll.poll(math.ceil(min(timeout, LONGEST_SLEEP) * 1_000)):
            drain(pipe)

    def poke(self) -> None:
        """Make a wait in another thread of this process end."""
        self._poked.set()
        if self._poke_at is not None:
            os.write(self._poke_at, b"!")

    def _open(self) -> None:
        self._poll = select.poll()
        heard, self._poke_at = os.pipe()
        self._pipes += (heard, self._poke_at)
        self._poll.register(heard, select.POLLIN)
        for path in self._paths:
            self._pipes.append(open_pipe(path, private=self._private))
            self._poll.register(self._pipes[-1], select.POLLIN)

    def _close(self) -> None:
        self._poke_at = None
        while self._pipes:
            os.close(self._pipes.pop())
        if self._private:
            for path in self._paths:
                with contextlib.suppress(OSError):
                    path.unlink()


def _mark(key: str) -> str:
    """Return the part of a private pipe's name that stands for *key*."""
    return f"{zlib.crc32(key.encode('utf-8', 'surrogatepass')):08x}"
