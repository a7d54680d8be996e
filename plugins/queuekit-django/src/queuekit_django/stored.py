"""What is stored of a call of Django beside its message and its result: arguments, time, and each failed run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs
from django.tasks.base import TaskError

from queuekit.backend import Record
from queuekit.client.runtime import Runtime
from queuekit.envelope import join_frame, split_frame
from queuekit.errors import DecodeError
from queuekit.failure import describe
from queuekit.states import State, rank

__all__ = ["DjangoCall", "FailedRun", "call_key", "own_frames", "read_call"]

_PATH = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)
_LONGEST_PATH = 500
_OURS = frozenset({"queuekit", "queuekit_django"})
_MOST_RUNS = 50
"""Failed runs that are kept: the last ones."""


def call_key(id: str) -> str:
    """Return the key of what is stored of a call."""
    return "django:" + id


def own_frames(error: BaseException) -> BaseException:
    """Return *error* without the frames of queuekit that its traceback begins with."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        frames = frames.tb_next
    return error if frames is None else error.with_traceback(frames)


@attrs.frozen(kw_only=True)
class FailedRun:
    """A run that raised.

    Attributes:
        generation: Replays of the message before it.
        attempt: Attempts that ended in a retry before it.
        worker: Name of the worker.
        at: UTC epoch seconds at which it began.
        path: Dotted path of the class of its error.
        traceback: Traceback of its error.
    """

    generation: int
    attempt: int
    worker: str
    at: float
    path: str
    traceback: str = attrs.field(repr=False)

    @classmethod
    def of(cls, error: BaseException, *, place: tuple[int, int], worker: str, at: float) -> FailedRun:
        """Return the run of generation and attempt *place* that raised *error*."""
        kind = type(error)
        path, text = f"{kind.__module__}.{kind.__qualname__}", describe(own_frames(error))["traceback"]
        return cls(generation=place[0], attempt=place[1], worker=worker, at=at, path=path, traceback=text)

    @property
    def error(self) -> TaskError:
        """The error, as Django shows it."""
        return TaskError(exception_class_path=self.path, traceback=self.traceback)


@attrs.frozen(kw_only=True)
class DjangoCall:
    """A call, as :meth:`Task.enqueue` made it.

    Attributes:
        task: Name of the task.
        args: Positional arguments, JSON.
        kwargs: Arguments by name, JSON.
        priority: Django's, -100 to 100.
        queue: Its queue.
        run_after: Earliest start.
        enqueued_at: Time of the call.
        runs: Its failed runs, the first one first.
        held_by: Id of the message that stands for the call, since it held the unique key; empty if none does.
    """

    task: str
    args: list[Any] = attrs.field(factory=list, repr=False)
    kwargs: dict[str, Any] = attrs.field(factory=dict, repr=False)
    priority: int = 0
    queue: str = ""
    run_after: datetime | None = None
    enqueued_at: datetime | None = None
    runs: tuple[FailedRun, ...] = ()
    held_by: str = ""

    def failed(self, run: FailedRun) -> DjangoCall:
        """Return the call with one more failed run; one that was delivered again replaces itself."""
        others = [one for one in self.runs if (one.generation, one.attempt) != (run.generation, run.attempt)]
        return attrs.evolve(self, runs=(*others, run)[-_MOST_RUNS:])

    def record(self, id: str, runtime: Runtime, *, delay: float = 0.0) -> Record:
        """Return it as a record, which outlives the result by once the time that results are kept."""
        last = self.runs[-1] if self.runs else None
        place = 0 if last is None else rank(State.RETRY, attempt=last.attempt, generation=last.generation)
        ttl = delay + 2 * runtime.config.results_expire
        fields = {**attrs.asdict(self, recurse=False), "runs": [attrs.asdict(run) for run in self.runs]}
        body = join_frame({"v": 1}, json.dumps(fields, default=datetime.isoformat).encode())
        record = Record(key=call_key(id), body=body, ttl=ttl, rank=place, task=self.task)
        return record if runtime.signing is None else runtime.signing.signed_record(record)


def read_call(record: Record | None, runtime: Runtime) -> DjangoCall | None:
    """Return the call in *record*; ``None`` without one, or if it is damaged or not signed as the settings ask."""
    if record is None:
        return None
    try:
        if runtime.signing is not None:
            runtime.signing.check_record(record)
        fields = json.loads(split_frame(record.body)[1])
        return DjangoCall(
            task=_typed(fields, "task", str),
            args=_typed(fields, "args", list),
            kwargs=_typed(fields, "kwargs", dict),
            priority=_typed(fields, "priority", int),
            queue=_typed(fields, "queue", str),
            run_after=_moment(fields["run_after"]),
            enqueued_at=_moment(fields["enqueued_at"]),
            runs=tuple(map(_read_run, _typed(fields, "runs", list)[-_MOST_RUNS:])),
            held_by=_typed({"held_by": "", **fields}, "held_by", str),
        )
    except (DecodeError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _read_run(fields: Any) -> FailedRun:
    run = FailedRun(
        generation=_typed(fields, "generation", int),
        attempt=_typed(fields, "attempt", int),
        worker=_typed(fields, "worker", str),
        at=float(fields["at"]),
        path=_typed(fields, "path", str),
        traceback=_typed(fields, "traceback", str),
    )
    if len(run.path) > _LONGEST_PATH or not _PATH.fullmatch(run.path):
        raise ValueError("not the path of a class")
    return run


def _typed(fields: Mapping[str, Any], name: str, kind: type) -> Any:
    value = fields[name]
    if type(value) is not kind:
        raise ValueError(f"{name} is not a {kind.__name__}")
    return value


def _moment(value: Any) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)
