"""Run requests in parallel, in threads that do not keep the process alive."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from queuekit.timelimit import end_of_time, until

__all__ = ["RequestPool"]

T = TypeVar("T")


class RequestPool:
    """Up to *size* threads, started on demand, and again after a fork.

    Args:
        size: Most threads.
        name: Prefix of the names of the threads.
    """

    def __init__(self, size: int, *, name: str) -> None:
        self._size = size
        self._name = name
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._threads = 0
        self._idle = 0

    def start(self, call: Callable[[], T]) -> Future[T]:
        """Start *call* in a thread of the pool; do not cancel its future."""
        if self._pid != os.getpid():
            self._reset()
        end = end_of_time()
        if end is not None:
            call = partial(_until, end, call)
        future: Future[T] = Future()
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
            elif self._threads < self._size:
                self._threads += 1
                name = f"{self._name}-{self._threads}"
                threading.Thread(target=self._serve, args=(self._work,), name=name, daemon=True).start()
            else:
                self._idle -= 1
        self._work.put((future, call))
        return future

    def map(self, calls: Iterable[Callable[[], T]]) -> list[T]:
        """Run *calls* in parallel, the first one in this thread, and return their results in order.

        All calls end before the error of one of them is raised.
        """
        every = list(calls)
        if not every:
            return []
        first, *rest = every
        futures = [self.start(call) for call in rest]
        own: Future[T] = Future()
        _run(own, first)
        ended = [own, *futures]
        problems = [problem for future in ended if (problem := future.exception()) is not None]
        if problems:
            raise problems[0]
        return [future.result() for future in ended]

    def close(self) -> None:
        """Let the threads end after their current calls; the next call starts new ones."""
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            work, threads = self._work, self._threads
            self._work, self._threads, self._idle = queue.SimpleQueue(), 0, 0
        for _ in range(threads):
            work.put(None)

    def _serve(self, work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
        while (job := work.get()) is not None:
            _run(*job)
            del job
            with self._lock:
                if work is self._work:
                    self._idle += 1


def _until(end: float, call: Callable[[], T]) -> T:
    """Run *call* within the time limit of its caller."""
    with until(end):
        return call()


def _run(future: Future[Any], call: Callable[[], Any]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - raised again where the result is read
        future.set_exception(error)
