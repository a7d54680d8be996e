"""The context of a run, with the methods that a worker needs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from queuekit.client.codec import Message
from queuekit.context import Context, ReportProgress
from queuekit.envelope import Envelope
from queuekit.signature import Signature

__all__ = ["RunContext", "context_of"]


class RunContext(Context):
    """The context that a body receives, with methods for its worker."""

    __slots__ = ()

    def made_of(self, make: Callable[..., Signature[Any]], *parts: Any) -> None:
        """Store *make* and its arguments *parts*; together they build the signature of this call on request."""
        self._made = (make, *parts)

    def fill(self, message: Message, envelope: Envelope, worker: str, made: tuple[Any, ...]) -> None:
        """Set all attributes, for :func:`context_of`."""
        self.id, self.task, self.queue = message.id, message.task, envelope.queue
        self.attempt, self.generation = envelope.attempt, envelope.generation
        self.headers, self.parent, self.worker = message.headers, message.parent, worker
        self.lost = False
        self._cancelled = self._report = self._begun = None
        self._made = made

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


def context_of(message: Message, envelope: Envelope, worker: str, made: tuple[Any, ...]) -> RunContext:
    """Return the context of the run of *message*; *made* is as for :meth:`RunContext.made_of`.

    Every message has one, and the constructor with its keyword arguments would take twice the time.
    """
    context = RunContext.__new__(RunContext)
    context.fill(message, envelope, worker, made)
    return context


RunContext.__name__ = RunContext.__qualname__ = Context.__name__  # a body that prints its type sees the public one
