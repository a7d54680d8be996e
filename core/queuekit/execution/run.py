"""The state of a message that is about to run, or running, in a worker."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs

from queuekit.broker import Delivery
from queuekit.client.codec import Message
from queuekit.envelope import Envelope
from queuekit.errors import QueuekitError
from queuekit.execution.run_context import RunContext
from queuekit.execution.time_limit import Guard
from queuekit.signature import Sender, Signature
from queuekit.tasks.limit_keys import computed_keys, keys_of
from queuekit.tasks.resolve import CallOptions
from queuekit.tasks.task import Task, TaskOptions
from queuekit.values import define
from queuekit.wire.records import Cancellation

if TYPE_CHECKING:
    import asyncio

    from queuekit.execution.slot_turns import SlotTurns
    from queuekit.execution.task_scope import TaskScope
    from queuekit.limiting.slots import SlotKey

__all__ = ["SILENCE_GRACE", "Run", "call_of", "re_delayed"]

SILENCE_GRACE = 2.0
"""Seconds that a body of a silent process may exceed its limit: it may be about to end."""


@define(kw_only=True)
class Run:
    """A message about to run, or running."""

    delivery: Delivery
    message: Message
    task: Task[..., Any]
    context: RunContext
    options: TaskOptions | CallOptions
    """Options of the call, which override those of the task."""
    received: float
    """Monotonic seconds at which the delivery arrived; its wall time is ``delivery.claimed_at``."""
    timeout: float | None = None
    """Seconds that the body may run."""
    early: bool = False
    """Whether it is acknowledged before its body runs, so that nothing is left to settle."""
    suspect: bool = False
    """Whether it must run in a process of its own, after a crash (QK6)."""
    known_crashes: int = 0
    """Claims of this attempt that are known to have ended in a crash inside the body."""
    unseen: bool = False
    """Whether one of these crashes is unconfirmed: the supervisor died as well, so another body may have caused it."""
    guard: Guard | None = None
    """Raises exceptions in a body that runs in a thread: on timeout, or when its message is cancelled."""
    serial: int = 0
    """Number by which the supervisor identifies it."""
    started: float | None = None
    """Monotonic seconds at which the body was entered."""
    ended: float = 0.0
    cancellation: Cancellation | None = None
    """The request to cancel it, once this worker has seen one."""
    did: str = ""
    """How a running body was asked to stop: see :class:`~queuekit.wire.records.Cancellation`."""
    coroutine: asyncio.Task[Any] | None = None
    """The task that runs the body on an event loop of its own, in a process of its own."""
    timed_out: bool = False
    """Whether its task on an event loop of its own was cancelled because of its time limit."""
    ends_process: str = ""
    """Why its worker process must end once its outcome is written; empty if it need not."""
    reported: bool = False
    """Whether *did* was recorded while the body was still running."""
    resources: TaskScope | None = None
    """Its resources, if its task takes any."""
    injected: dict[str, Any] | None = None
    """The values of its resources by parameter."""
    slots: tuple[SlotKey, ...] = ()
    """Where it holds slots of concurrency limits."""
    turns: SlotTurns[Run] | None = None
    """The runs that share its slot, if there are any."""
    _inside: list[None] = attrs.field(factory=[None].copy)
    _left: bool = False
    _open: list[None] = attrs.field(factory=[None].copy)

    @property
    def time_limit(self) -> float | None:
        """Seconds after which the body is ended with its process."""
        return self.task.defaults.time_limit

    @property
    def limit(self) -> float | None:
        """Seconds after which a supervisor may end the process of a body that holds the interpreter, less its grace."""
        hard = self.task.defaults.time_limit
        return self.timeout if hard is None else max(0.0, hard - SILENCE_GRACE)

    def claim(self) -> bool:
        """Return whether the caller may decide the outcome: true for the first caller only.

        The body's thread competes with the thread that gave up on it.
        """
        try:
            self._open.pop()
        except IndexError:
            return False
        return True

    def leave_body(self) -> BaseException | None:
        """Mark the body as ended, from its own thread; after that, no exception is raised in it. May be repeated.

        Returns:
            The exception that was raised in it, if it arrives only now.
        """
        try:
            self._inside.pop()
        except IndexError:
            while self.guard is None and not self._left:  # the thread in reach() is about to create the guard
                time.sleep(0.001)
            return None if self.guard is None else self.guard.close()
        self._left = True
        return None

    def reach(self, thread: int) -> Guard | None:
        """Return the guard that can raise an exception in the body, which runs in *thread*; ``None`` if it cannot."""
        if self.guard is None and self.timeout is None and self.started is not None:
            try:
                self._inside.pop()
            except IndexError:
                return self.guard
            self.guard = Guard(thread)
        return self.guard

    @property
    def limit_keys(self) -> dict[str, str]:
        """Its keys by the limits of its task: as its sender computed them, else from its arguments."""
        message, keys = self.message, self.message.limits
        if keys is None and any(limit.key is not None for limit in self.task.defaults.limits):
            with suppress(QueuekitError):  # what cannot be read, or cannot be a key, limits nothing
                message.open()
                keys = computed_keys(self.task, message.args, message.kwargs, each=message.each)
        return keys_of(self.task, keys or {})

    @property
    def decided(self) -> bool:
        """Whether the outcome is decided."""
        return not self._open

    @property
    def seconds(self) -> float:
        """Seconds that the body ran."""
        return max(0.0, self.ended - self.started) if self.started is not None else 0.0


def re_delayed(envelope: Envelope, **changes: Any) -> Envelope:
    """Return *envelope* as its next delay step, with *changes*: brokers take it for a send of its own."""
    return attrs.evolve(envelope, hop=envelope.hop + 1, **changes)


def call_of(message: Message, envelope: Envelope, sender: Sender) -> Signature[Any]:
    """Return *message* as a signature, without its delay."""
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
        on_unknown=message.on_unknown,
        unique=envelope.unique,
        fair_by=envelope.lane,
        broker=message.broker,
        on_success=message.on_success,
        on_error=message.on_error,
        each=message.each,
        sender=sender,
    )
