"""The registries of an app: its tasks, and the classes that messages may contain."""

from __future__ import annotations

import enum
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from queuekit.encoding.classes import shape_of
from queuekit.encoding.models import is_model
from queuekit.errors import QueuekitError, UnknownTaskError, did_you_mean
from queuekit.failure import Failure
from queuekit.forks import renew_in_forks
from queuekit.limits import Limit
from queuekit.serializer import type_name
from queuekit.signature import Sender
from queuekit.tasks.annotations import classes_in, fields_of
from queuekit.tasks.callables import DeclarationError, check_function, default_name, is_coroutine_function, place_of
from queuekit.tasks.task import AsyncTask, Task, TaskOptions

__all__ = ["DuplicateTaskError", "Tasks", "Types"]


_LISTED_FOR = 0.01
"""Seconds for which a list of subclasses is cached."""


class DuplicateTaskError(QueuekitError):
    """Two functions are registered under one name."""

    code = "QK213"
    exit_code = 3


class Tasks(Mapping[str, Task[..., Any]]):
    """The registered tasks, by name. A look-up also finds a task by an alias; iteration gives names only."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[..., Any]] = {}
        self._aliases: dict[str, str] = {}
        """Names of tasks by their earlier names."""
        self._executions: dict[str, object] = {}
        self.fair = False
        """Whether a task takes turns, so that all messages of the app have a lane."""

    def __getitem__(self, name: str) -> Task[..., Any]:
        try:
            return self._tasks[name]
        except KeyError:
            return self._tasks[self._aliases[name]]

    # Of Mapping, but each message looks its task up, and Mapping.get is twice as slow.
    def get(self, name: str, default: Any = None, /) -> Any:
        """Return the task of that name or alias, else *default*."""
        found = self._tasks.get(name)
        return found if found is not None else self._tasks.get(self._aliases.get(name, ""), default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def declare(
        self,
        function: Callable[..., Any],
        *,
        app: Sender,
        name: str | None,
        options: TaskOptions,
        aliases: tuple[str, ...] = (),
    ) -> Task[..., Any]:
        """Create a task from *function* and register it; messages that name one of its *aliases* run it too.

        Raises:
            DeclarationError: It cannot be a task, or it has no name and *name* is not given.
            DuplicateTaskError: Another function has the name or an alias.
        """
        if isinstance(function, Task):
            raise DeclarationError(f"{function.name} is already a task", fix="Write @app.task only once")
        check_function(function)
        kind = AsyncTask if is_coroutine_function(function) else Task
        chosen = default_name(function) if name is None else name
        task: Task[..., Any] = kind(function, app=app, name=chosen, options=options)
        self.add(task, aliases=aliases)
        return task

    def add(self, task: Task[..., Any], *, aliases: tuple[str, ...] = ()) -> None:
        """Register *task*; a function may be registered again when its module is reloaded.

        Raises:
            DuplicateTaskError: Another function has the name or one of *aliases*.
        """
        execution = _execution(task)
        for name in (task.name, *aliases):
            other = self.get(name)
            # Only a task under its own name can be a reloaded one.
            if other is not None and not (other.name == task.name and self._takes_over(task, other, execution)):
                raise DuplicateTaskError(
                    f"two tasks are named {name!r}",
                    where="  {} and {}".format(*_places(other.function, task.function)),
                    fix='Give one a name: @app.task(name="...")',
                )
        self._tasks[task.name] = task
        self.fair = self.fair or task.defaults.fair_by is not None
        self._executions[task.name] = execution
        self._aliases = {alias: name for alias, name in self._aliases.items() if name != task.name}
        self._aliases |= dict.fromkeys((alias for alias in aliases if alias != task.name), task.name)

    def _takes_over(self, task: Task[..., Any], other: Task[..., Any], execution: object) -> bool:
        """Return whether *task* may replace *other*: the same function, or the same one of a reloaded module."""
        if task.function is other.function:
            return task.defaults == other.defaults
        return place_of(task.function) == place_of(other.function) and execution is not self._executions[other.name]

    def limits(self) -> dict[str, Limit]:
        """Return the limits of all tasks, by name."""
        return {limit.named(task.name): limit for task in self.values() for limit in task.defaults.limits}

    def find(self, name: str) -> Task[..., Any]:
        """Return the task called *name*, or the only one whose name ends in ``.name``.

        Raises:
            UnknownTaskError: There is none, or there are several; suggests similar names.
        """
        if name in self:
            return self[name]
        ends = [full for full in self._tasks if full.endswith("." + name)]
        if len(ends) == 1:
            return self._tasks[ends[0]]
        if ends:
            raise UnknownTaskError(f"{name!r} could be {' or '.join(sorted(ends))}", fix="Write the whole name")
        short = {full.rpartition(".")[2]: full for full in self._tasks}
        hint = did_you_mean(name, [*self._tasks, *short]) or "Name one of the app's tasks"
        known = ", ".join(sorted(self._tasks)[:8]) or "none: the app has no tasks"
        raise UnknownTaskError(f"no task named {name!r}", fix=hint[0].upper() + hint[1:], available=known)


def _places(one: Any, two: Any) -> tuple[str, str]:
    """Return the qualified names of two functions, with their lines if the names are equal."""
    places = place_of(one), place_of(two)
    if places[0] != places[1]:
        return places
    lines = [getattr(getattr(function, "__code__", None), "co_firstlineno", "?") for function in (one, two)]
    return f"{places[0]} (line {lines[0]})", f"{places[1]} (line {lines[1]})"


def _execution(task: Task[..., Any]) -> object:
    """Return an object that identifies one execution of a task's module: its spec, which a reload replaces."""
    name = getattr(task.function, "__module__", None)
    if name == "__main__" and hasattr(sys, "ps1"):
        return object()  # at an interactive prompt, functions are redefined all the time
    return getattr(sys.modules.get(name or ""), "__spec__", None)


class Types:
    """The classes whose instances messages may contain.

    These are registered classes, classes in annotations of tasks and of the fields of such classes, and the subclasses
    of all of them.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._classes: dict[str, type] = {type_name(Failure): Failure}
        self._scanned: set[str] = set()
        self._subclasses: dict[str, type] = {}
        self._listed_at = -math.inf
        self.renew_in_fork()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Create a new lock: another thread of the parent may have held the old one."""
        self._lock = threading.Lock()

    def add(self, kind: type) -> None:
        """Register *kind* and the classes in the annotations of its fields.

        Raises:
            DeclarationError: Its instances cannot be sent.
        """
        problem = _problem(kind)
        if problem:
            raise DeclarationError(
                f"{getattr(kind, '__qualname__', kind)!s:.80} cannot be registered: {problem}",
                fix="Register an attrs class, a dataclass, a model or an Enum; send other values as plain data",
            )
        self._classes[type_name(kind)] = kind
        for inner in classes_in(kind) if fields_of(kind) else ():
            self._classes.setdefault(type_name(inner), inner)

    def find(self, name: str) -> type | None:
        """Return the class with *name* in messages, or ``None``; nothing is imported."""
        found = self._classes.get(name)
        if found is not None:
            return found
        with self._lock:
            if len(self._scanned) < len(self._tasks):
                self._scan()
            return self._classes.get(name) or self._find_subclass(name)

    def _scan(self) -> None:
        for name, task in list(self._tasks.items()):
            if name not in self._scanned:
                self._scanned.add(name)
                for kind in classes_in(task.function):
                    self._classes.setdefault(type_name(kind), kind)

    def _find_subclass(self, name: str) -> type | None:
        """Return a subclass of a known class, even if it was defined later.

        The list of all subclasses is cached for a moment, since a message may name any number of unknown classes.
        """
        if time.monotonic() - self._listed_at > _LISTED_FOR:
            self._subclasses = _subclasses_of(kind for kind in self._classes.values() if _is_own(kind))
            self._listed_at = time.monotonic()
        found = self._subclasses.get(name)
        if found is not None:
            self._classes[name] = found
        return found


def _subclasses_of(kinds: Iterable[type]) -> dict[str, type]:
    """Return all subclasses of *kinds*, by their names in messages."""
    found: dict[str, type] = {}
    pending = list(kinds)
    while pending:
        below: list[type] = type.__subclasses__(pending.pop())
        new = {type_name(kind): kind for kind in below if type_name(kind) not in found}
        found.update(new)
        pending.extend(new.values())
    return found


def _is_own(kind: type) -> bool:
    """Return whether a class is not from the standard library; subclasses of, say, ``object`` are not included."""
    return kind.__module__.partition(".")[0] not in sys.stdlib_module_names


def _problem(kind: Any) -> str:
    """Return why instances of *kind* cannot be sent; empty if they can."""
    if not isinstance(kind, type):
        return "it is not a class"
    if issubclass(kind, enum.Enum) or is_model(kind):
        return ""
    shape = shape_of(kind)
    return "it is neither an attrs class, a dataclass, a model nor an Enum" if shape is None else shape.problem
