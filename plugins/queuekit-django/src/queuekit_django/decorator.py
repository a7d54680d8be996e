"""The decorator of tasks: that of Django, which type checkers know with the options of queuekit."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, Unpack, overload

from django.tasks import TaskContext
from django.tasks import task as make_task
from django.tasks.exceptions import InvalidTask

from queuekit_django.task_class import OptionsOfTask, QueuekitTask

__all__ = ["task"]

P = ParamSpec("P")
R = TypeVar("R")


class DecoratorOptions(OptionsOfTask, total=False):
    """Options of a task, with those of Django."""

    priority: int
    queue_name: str
    backend: str


class _Decorator(Protocol):
    """Makes a task with the parameters and the result of a function."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> QueuekitTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> QueuekitTask[P, R]: ...


class _WithContext(Protocol):
    """Makes a task of a function whose first parameter a worker fills."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext[Any, Any], P], Coroutine[Any, Any, R]], /
    ) -> QueuekitTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[TaskContext[Any, Any], P], R], /) -> QueuekitTask[P, R]: ...


@overload
def task(function: Callable[P, Coroutine[Any, Any, R]], /) -> QueuekitTask[P, R]: ...
@overload
def task(function: Callable[P, R], /) -> QueuekitTask[P, R]: ...
@overload
def task(*, takes_context: Literal[True], **options: Unpack[DecoratorOptions]) -> _WithContext: ...
@overload
def task(*, takes_context: Literal[False] = ..., **options: Unpack[DecoratorOptions]) -> _Decorator: ...
def task(function: Any = None, /, **options: Any) -> Any:
    """Make a task of a function, as the decorator of ``django.tasks`` does. Use it with options or without.

    Args:
        function: The function.
        **options: Those of Django, and those of :class:`~queuekit_django.task_class.QueuekitTask`.

    Raises:
        InvalidTask: A value is not valid, or another backend than that of queuekit serves the alias.
    """

    def decorate(body: Callable[..., Any]) -> Any:
        try:
            return make_task(**options)(body)
        except TypeError as error:
            from django.tasks import task_backends

            alias = options.get("backend", "default")
            if issubclass(task_backends[alias].task_class, QueuekitTask):
                raise
            text = f"{body.__module__}.{body.__qualname__}: TASKS[{alias!r}] is not of queuekit, so that {error}"
            raise InvalidTask(text) from error

    return decorate if function is None else decorate(function)
