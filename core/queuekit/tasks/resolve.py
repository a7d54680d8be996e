"""Resolves the options of one call: from the call, else from its task, else the default."""

from __future__ import annotations

from datetime import datetime
from operator import attrgetter
from typing import Any, Protocol

from queuekit.envelope import Lane, Unique
from queuekit.fair import Fair
from queuekit.retry import Backoff
from queuekit.signature import Signature
from queuekit.tasks.task import Task, TaskOptions
from queuekit.unique import UniqueKey
from queuekit.values import quick_frozen

__all__ = ["DEFAULTS", "CallOptions", "resolve"]


@quick_frozen
class CallOptions:
    """Options of a call that overrides some of its task's; the fields are those of :class:`TaskOptions`."""

    retries: int
    retry: Backoff
    timeout: float | None
    ignore_result: bool
    queue: str | None
    priority: int | None
    expires: datetime | float | None
    unique: UniqueKey | Unique | bool | str | None
    fair_by: Fair | Lane | None


class Call(Protocol):
    """A signature, or a received message, whose queue, priority, expiry and key are in its envelope."""

    @property
    def ignore_result(self) -> bool | None:
        """Whether its result is not stored; ``None`` leaves that to the task."""
        ...


DEFAULTS = TaskOptions()
"""Options of a task that sets none."""
_of_message = attrgetter("retries", "retry", "timeout", "ignore_result")
_of_signature = attrgetter(
    "retries", "retry", "timeout", "ignore_result", "queue", "priority", "expires", "unique", "fair_by"
)
_MESSAGE_SILENT, _SIGNATURE_SILENT = (None,) * 4, (None,) * 9


def resolve(call: Call, task: Task[..., Any] | None, *, otherwise: TaskOptions = DEFAULTS) -> TaskOptions | CallOptions:
    """Return the options of *call*: its own, else those of *task*, else the defaults.

    Args:
        call: A signature, or a message as a worker reads it.
        task: Its task; ``None`` if unknown here.
        otherwise: Options to use if the task is unknown here.
    """
    usual = otherwise if task is None else task.defaults
    if isinstance(call, Signature):
        said = _of_signature(call)
        if said == _SIGNATURE_SILENT:
            return usual
    else:
        said = _of_message(call)
        if said == _MESSAGE_SILENT:
            return usual
        said += _SIGNATURE_SILENT[len(said) :]
    return CallOptions(
        *[own if own is not None else of_task for own, of_task in zip(said, _of_signature(usual), strict=True)]
    )
