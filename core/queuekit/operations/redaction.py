"""Hide the values of arguments that operators must not see: marked with ``Secret``, or named in ``redact``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from types import FunctionType
from typing import Any

import attrs

from queuekit.client.codec import Message
from queuekit.encoding.classes import shape_of
from queuekit.encoding.models import is_pydantic, is_struct
from queuekit.tasks.annotations import Names, annotations_of, classes_in, fields_of, is_secret, names_of, parts_of
from queuekit.tasks.callables import body_of
from queuekit.tasks.task import Task

__all__ = ["HIDDEN", "hidden_parameters", "redacted"]

HIDDEN = "***"
"""Takes the place of a hidden value."""
_DEEPEST = 50
"""Levels of nested values that are searched; what is deeper is hidden."""


def redacted(message: Message, task: Task[..., Any] | None, names: Collection[str]) -> tuple[Message, bool]:
    """Return *message* with hidden arguments, and whether there are any.

    Args:
        message: A message that has been opened.
        task: Its task; ``None`` if the app does not know it. Then nobody knows the names of positional arguments, and
            all of them are hidden if there are *names*.
        names: Names of arguments, and of keys inside arguments, whose values are hidden; in upper or lower case.
    """
    wanted = frozenset(name.casefold() for name in names)
    secret = _marked(task) if task is not None else frozenset()
    if not wanted and not secret:
        return message, False
    hide = _Hide(wanted)
    args = [hide.argument(name, value, secret) for name, value in _positional(message, task, secret | wanted)]
    kwargs = {name: hide.argument(name, value, secret) for name, value in message.kwargs.items()}
    if not hide.hid:
        return message, False
    return attrs.evolve(message, args=args, kwargs=kwargs, source=None, is_open=True), True


def hidden_parameters(task: Task[..., Any], names: Collection[str]) -> frozenset[str]:
    """Return the parameters of *task* whose values are hidden; *names* as for :func:`redacted`."""
    wanted = {name.casefold() for name in names}
    return _marked(task) | {name for name in task.parameters.names if name.casefold() in wanted}


def _positional(message: Message, task: Task[..., Any] | None, hidden: Collection[str]) -> list[tuple[str | None, Any]]:
    """Return the positional arguments with their names; ``None`` for one whose name is not known.

    The names of further ones are that of ``*args``. With ``each``, the only argument holds those of many calls.
    """
    if task is None:
        return [(None, value) for value in message.args]
    names = task.parameters.names
    if message.each:
        hides = any(name in hidden or name.casefold() in hidden for name in names)
        return [(None if hides else "", value) for value in message.args]
    last = names[-1] if names else ""
    return [(names[place] if place < len(names) else last, value) for place, value in enumerate(message.args)]


class _Hide:
    """Hides values, and remembers whether it did."""

    def __init__(self, wanted: Collection[str]) -> None:
        self._wanted = wanted
        self.hid = False

    def argument(self, name: str | None, value: Any, secret: Collection[str]) -> Any:
        """Return *value* unless the argument is secret, or has no known name."""
        return self.hidden() if name is None or name in secret else self._named(name, value, 0)

    def hidden(self) -> str:
        """Return what takes the place of a value."""
        self.hid = True
        return HIDDEN

    def _named(self, name: Any, value: Any, depth: int) -> Any:
        if depth > _DEEPEST or (isinstance(name, str) and name.casefold() in self._wanted):
            return self.hidden()
        return self._inside(value, depth)

    def _inside(self, value: Any, depth: int) -> Any:
        if isinstance(value, Mapping):
            return {key: self._named(key, item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._named(None, item, depth + 1) for item in value]
        fields = _fields_of(type(value))
        if fields is not None:
            extra: Any = getattr(value, "__pydantic_extra__", None)
            items = {name: getattr(value, name, None) for name in fields} | (extra or {})
            return {name: self._named(name, item, depth + 1) for name, item in items.items()}
        return value


def _fields_of(kind: Any) -> Iterable[str] | None:
    """Return the names of the fields of a class; ``None`` if its instances have none."""
    shape = shape_of(kind)
    if shape is not None:
        return shape.names
    if is_pydantic(kind):
        return tuple(kind.__pydantic_fields__)
    return tuple(kind.__struct_fields__) if is_struct(kind) else None


def _marked(task: Task[..., Any]) -> frozenset[str]:
    """Return the names of the parameters that are marked, or that hold instances of classes with marked fields."""
    function = body_of(task.function)
    return _marked_in(function) if isinstance(function, FunctionType) else _marked_in.__wrapped__(function)


@lru_cache(maxsize=256)
def _marked_in(function: Callable[..., Any]) -> frozenset[str]:
    names = names_of(function)
    return frozenset(name for name, hint in annotations_of(function).items() if _hides(hint, names))


def _hides(hint: Any, names: Names) -> bool:
    if is_secret(hint, names):
        return True
    kinds = {part for part in parts_of(hint, names) if isinstance(part, type) and fields_of(part)}
    inner = {each for kind in kinds for each in classes_in(kind) if fields_of(each)}
    owners = {owner for kind in kinds | inner for owner in kind.__mro__}
    return any(is_secret(each, names_of(owner)) for owner in owners for each in annotations_of(owner).values())
