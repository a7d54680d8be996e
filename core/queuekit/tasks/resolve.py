"""The options of one call: what the call says, else what its task says, else the default."""

from __future__ import annotations

from datetime import datetime
from operator import attrgetter
from typing import Any, Protocol

from queuekit.envelope import Unique
from queuekit.retry import Backoff
from queuekit.signature import Signature
from queuekit.tasks.task import Task, TaskOptions
from queuekit.values import quick_frozen

__all__ = ["DEFAULTS", "CallOptions", "resolve"]


@quick_frozen
class CallOptions:
    """Options of a call that says more than its task; each means what it means in :class:`TaskOptions`."""

    retries: int
    retry: Backoff
    timeout: float | None
    ignore_result: bool
    queue: str | None
    priority: int | None
    expires: datetime | float | None
    unique: Unique | bool | str | None


class Call(Protocol):
    """A signature, or a message that has travelled: its queue, priority, expiry and key stand in the envelope."""

    @property
    def ignore_result(self) -> bool | None:
        """Whether nothing is stored about it; ``None`` leaves that to the task."""
        ...


DEFAULTS = TaskOptions()
"""Options of a task that says nothing."""
_of_message = attrgetter("retries", "retry", "timeout", "ignore_result")
_of_signature = attrgetter("retries", "retry", "timeout", "ignore_result", "queue", "priority", "expires", "unique")
_MESSAGE_SILENT, _SIGNATURE_SILENT = (None,) * 4, (None,) * 8


def resolve(call: Call, task: Task[..., Any] | None, *, otherwise: TaskOptions = DEFAULTS) -> TaskOptions | CallOptions:
    """Return the options of *call*: what it says, else what *task* says, else the default.

    Args:
        call: A signature, or a message as a worker reads it.
        task: Its task; ``None`` if that is not known here.
        otherwise: Stands in for the options of a task that is not known here.
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
        said += _MESSAGE_SILENT
    return CallOptions(
        *[own if own is not None else of_task for own, of_task in zip(said, _of_signature(usual), strict=True)]
    )
