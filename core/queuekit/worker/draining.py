"""Obey a request that this worker drains: it takes no more messages, finishes what it runs, and ends."""

from __future__ import annotations

from collections.abc import Callable

from queuekit.backend import Record
from queuekit.client.runtime import Runtime
from queuekit.wire.pauses import drain_key, read_drain

__all__ = ["DRAINED", "LEAST_STOP", "Draining"]

DRAINED = 71
"""Exit code of a worker process that has drained: its supervisor starts no other for it."""

LEAST_STOP = 3.0
"""Seconds that a stop may take if ``worker.drain`` is shorter."""


class Draining:
    """Follows the record of the request; the watchdog reads it.

    Args:
        runtime: Backend.
        worker: Name of the worker.
        close: Called once with the reason; takes no more messages, and hands back those that wait.
        idle: Returns whether nothing is in flight.
        stop: Called with the reason when nothing is in flight any more.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        worker: str,
        close: Callable[[str], None],
        idle: Callable[[], bool],
        stop: Callable[[str], None],
    ) -> None:
        self._backend = runtime.backend
        self._worker = worker
        self._close = close
        self._idle = idle
        self._stop = stop
        self._is_first = True
        self.reason = ""
        """Why it drains; empty if it does not."""

    def read(self, record: Record | None) -> None:
        """Obey *record*, and end the worker once it has finished."""
        if self._is_first:
            # What is there before this worker has started was meant for an earlier one of the same name.
            self._is_first = False
            if record is not None and self._backend is not None:
                self._backend.delete([drain_key(self._worker)])
            return
        if record is not None and not self.reason:
            self.reason = f"drained by {read_drain(record).by or 'an operator'}"
            self._close(self.reason)
        if self.reason and self._idle():
            self._stop(self.reason)
