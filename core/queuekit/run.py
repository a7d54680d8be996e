"""A message about to run, or running: what a worker holds of it in its hands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs

from queuekit.broker import Delivery
from queuekit.context import Context
from queuekit.envelope import Envelope
from queuekit.guard import Guard
from queuekit.message import Message
from queuekit.signature import Sender, Signature
from queuekit.task import Task

__all__ = ["Run", "call_of"]


@attrs.define(kw_only=True)
class Run:
    """A message about to run, or running."""

    delivery: Delivery
    message: Message
    task: Task[..., Any]
    context: Context
    received: float
    """Monotonic seconds at which the delivery arrived; its wall time is ``delivery.claimed_at``."""
    timeout: float | None = None
    """Seconds that the body may run."""
    suspect: bool = False
    """Whether it must run in a process of its own, after a crash (QK6)."""
    known_crashes: int = 0
    """Claims of this attempt that are known to have ended in a crash inside the body."""
    unseen: bool = False
    """Whether one of these crashes took all witnesses along, and so may have been another's fault."""
    guard: Guard | None = None
    """Enforces ``timeout`` in a thread."""
    serial: int = 0
    """Number under which the supervisor knows it."""
    started: float | None = None
    """Monotonic seconds at which the body was entered."""
    ended: float = 0.0
    _open: list[None] = attrs.field(factory=lambda: [None])

    def claim(self) -> bool:
        """Tell whether the caller is the first to decide the outcome: the body's thread, or whoever gave up on it."""
        try:
            self._open.pop()
        except IndexError:
            return False
        return True

    @property
    def decided(self) -> bool:
        """Whether somebody has decided the outcome."""
        return not self._open

    @property
    def early(self) -> bool:
        """Whether it is acknowledged before its body runs, so that there is nothing left to settle."""
        return self.task.defaults.ack == "early"

    @property
    def seconds(self) -> float:
        """Seconds that the body ran."""
        return max(0.0, self.ended - self.started) if self.started is not None else 0.0


def call_of(message: Message, envelope: Envelope, sender: Sender) -> Signature[Any]:
    """Return the call that *message* is; a moment that has passed is not told any more."""
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
