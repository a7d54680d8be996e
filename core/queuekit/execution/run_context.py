"""The context of a run, with the methods that a worker needs."""

from __future__ import annotations

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

    @classmethod
    def of(
        cls,
        message: Message,
        envelope: Envelope,
        worker: str,
        made: tuple[Any, ...],
        progress: tuple[ReportProgress, Callable[[RunContext], None]],
    ) -> RunContext:
        """Return the context of the run of *message*, without the constructor, which would take twice the time.

        Args:
            message: The message; every one has a context.
            envelope: Its envelope.
            worker: Name of the worker.
            made: As for :meth:`made_of`.
            progress: As for :meth:`report_to`.
        """
        self = cls.__new__(cls)
        self.id, self.task, self.queue = message.id, message.task, envelope.queue
        self.attempt, self.generation = envelope.attempt, envelope.generation
        self.headers, self.parent, self.worker = message.headers, message.parent, worker
        self.lost = False
        self._cancelled = False
        self._made = made
        self._report, self._begun = progress
        return self

    @property
    def made(self) -> tuple[Any, ...]:
        """The *parts* given to :meth:`made_of`."""
        return self._made[1:]

    def cancel(self, interrupt: Callable[[], object] | None = None) -> None:
        """Ask the task to stop: set :attr:`~queuekit.context.Context.cancelled`.

        Args:
            interrupt: Raises an exception in the body. The body sees that it is cancelled only after that, so that a
                body that looks and returns ends in the same way as one that does not look.
        """
        if interrupt is not None:
            self._cancelled = self._cancelled or None
            try:
                interrupt()
            finally:
                self._cancelled = True
        self._cancelled = True

    def report_to(self, report: ReportProgress, begun: Callable[[RunContext], None] | None = None) -> None:
        """Set the receiver of :meth:`~queuekit.context.Context.progress`, and a callback before the first report."""
        self._report, self._begun = report, begun


context_of = RunContext.of
RunContext.__name__ = RunContext.__qualname__ = Context.__name__  # a body that prints its type sees the public one
