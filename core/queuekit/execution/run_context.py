"""The context of a run, with the methods that a worker needs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from queuekit.context import Context, ReportProgress
from queuekit.signature import Signature

__all__ = ["RunContext"]


class RunContext(Context):
    """The context that a body receives, with methods for its worker."""

    __slots__ = ()

    def made_of(self, make: Callable[..., Signature[Any]], *parts: Any) -> None:
        """Store *make* and its arguments *parts*; together they build the signature of this call on request."""
        self._made = (make, *parts)

    @property
    def made(self) -> tuple[Any, ...]:
        """The *parts* given to :meth:`made_of`."""
        return self._made[1:]

    def cancel(self) -> None:
        """Ask the task to stop: set :attr:`~queuekit.context.Context.cancelled`."""
        if self._cancelled is None:
            self._cancelled = threading.Event()
        self._cancelled.set()

    def report_to(self, report: ReportProgress, begun: Callable[[RunContext], None] | None = None) -> None:
        """Set the receiver of :meth:`~queuekit.context.Context.progress`, and a callback before the first report."""
        self._report, self._begun = report, begun


RunContext.__name__ = RunContext.__qualname__ = Context.__name__  # a body that prints its type sees the public one
