"""What an app's tasks ask of its broker and backend, held against what those can do; refused at start, not at night."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from queuekit.client.runtime import Runtime
from queuekit.envelope import DEFAULT_PRIORITY
from queuekit.errors import CapabilityError
from queuekit.tasks.task import Task

__all__ = ["require", "require_shared", "unmet_requirements"]

_SHOWN = 3


def unmet_requirements(
    runtime: Runtime, tasks: Mapping[str, Task[..., Any]], schedules: Iterable[str] = ()
) -> Iterator[str]:
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


def require(runtime: Runtime, tasks: Mapping[str, Task[..., Any]], schedules: Iterable[str] = ()) -> None:
    """Refuse to start with tasks and schedules that the engines cannot carry.

    Raises:
        CapabilityError: Names tasks, options and broker.
    """
    lines = list(unmet_requirements(runtime, tasks, schedules))
    if lines:
        more = [f"  ... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise CapabilityError(
            f"{runtime.broker_url} cannot carry what the app asks for",
            where="\n".join([f"  {line}" for line in lines[:_SHOWN]] + more),
            fix="Leave the option out, or use another broker; all of them:  queuekit check",
        )


def require_shared(runtime: Runtime) -> None:
    """Refuse engines that live inside one process.

    Raises:
        CapabilityError: Broker or backend is one; what one process does there, no other sees.
    """
    sides = [("broker", runtime.broker.capabilities.processes, runtime.broker_url)]
    if runtime.backend is not None and runtime.backend_url is not None:
        sides.append(("backend", runtime.backend.capabilities.processes, runtime.backend_url))
    for side, shared, url in sides:
        if not shared:
            raise CapabilityError(
                f"{url.scheme}:// lives inside one process; what one does there, no other sees",
                where=f'{side} = "{url}" from {runtime.config.origin(side)}',
                fix=f'Name one that processes share, e.g.  {side} = "sqlite:///.queuekit.db"',
            )
