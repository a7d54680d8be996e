"""Keep the dead letters of a worker's queues within their bounds."""

from __future__ import annotations

import logging
import threading
import time

from queuekit.app import Queuekit
from queuekit.errors import UnavailableError
from queuekit.events import DeadLettersDropped
from queuekit.logs.errors import log_error
from queuekit.operations.admin import Admin
from queuekit.operations.dead_bounds import trim

__all__ = ["DeadBounds"]

_logger = logging.getLogger("queuekit.worker")
_PAUSE = 60.0
"""Seconds between two looks; the first is at once."""
_SHARE = 50.0
"""A look is followed by a pause of so many times its duration, if that is longer."""


class DeadBounds:
    """A thread that drops what is beyond ``dead_max_age`` and ``dead_max_count``; only where one of them is set.

    Args:
        app: Engines, settings and events.
        worker: Name of the worker.
    """

    def __init__(self, app: Queuekit, *, worker: str) -> None:
        self._app, self._worker = app, worker
        self._stopped = threading.Event()
        self.thread = threading.Thread(target=self._loop, name="queuekit-dead-letters", daemon=True)

    def start(self) -> None:
        """Start."""
        self.thread.start()

    def stop(self, patience: float) -> None:
        """Stop after the present step, and wait for it at most *patience* seconds."""
        self._stopped.set()
        if self.thread.is_alive():
            self.thread.join(patience)

    def _loop(self) -> None:
        pause = 0.0
        while not self._stopped.wait(pause):
            began = time.monotonic()
            try:
                self.look()
            except UnavailableError:
                pass  # the fetcher reports it; the next look tries again
            except Exception:  # noqa: BLE001 - whatever a third party's broker raises; bounds are no reason to stop
                log_error(_logger, "cannot drop dead letters beyond their bounds")
            pause = max(_PAUSE, _SHARE * (time.monotonic() - began))

    def look(self) -> None:
        """Drop what is beyond the bounds of the worker's queues."""
        admin = Admin(self._app)
        for queue in admin.config.worker.queues:
            for reason, bound, count in trim(admin, queue):
                event = DeadLettersDropped(worker=self._worker, queue=queue, reason=reason, bound=bound, count=count)
                self._app.events.emit(event)
                if self._stopped.is_set():
                    return
