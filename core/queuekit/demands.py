"""What an app's tasks ask of its broker and backend, held against what those can do; refused at start, not at night."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from queuekit.envelope import DEFAULT_PRIORITY
from queuekit.errors import CapabilityError
from queuekit.runtime import Runtime
from queuekit.task import Task

__all__ = ["demand", "refusals"]

_SHOWN = 3


def refusals(runtime: Runtime, tasks: Mapping[str, Task[..., Any]], schedules: Iterable[str] = ()) -> Iterator[str]:
    """Yield a line for each option of a task, and each schedule, that the engines cannot carry."""
    able, scheme = runtime.broker.capabilities, runtime.broker_url.scheme
    for name, task in sorted(tasks.items()):
        options = task.defaults
        wanted = {
            "unique": bool(options.unique),
            "priority": options.priority not in (None, DEFAULT_PRIORITY),
        }
        for option, wish in wanted.items():
            if wish and not getattr(able, option):
                yield f"{name} asks for {option}, which {scheme}:// cannot do"
        if options.track and runtime.backend is None:
            yield f"{name} asks for track, and there is no result backend to record it in"
    if runtime.backend is None:
        yield from (f"{name} is periodic, and there is no result backend to keep its ticks in" for name in schedules)


def demand(runtime: Runtime, tasks: Mapping[str, Task[..., Any]], schedules: Iterable[str] = ()) -> None:
    """Refuse to start with tasks and schedules that the engines cannot carry.

    Raises:
        CapabilityError: Names tasks, options and broker.
    """
    lines = list(refusals(runtime, tasks, schedules))
    if lines:
        more = [f"  ... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise CapabilityError(
            f"{runtime.broker_url} cannot carry what the app asks for",
            where="\n".join([f"  {line}" for line in lines[:_SHOWN]] + more),
            fix="Leave the option out, or use another broker; all of them:  queuekit check",
        )
