"""The tasks of this backend: those of Django, with the options of queuekit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypedDict, TypeVar, Unpack, cast

from django.tasks.base import Task

from queuekit.limits import Limit
from queuekit.retry import Backoff
from queuekit.tasks.task import Task as RegisteredTask
from queuekit.tasks.task import TaskOptions
from queuekit.unique import UniqueKey
from queuekit.wire.call_options import Duration, known

__all__ = ["CALL_OPTIONS", "OptionsOfCall", "OptionsOfTask", "QueuekitTask", "call_options", "level_of", "task_options"]

P = ParamSpec("P")
R = TypeVar("R")

_USUAL = 4
"""The level of priority 0, which is the default of Django as this one is of queuekit."""


class OptionsOfCall(TypedDict, total=False):
    """Options that one call may set, so that messages carry them; workers read the others where a task is declared."""

    retries: int
    retry: Backoff
    timeout: Duration
    expires: Duration
    on_unknown: Literal["hold", "drop", "dead"]
    ignore_result: bool
    unique: UniqueKey | bool | str
    broker: Mapping[str, Any]


class OptionsOfTask(OptionsOfCall, total=False):
    """Options of a task."""

    retry_on: type | Iterable[type]
    dont_retry: type | Iterable[type]
    time_limit: Duration
    pool: Literal["process", "thread"]
    limits: Sequence[Limit]
    track: bool
    ack: Literal["late", "early"]


CALL_OPTIONS = tuple(OptionsOfCall.__annotations__)
"""The names of :class:`OptionsOfCall`."""

if TYPE_CHECKING:
    _Base = Task
else:

    class _Base(Task):
        """A task that takes type arguments, which only the stubs of Django know."""

        __slots__ = ()

        def __class_getitem__(cls, _arguments: Any) -> Any:
            return cls


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuekitTask(_Base[P, R]):
    """A task of Django with the options of :class:`~queuekit.tasks.task.TaskOptions`; ``None`` leaves an option out.

    :func:`~queuekit_django.decorator.task` makes one where the backend of the alias is
    :class:`~queuekit_django.backend.QueuekitBackend`, and so does the decorator of Django.
    """

    retries: int | None = None
    retry: Backoff | None = None
    retry_on: type | Iterable[type] | None = None
    dont_retry: type | Iterable[type] | None = None
    timeout: Duration | None = None
    time_limit: Duration | None = None
    pool: Literal["process", "thread"] | None = None
    expires: Duration | None = None
    on_unknown: Literal["hold", "drop", "dead"] | None = None
    ignore_result: bool | None = None
    unique: UniqueKey | bool | str | None = None
    broker: Mapping[str, Any] | None = None
    limits: Sequence[Limit] | None = None
    track: bool | None = None
    ack: Literal["late", "early"] | None = None

    @property
    def registered(self) -> RegisteredTask[P, R]:
        """The same task as queuekit knows it: for workflows, schedules, and assertions of tests.

        Raises:
            OptionError: A value of ``OPTIONS`` is not valid.
        """
        from queuekit_django.aliases import app_of

        return cast("RegisteredTask[P, R]", app_of(self.backend).tasks[self.module_path])

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | None = None,
        backend: str | None = None,
        **options: Unpack[OptionsOfCall],
    ) -> QueuekitTask[P, R]:
        """Return a task with other defaults; *options* are those that a call may set, e.g. ``retries=0``.

        Raises:
            InvalidTask: The backend refuses a value.
            OptionError: An option does not exist, or belongs to the task as a whole.
        """
        known(options, CALL_OPTIONS, of=f"{self.name}.using()")
        given = {"priority": priority, "queue_name": queue_name, "run_after": run_after, "backend": backend}
        changes: dict[str, Any] = {**options, **{name: value for name, value in given.items() if value is not None}}
        return replace(self, **changes)


_OPTIONS = (*CALL_OPTIONS, *OptionsOfTask.__annotations__)


def level_of(priority: int) -> int:
    """Return the level of queuekit, 0 (last) to 9 (first), for a priority of Django, -100 to 100.

    Negative priorities share levels 0 to 3, by 25; 0 is 4; positive ones share 5 to 9, by 20.
    """
    return _USUAL + (ceil(priority / 20) if priority > 0 else -ceil(-priority / 25))


def task_options(task: Task) -> TaskOptions:
    """Return the options under which *task* is registered with the app.

    Raises:
        OptionError: A value is not valid.
    """
    chosen = {name: getattr(task, name, None) for name in _OPTIONS}
    given = {name: value for name, value in chosen.items() if value is not None}
    return TaskOptions(queue=task.queue_name, priority=level_of(task.priority), **given)


def call_options(task: Task, declared: Task) -> dict[str, Any]:
    """Return the options that a call of *task* carries, since they are not those of *declared*, which workers know."""
    if task is declared:
        return {}
    found: dict[str, Any] = {}
    for name in CALL_OPTIONS:
        value = getattr(task, name, None)
        if value is not None and value != getattr(declared, name, None):
            found[name] = value
    if task.queue_name != declared.queue_name:
        found["queue"] = task.queue_name
    if task.priority != declared.priority:
        found["priority"] = level_of(task.priority)
    return found
