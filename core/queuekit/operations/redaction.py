"""Hide the values of arguments that operators must not see: marked with ``Secret``, or named in ``redact``."""

from __future__ import annotations

import re
import typing
from collections.abc import Collection, Mapping
from typing import Annotated, Any, get_args, get_origin

import attrs

from queuekit.client.codec import Message
from queuekit.secret import Secret
from queuekit.tasks.callables import body_of
from queuekit.tasks.task import Task

__all__ = ["HIDDEN", "redacted"]

HIDDEN = "***"
"""Takes the place of a hidden value."""
_MARK = re.compile(r"\bSecret\b")
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
        if isinstance(value, list | tuple):
            return [self._named(None, item, depth + 1) for item in value]
        if attrs.has(type(value)) or hasattr(type(value), "__dataclass_fields__"):
            fields = [one.name for one in attrs.fields(type(value))] if attrs.has(type(value)) else []
            fields = fields or list(type(value).__dataclass_fields__)
            return {name: self._named(name, getattr(value, name, None), depth + 1) for name in fields}
        return value


def _marked(task: Task[..., Any]) -> frozenset[str]:
    """Return the names of the parameters that are marked."""
    function = body_of(task.function)
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - an annotation that only type checkers understand
        hints = dict(getattr(function, "__annotations__", {}))
    return frozenset(name for name, hint in hints.items() if _is_secret(hint))


def _is_secret(hint: Any) -> bool:
    if isinstance(hint, str):
        return _MARK.search(hint) is not None
    if get_origin(hint) is Annotated:
        return any(mark is Secret or isinstance(mark, Secret) for mark in hint.__metadata__) or _is_secret(
            get_args(hint)[0]
        )
    return any(_is_secret(part) for part in get_args(hint) if not isinstance(part, list | tuple | str))
