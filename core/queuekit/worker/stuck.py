"""Detect a fetch that does not return, because a client library or a plugin hangs."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable

__all__ = ["StuckFetch"]

_logger = logging.getLogger("queuekit.worker")
_BOUND = 60.0
"""Seconds beyond its wait after which a fetch counts as stuck; queuekit's engines time out long before."""


class StuckFetch:
    """Checks the fetcher once a second.

    Args:
        worker: Name of the worker, for the log.
        thread: Returns the fetcher's thread.
        overtime: Returns by how many seconds the current fetch exceeds its wait; 0 between fetches.
        idle: Returns whether nothing is in flight.
    """

    def __init__(
        self,
        *,
        worker: str,
        thread: Callable[[], threading.Thread],
        overtime: Callable[[], float],
        idle: Callable[[], bool],
    ) -> None:
        self._worker = worker
        self._thread = thread
        self._overtime = overtime
        self._idle = idle
        self._reported = False

    def check(self) -> str:
        """Log a stuck fetch once, with its stack; when nothing is in flight, return why the worker cannot go on."""
        seconds = self._overtime()
        if seconds < _BOUND:
            self._reported = False
            return ""
        if not self._reported:
            self._reported = True
            text = "%s: a fetch has not returned for %.0f s; the worker is replaced once nothing is in flight:\n%s"
            _logger.error(text, self._worker, seconds, self._stack())
        return f"a fetch has not returned for {seconds:.0f} s" if self._idle() else ""

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._thread().ident or 0)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - documented
        return "".join(traceback.format_stack(frame)).rstrip() if frame is not None else "(no stack)"
