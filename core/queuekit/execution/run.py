"""A message about to run, or running: what a worker holds of it in its hands."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import attrs

from queuekit.broker import Delivery
from queuekit.client.codec import Message
from queuekit.envelope import Envelope
from queuekit.execution.run_context import RunContext
from queuekit.execution.time_limit import Guard
from queuekit.signature import Sender, Signature
from queuekit.tasks.resolve import CallOptions
from queuekit.tasks.task import Task, TaskOptions
from queuekit.wire.records import Cancellation

__all__ = ["Run", "call_of"]


@attrs.define(kw_only=True)
class Run:
    """A message about to run, or running."""

    delivery: Delivery
    message: Message
    task: Task[..., Any]
    context: RunContext
    options: TaskOptions | CallOptions
    """Those of the call, where it says something, else of the task."""
    received: float
    """Monotonic seconds at which the delivery arrived; its wall time is ``delivery.claimed_at``."""
    timeout: float | None = None
    """Seconds that the body may run."""
    early: bool = False
    """Whether it is acknowledged before its body runs, so that there is nothing left to settle."""
    suspect: bool = False
    """Whether it must run in a process of its own, after a crash (QK6)."""
    known_crashes: int = 0
    """Claims of this attempt that are known to have ended in a crash inside the body."""
    unseen: bool = False
    """Whether one of these crashes took all witnesses along, and so may have been another's fault."""
    guard: Guard | None = None
    """Raises exceptions in the body, if it runs in a thread: that its time is up, that it was cancelled."""
    serial: int = 0
    """Number under which the supervisor knows it."""
    started: float | None = None
    """Monotonic seconds at which the body was entered."""
    ended: float = 0.0
    cancellation: Cancellation | None = None
    """Who wants it cancelled, once that is known here."""
    did: str = ""
    """What was done about that with a body that had begun: see :class:`~queuekit.wire.records.Cancellation`."""
    reported: bool = False
    """Whether that was written down while the body went on."""
    _inside: list[None] = attrs.field(factory=[None].copy)
    _open: list[None] = attrs.field(factory=[None].copy)

    def claim(self) -> bool:
        """Return whether the caller is the first to decide the outcome: the body's thread, or whoever gave up on it."""
        try:
            self._open.pop()
        except IndexError:
            return False
        return True

    def leave_body(self) -> BaseException | None:
        """Say, in the body's thread, that the body has ended: nothing is raised in the thread any more for it.

        Returns:
            What was raised in it, if that arrives only now.
        """
        try:
            self._inside.pop()
        except IndexError:
            while self.guard is None:  # whoever took it is about to make the guard
                time.sleep(0.001)
            return self.guard.close()
        return None

    def reach(self, thread: int) -> Guard | None:
        """Return what can raise an exception in the body, which runs in *thread*; ``None`` if it has none to reach."""
        if self.guard is None and self.timeout is None and self.started is not None:
            try:
                self._inside.pop()
            except IndexError:
                return self.guard
            self.guard = Guard(thread)
        return self.guard

    @property
    def decided(self) -> bool:
        """Whether somebody has decided the outcome."""
        return not self._open

    @property
    def seconds(self) -> float:
        """Seconds that the body ran."""
        return max(0.0, self.ended - self.started) if self.started is not None else 0.0


def call_of(message: Message, envelope: Envelope, sender: Sender) -> Signature[Any]:
    """Return the call that *message* is; a moment that has passed is not told any more."""
    message.open()
    return Signature(
        message.task,
        message.args,
        message.kwargs,
        id=message.id,
        queue=envelope.queue,
        priority=envelope.priority,
        expires=None if envelope.expires is None else datetime.fromtimestamp(envelope.expires, UTC),
        headers=message.headers,
        retries=message.retries,
        retry=message.retry,
        timeout=message.timeout,
        ignore_result=message.ignore_result,
        unique=envelope.unique,
        on_success=message.on_success,
        on_error=message.on_error,
        each=message.each,
        sender=sender,
    )
