"""The context of a run, as those who run it see it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from queuekit.context import Context, ReportProgress
from queuekit.signature import Signature

__all__ = ["RunContext"]


class RunContext(Context):
    """What a body gets, with the verbs of its worker."""

    __slots__ = ()

    def made_of(self, make: Callable[..., Signature[Any]], *parts: Any) -> None:
        """Say what *make* needs to tell which call this is, if anybody asks."""
        self._made = (make, *parts)

    @property
    def made(self) -> tuple[Any, ...]:
        """What :meth:`made_of` was told."""
        return self._made[1:]

    def cancel(self) -> None:
        """Ask the task to stop; it sees :attr:`~queuekit.context.Context.cancelled`."""
        if self._cancelled is None:
            self._cancelled = threading.Event()
        self._cancelled.set()

    def report_to(self, report: ReportProgress, begun: Callable[[RunContext], None] | None = None) -> None:
        """Say where :meth:`~queuekit.context.Context.progress` goes, and what is told before the first of it."""
        self._report, self._begun = report, begun
