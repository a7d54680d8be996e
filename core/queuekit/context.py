"""The context of a running task: passed to it by annotation, or read as the current one."""

from __future__ import annotations

import contextvars
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from queuekit.errors import OptionError
from queuekit.signature import Signature

__all__ = ["Context", "TaskLogFilter", "current", "of_context"]

_current: contextvars.ContextVar[Context | None] = contextvars.ContextVar("queuekit_context", default=None)

ReportProgress = Callable[[str, float, float | None, str], None]


class Context:
    """The run of a task's body. A task receives it by annotating its first parameter: ``ctx: Context``."""

    __slots__ = (
        "_begun",
        "_cancelled",
        "_made",
        "_report",
        "attempt",
        "generation",
        "headers",
        "id",
        "lost",
        "parent",
        "queue",
        "task",
        "worker",
    )

    def __init__(self, *, id: str, task: str, queue: str, attempt: int = 0, generation: int = 0) -> None:
        self.id = id
        """Id of the message."""
        self.task = task
        """Name of the task."""
        self.queue = queue
        """Queue that the message came from."""
        self.attempt = attempt
        """Attempts that ended in a retry before this one."""
        self.generation = generation
        """Times that the message was replayed from the dead letters."""
        self.headers: Mapping[str, str] = {}
        """Headers of the message: text by name."""
        self.parent: str | None = None
        """Id of the message whose success or error sent this one."""
        self.worker = ""
        """Name of the worker."""
        self.lost = False
        """Whether the lease is lost: another worker may run the message, and this outcome will be refused."""
        self._cancelled: bool | None = False
        """``None`` while it is being asked to stop."""
        self._report: ReportProgress | None = None
        self._begun: Callable[[Any], None] | None = None
        self._made: tuple[Any, ...] = ()

    @property
    def signature(self) -> Signature[Any] | None:
        """The call as it was sent, with the results it collected; ``None`` in a plain call of the function.

        It carries the message's id, and an id can be sent only once: ``.options(id=None).send()`` sends the same call
        again. Its position in a workflow is not part of it.
        """
        if not self._made:
            return None
        make, *parts = self._made
        call: Signature[Any] = make(*parts)
        return call

    @property
    def cancelled(self) -> bool:
        """Whether the task should stop: cancelled, timed out, lease lost, or the worker's drain time is over."""
        while self._cancelled is None:  # what is raised in the body must arrive before the body can see this
            time.sleep(0.0005)
        return self._cancelled

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Record how far the task is, for ``Result.progress``; costs a round trip, and is lost without a backend."""
        for name, value in (("done", done), ("total", total)):
            if value is not None and not hasattr(type(value), "__float__"):
                raise OptionError(f"progress: {name}: expected a number, got {value!r:.60}")
        if not isinstance(message, str):
            raise OptionError(f"progress: message: expected text, got {message!r:.60}")
        if self._report is None:
            return
        begun, self._begun = self._begun, None
        if begun is not None:
            begun(self)
        self._report(self.id, done, total, message)


def current() -> Context | None:
    """Return the context of the task that runs here, or ``None`` outside of tasks."""
    return _current.get()


def of_context(variables: contextvars.Context) -> Context | None:
    """Return the context of the task that *variables* belong to, or ``None`` outside of tasks."""
    return variables.get(_current)


def enter(context: Context) -> contextvars.Token[Any]:
    """Make *context* the current one; called by the worker."""
    return _current.set(context)


def leave(token: contextvars.Token[Any]) -> None:
    """Undo :func:`enter`."""
    _current.reset(token)


class TaskLogFilter(logging.Filter):
    """Adds ``task_id``, ``task``, ``queue``, ``attempt``, ``worker`` and ``pid`` to log records.

    On lines of a task these are those of its run, and on lines about events those of the event; elsewhere they are
    empty, and ``attempt`` is ``None``. What a record already has, by ``extra=``, stays.

    Args:
        worker: Name of the worker, for lines outside of tasks.
    """

    def __init__(self, worker: str = "") -> None:
        super().__init__()
        self.worker = worker

    def filter(self, record: logging.LogRecord) -> bool:
        """Add what the record lacks; never drops it."""
        had, context = vars(record), _current.get()
        event: Any = had.get("queuekit")
        found = _NOWHERE if context is None else _of_run(context)
        if isinstance(event, dict):
            found = {**found, **_of_event(event)}
        for name, value in found.items():
            had.setdefault(name, value)
        had.setdefault("worker", self.worker)
        had.setdefault("pid", record.process)
        had.setdefault("task_name", had["task"])
        return True


_OF_EVENT = (("task_id", "id"), ("task", "task"), ("queue", "queue"), ("attempt", "attempt"), ("worker", "worker"))
_NOWHERE: dict[str, Any] = {"task_id": "", "task": "", "queue": "", "attempt": None}


def _of_run(context: Context) -> dict[str, Any]:
    found = {"task_id": context.id, "task": context.task, "queue": context.queue, "attempt": context.attempt}
    return {**found, "worker": context.worker} if context.worker else found


def _of_event(event: dict[str, Any]) -> dict[str, Any]:
    """Return what an event says about its message and worker; ``id`` is that of the message."""
    found = {}
    for name, field in _OF_EVENT:
        value = event.get(field)
        if value is not None and value != "":
            found[name] = value
    return found
