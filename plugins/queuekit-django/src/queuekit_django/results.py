"""Results as Django shows them, made of what queuekit stores of a message."""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from django.tasks.base import Task, TaskError, TaskResult, TaskResultStatus
from django.tasks.exceptions import InvalidTask
from django.utils.json import normalize_json

from queuekit.serializer import Serializer
from queuekit.states import State
from queuekit.wire.records import Info
from queuekit_django.stored import DjangoCall, FailedRun

__all__ = ["fill", "moment_of", "new_result", "plain", "result_of", "sent_at"]

_STATUS = {
    State.STARTED: TaskResultStatus.RUNNING,
    State.SUCCESS: TaskResultStatus.SUCCESSFUL,
    State.FAILURE: TaskResultStatus.FAILED,
    State.CANCELLED: TaskResultStatus.FAILED,
    State.EXPIRED: TaskResultStatus.FAILED,
    State.DEAD: TaskResultStatus.FAILED,
}
"""Statuses by state; all others are READY."""
_ID = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-")


def moment_of(seconds: float | None) -> datetime | None:
    """Return UTC epoch *seconds* as a datetime."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def sent_at(id: str) -> datetime | None:
    """Return when a message was made, which its id says; ``None`` if the caller chose the id."""
    found = _ID.match(id)
    return None if found is None else datetime.fromtimestamp(int(found[1] + found[2], 16) / 1000, UTC)


def new_result(task: Task, id: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, alias: str) -> TaskResult:
    """Return the result of a call that is to be sent.

    Raises:
        TypeError: An argument is not JSON.
    """
    return TaskResult(
        task=task,
        id=id,
        status=TaskResultStatus.READY,
        enqueued_at=None,
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=list(args),
        kwargs=dict(kwargs),
        backend=alias,
        errors=[],
        worker_ids=[],
    )


def plain(value: Any) -> Any:
    """Return an argument that a workflow has passed as JSON; as text if it cannot be, e.g. a ``Failure``."""
    try:
        return normalize_json(value)
    except TypeError:
        return repr(value)


def fill(result: TaskResult, **values: Any) -> None:
    """Set fields of *result*, which is frozen for its readers only."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


def result_of(
    task: Task, info: Info, call: DjangoCall | None, *, alias: str, accepted: Mapping[str, Serializer]
) -> TaskResult:
    """Return the result of the message of *info*.

    Args:
        task: Its task, as declared.
        info: What its record says.
        call: What was stored of its call; ``None`` if it was sent by other means, or that has expired.
        alias: Alias of the backend.
        accepted: Serializers of return values, by content type.

    Raises:
        DecodeError: The return value cannot be read here.
        TypeError: It is not JSON: the task is not Django's.
    """
    known = call or DjangoCall(task=info.task, queue=info.queue)
    result = new_result(_as_called(task, known), info.id, known.args, known.kwargs, alias=alias)
    status = _STATUS.get(info.state, TaskResultStatus.READY)
    starts = [run.at for run in known.runs] + ([] if info.started is None else [info.started])
    fill(
        result,
        status=status,
        enqueued_at=known.enqueued_at or moment_of(info.sent),
        started_at=moment_of(min(starts, default=None)),
        last_attempted_at=moment_of(max(starts, default=None)),
        finished_at=moment_of(info.finished) if info.done else None,
        errors=[*(run.error for run in known.runs), *_other_error(info, known.runs)],
        worker_ids=workers_of(known.runs, info),
    )
    if status is TaskResultStatus.SUCCESSFUL:
        fill(result, _return_value=normalize_json(info.value(accepted)))
    return result


def workers_of(runs: Sequence[FailedRun], info: Info) -> list[str]:
    """Return the workers that have run a message, one for each run."""
    workers, seen = [run.worker for run in runs], {(run.generation, run.attempt) for run in runs}
    current = info.worker and (info.generation, info.attempt) not in seen
    return [*workers, info.worker] if current else workers


def _as_called(task: Task, call: DjangoCall) -> Task:
    """Return *task* as it was called; as it is declared if the settings refuse that now."""
    changed: dict[str, Any] = {
        "priority": call.priority,
        "queue_name": call.queue or task.queue_name,
        "run_after": call.run_after,
    }
    if all(getattr(task, name) == value for name, value in changed.items()):
        return task
    try:
        return replace(task, **changed)
    except InvalidTask:
        return task


def _other_error(info: Info, runs: Sequence[FailedRun]) -> list[TaskError]:
    """Return the error that ended a message outside of a body, e.g. a crash of its process, if one did."""
    failed = _STATUS.get(info.state) is TaskResultStatus.FAILED
    if not failed or any((run.generation, run.attempt) == (info.generation, info.attempt) for run in runs):
        return []
    text = f"{info.error_type}: {info.error}".strip(": ") or str(info.state)
    return [TaskError(exception_class_path=_class_of(info), traceback=info.traceback or f"{text}\n")]


def _class_of(info: Info) -> str:
    """Return the path of a class for the error in *info*, which names the class without its module."""
    if info.state is State.CANCELLED:
        return "queuekit.errors.TaskCancelled"
    kind = getattr(builtins, info.error_type, None)
    known = isinstance(kind, type) and issubclass(kind, BaseException)
    return f"builtins.{info.error_type}" if known else "queuekit.errors.TaskFailed"
