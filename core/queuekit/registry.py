"""What an app knows by name: its tasks, and the classes that may come back out of a message."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

from queuekit.errors import QueuekitError, UnknownTaskError, did_you_mean
from queuekit.forks import renew_in_forks
from queuekit.serializer import type_name
from queuekit.task import Task

__all__ = ["DuplicateTaskError", "Tasks", "Types"]


class DuplicateTaskError(QueuekitError):
    """Two functions are registered under one name."""

    code = "QK213"
    exit_code = 3


class Tasks(Mapping[str, Task[..., Any]]):
    """The registered tasks, by name."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[..., Any]] = {}

    def __getitem__(self, name: str) -> Task[..., Any]:
        return self._tasks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Task[..., Any]) -> None:
        """Register *task*; the same function may come again, as when its module is reloaded.

        Raises:
            DuplicateTaskError: Another function has the name.
        """
        other = self._tasks.get(task.name)
        if other is not None and _place(other) != _place(task):
            where = f"  {_place(other)} and {_place(task)}"
            raise DuplicateTaskError(
                f"two tasks are named {task.name!r}", where=where, fix='Give one a name: @app.task(name="...")'
            )
        self._tasks[task.name] = task

    def find(self, name: str) -> Task[..., Any]:
        """Return the task called *name*, or whose name ends in ``.name`` if that is one alone.

        Raises:
            UnknownTaskError: None, or several; says which come near.
        """
        if name in self._tasks:
            return self._tasks[name]
        ends = [full for full in self._tasks if full.endswith("." + name)]
        if len(ends) == 1:
            return self._tasks[ends[0]]
        if ends:
            raise UnknownTaskError(f"{name!r} could be {' or '.join(sorted(ends))}", fix="Write the whole name")
        short = {full.rpartition(".")[2]: full for full in self._tasks}
        hint = did_you_mean(name, [*self._tasks, *short]) or "Name one of the app's tasks"
        known = ", ".join(sorted(self._tasks)[:8]) or "none: the app has no tasks"
        raise UnknownTaskError(f"no task named {name!r}", fix=hint[0].upper() + hint[1:], available=known)


def _place(task: Task[..., Any]) -> str:
    return f"{task.function.__module__}.{task.function.__qualname__}"


class Types:
    """The classes that may come back as themselves: those registered, and those that annotations of tasks name."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._classes: dict[str, type] = {}
        self._scanned: set[str] = set()
        self.renew_in_fork()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Begin with a lock that nobody holds."""
        self._lock = threading.Lock()

    def add(self, kind: type) -> None:
        """Let instances of *kind* come back as themselves."""
        self._classes[type_name(kind)] = kind

    def find(self, name: str) -> type | None:
        """Return the class that travels under *name*; it is never imported."""
        found = self._classes.get(name)
        if found is None and len(self._scanned) < len(self._tasks):
            with self._lock:
                self._scan()
            found = self._classes.get(name)
        return found

    def _scan(self) -> None:
        for name, task in list(self._tasks.items()):
            if name not in self._scanned:
                self._scanned.add(name)
                for kind in _named(task):
                    self.add(kind)


def _named(task: Task[..., Any]) -> Iterator[type]:
    """Yield the classes in the annotations of *task*, inside unions and containers too."""
    try:
        pending = list(get_type_hints(task.function).values())
    except (NameError, TypeError):
        pending = list(getattr(task.function, "__annotations__", {}).values())
    while pending:
        hint = pending.pop()
        pending.extend(get_args(hint))
        if isinstance(hint, type):
            yield hint
