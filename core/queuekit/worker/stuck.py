"""Finds a fetch that does not come back: an engine's client, or a plugin, hangs in it."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable

__all__ = ["StuckFetch"]

_logger = logging.getLogger("queuekit.worker")
_BOUND = 60.0
"""Seconds beyond its own wait after which a fetch is stuck: every engine of ours gives up long before."""


class StuckFetch:
    """One look a second at the fetcher.

    Args:
        worker: Name of the worker, for the log.
        thread: Returns the fetcher's thread.
        overtime: Returns for how many seconds a fetch has gone on beyond what it was to wait; 0 between two.
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
        """Tell of a stuck fetch once, with its stack; return why the worker cannot go on, once it has nothing else."""
        seconds = self._overtime()
        if seconds < _BOUND:
            self._reported = False
            return ""
        if not self._reported:
            self._reported = True
            text = "%s: a fetch has not come back for %.0f s; it is replaced when it holds nothing else:\n%s"
            _logger.error(text, self._worker, seconds, self._stack())
        return f"a fetch has not come back for {seconds:.0f} s" if self._idle() else ""

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._thread().ident or 0)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - documented
        return "".join(traceback.format_stack(frame)).rstrip() if frame is not None else "(it has no stack)"
