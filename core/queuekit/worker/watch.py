"""Watches over a worker's threads: says that the process is alive, and ends a worker one of whose parts is dead."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from queuekit.worker.run_table import RunTable
from queuekit.worker.silence import LOOK

__all__ = ["DEAF", "Watch", "end_process"]

_logger = logging.getLogger("queuekit.worker")
DEAF = 70
"""Exit code of a process one of whose threads has ended, or whose event loop is blocked past a time limit."""


class Watch:
    """A thread that looks once a second.

    Args:
        run_table: Where to say that the process is alive.
        parts: Returns all threads that must be alive while the worker works.
        checks: Called at each look; what they return is why the worker cannot go on, if it cannot.
        on_fault: Called, once, with the reason why the worker cannot go on.
    """

    def __init__(
        self,
        run_table: RunTable,
        *,
        parts: Callable[[], Iterable[threading.Thread]],
        checks: Iterable[Callable[[], str]] = (),
        on_fault: Callable[[str], None],
    ) -> None:
        self._run_table = run_table
        self._parts = parts
        self._checks = [self._look_for_the_dead, *checks]
        self._on_fault = on_fault
        self._working = True
        self._dead: set[str] = set()
        self._stopped = threading.Event()
        self.thread = threading.Thread(target=self._loop, name="queuekit-watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._run_table.beat(time.monotonic())
        self.thread.start()

    def ease(self) -> None:
        """Say only that the process is alive from now on: the worker ends, and its threads with it."""
        self._working = False

    def stop(self) -> None:
        """End."""
        self._working = False
        self._stopped.set()

    def _loop(self) -> None:
        while not self._stopped.is_set():
            with suppress(BaseException):  # whatever is raised in it, the process is alive as long as this is
                self._turn()

    def _turn(self) -> None:
        if self._stopped.wait(LOOK):
            return
        self._run_table.beat(time.monotonic())
        for check in self._checks if self._working else ():
            fault = check()
            if fault and self._working:
                self._working = False
                self._on_fault(fault)

    def _look_for_the_dead(self) -> str:
        """Find threads that were dead at the last look as well: a worker that is about to stop lets them end."""
        dead = {thread.name for thread in self._parts() if thread.ident is not None and not thread.is_alive()}
        again, self._dead = dead & self._dead, dead
        return f"its thread {min(again)} has ended" if again else ""


def end_process(reason: str) -> None:
    """End this process at once, so that its supervisor hands back what it holds and starts another."""
    with suppress(BaseException):
        _logger.critical("this worker process cannot go on: %s; another takes its place", reason)
    for handler in logging.getLogger().handlers:
        with suppress(BaseException):
            handler.flush()
    os._exit(DEAF)
