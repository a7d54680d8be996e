"""Watch a worker's threads: send heartbeats, and end the worker if a thread has died."""

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
"""Exit code of a process that lost a thread, or whose event loop is blocked past a time limit."""


class Watch:
    """A thread that runs checks once a second.

    Args:
        run_table: Receives the heartbeats.
        parts: Returns the threads that must be alive while the worker works.
        checks: Called once a second; each returns why the worker cannot go on, or an empty text.
        on_beat: Called once a second, before the checks, also while the worker stops.
        on_fault: Called once with the reason why the worker cannot go on.
    """

    def __init__(
        self,
        run_table: RunTable,
        *,
        parts: Callable[[], Iterable[threading.Thread]],
        checks: Iterable[Callable[[], str]] = (),
        on_beat: Callable[[], object] = lambda: None,
        on_fault: Callable[[str], None],
    ) -> None:
        self._run_table = run_table
        self._parts = parts
        self._checks = [self._look_for_the_dead, *checks]
        self._on_beat = on_beat
        self._on_fault = on_fault
        self._working = True
        self._dead: set[str] = set()
        self._stopped = threading.Event()
        self.thread = threading.Thread(target=self._loop, name="queuekit-watch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._run_table.beat(time.monotonic())
        self.thread.start()

    def ease(self) -> None:
        """From now on, only send heartbeats: the worker is stopping, and its threads end."""
        self._working = False

    def stop(self) -> None:
        """Stop the thread."""
        self._working = False
        self._stopped.set()

    def _loop(self) -> None:
        while not self._stopped.is_set():
            with suppress(BaseException):  # whatever a check raises, the heartbeats must go on
                self._turn()

    def _turn(self) -> None:
        if self._stopped.wait(LOOK):
            return
        self._run_table.beat(time.monotonic())
        self._on_beat()
        for check in self._checks if self._working else ():
            fault = check()
            if fault and self._working:
                self._working = False
                self._on_fault(fault)

    def _look_for_the_dead(self) -> str:
        """Report a thread that was also dead at the last check: in a stopping worker, threads end just before."""
        dead = {thread.name for thread in self._parts() if thread.ident is not None and not thread.is_alive()}
        again, self._dead = dead & self._dead, dead
        return f"its thread {min(again)} has ended" if again else ""


def end_process(reason: str) -> None:
    """End this process at once, so that its supervisor hands back what it holds and starts another."""
    with suppress(BaseException):
        _logger.critical("this worker process cannot go on: %s; the supervisor starts another", reason)
    for handler in logging.getLogger().handlers:
        with suppress(BaseException):
            handler.flush()
    os._exit(DEAF)
