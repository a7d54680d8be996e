"""Converts members of enums that the app does not know to their plain values, if an annotation asks for those.

``signal.SIGTERM`` is an int: sent to ``number: int``, it arrives as 15, which is equal to it. Without such an
annotation the intent is unclear, so the member is rejected.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import attrs

from queuekit.errors import EncodeError
from queuekit.signature import Signature
from queuekit.tasks.annotations import hint_of
from queuekit.tasks.task import Task

__all__ = ["plain_call", "plain_result"]

Dumps = Callable[[Any], bytes]
_BASES: dict[Any, tuple[type, ...]] = {int: (int,), float: (float, int), str: (str,)}
"""Types of values that an annotation accepts; an int is valid for float."""


def plain_call(signature: Signature[Any], task: Task[..., Any], dumps: Dumps) -> Signature[Any]:
    """Return *signature* with plain values for members that cannot be sent, if the task's annotations ask for those."""
    names = task.parameters.names
    hints = [hint_of(task.function, name) for name in names]
    args = tuple(_plain(value, hint, dumps) for value, hint in zip(signature.args, hints, strict=False))
    kwargs = {name: _plain(value, hint_of(task.function, name), dumps) for name, value in signature.kwargs.items()}
    return attrs.evolve(signature, args=(*args, *signature.args[len(args) :]), kwargs=kwargs)


def plain_result(value: Any, task: Task[..., Any], dumps: Dumps) -> Any:
    """Like :func:`plain_call`, for a task's result."""
    return _plain(value, hint_of(task.function, "return"), dumps)


def _plain(value: Any, hint: Any, dumps: Dumps) -> Any:
    for kind in _alternatives(hint):
        found = _member(value, kind, dumps) if isinstance(value, enum.Enum) else _inside(value, kind, dumps)
        if found is not value:
            return found
    return value


def _alternatives(hint: Any) -> Iterable[Any]:
    origin = get_origin(hint)
    if origin is Annotated:
        yield from _alternatives(get_args(hint)[0])
    elif origin in {Union, UnionType}:
        for part in get_args(hint):
            yield from _alternatives(part)
    else:
        yield hint


def _member(member: enum.Enum, kind: Any, dumps: Dumps) -> Any:
    base = next((base for base in _BASES.get(kind, ()) if isinstance(member, base)), None)
    if base is None or _can_be_sent(member, dumps):
        return member
    # Bypass conversions that the class may override, such as __str__.
    write: Any = {int: int.__int__, float: float.__float__, str: str.__str__}[base]
    found = write(member)
    return found if found == member else member


def _can_be_sent(value: Any, dumps: Dumps) -> bool:
    try:
        dumps(value)
    except EncodeError:
        return False
    return True


def _inside_dict(value: dict[Any, Any], parts: tuple[Any, ...], dumps: Dumps) -> dict[Any, Any]:
    if len(parts) != 2:  # noqa: PLR2004 - the types of keys and values
        return value
    return {_plain(key, parts[0], dumps): _plain(item, parts[1], dumps) for key, item in value.items()}


def _inside(value: Any, hint: Any, dumps: Dumps) -> Any:
    """Return a container with plain values inside; unchanged if the annotation does not type its items."""
    kind, parts = type(value), get_args(hint)
    if not parts or kind not in {list, tuple, set, frozenset, dict}:
        return value
    if kind is dict:
        return _inside_dict(value, parts, dumps)
    each = parts if kind is tuple and len(parts) == len(value) and parts[-1] is not ... else parts[:1] * len(value)
    return kind(_plain(item, part, dumps) for item, part in zip(value, each, strict=True))
