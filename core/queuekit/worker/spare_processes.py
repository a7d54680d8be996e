"""A process that is ready before a body needs it, so that no thread waits for a fork."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic

from queuekit.worker.suspect_processes import P

__all__ = ["SpareProcesses"]

_LOOK = 0.1
"""Seconds between two questions whether somebody who waits has given up."""


class SpareProcesses(Generic[P]):
    """Keeps one process ready, and makes the next in a thread as soon as it is taken.

    Args:
        spawn: Returns a process that is ready; may take long.
    """

    def __init__(self, spawn: Callable[[], P]) -> None:
        self._spawn = spawn
        self._changed = threading.Condition()
        self._spare: P | None = None
        self._failed = False
        """Whether the last one could not be made; whoever takes one tries as well, and reports the error."""
        self._started = self._closed = False

    def start(self) -> None:
        """Start to make one."""
        self._started = True
        threading.Thread(target=self._loop, name="queuekit-spare", daemon=True).start()

    def take(self) -> P | None:
        """Return the process that is ready; ``None`` if there is none."""
        if not self._started:
            return None
        with self._changed:
            spare, self._spare, self._failed = self._spare, None, False
            self._changed.notify_all()
            return spare

    def wait(self, gives_up: Callable[[], bool], patience: float) -> None:
        """Wait at most *patience* seconds until one is ready, or cannot be made, or until the caller *gives_up*."""
        until = time.monotonic() + patience
        with self._changed:
            while self._is_wanted() and not self._closed and not gives_up() and time.monotonic() < until:
                self._changed.wait(_LOOK)

    def close(self) -> list[P]:
        """Make no more, and return the one that is ready."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return [] if self._spare is None else [self._spare]

    def _is_wanted(self) -> bool:
        return self._spare is None and not self._failed

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_wanted() or self._closed)
                if self._closed:
                    return
            try:
                process = self._spawn()
            except BaseException:  # noqa: BLE001 - see `_failed`
                process = None
            self._give(process)

    def _give(self, process: P | None) -> None:
        with self._changed:
            self._spare, self._failed = process, process is None
            closed = self._closed
            self._changed.notify_all()
        if closed and process is not None:
            process.close()
