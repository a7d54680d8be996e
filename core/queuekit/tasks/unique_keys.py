"""Unique keys of calls: equal for the same task and arguments, however the arguments are passed."""

from __future__ import annotations

import contextlib
import enum
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from queuekit.encoding.classes import shape_of, take_apart
from queuekit.encoding.models import ModelKind, is_struct, model_of
from queuekit.encoding.plain_json import SCALARS
from queuekit.errors import ArgumentsError, EncodeError, OptionError
from queuekit.serializer import type_name
from queuekit.signature import Signature
from queuekit.tasks.task import Task

__all__ = ["key_by", "key_of"]

Dumps = Callable[[Any], bytes]
_LEFT_OUT = object()
"""Stands for a default that cannot be sent: a call can only use it by leaving the argument out."""


def key_of(signature: Signature[Any], task: Task[..., Any] | None, dumps: Dumps) -> str:
    """Return the key of a call: its task, and a digest of the arguments as the function receives them.

    Passing by keyword, the order of keywords, dicts and sets, omitted defaults, and a value in place of what an
    annotation makes of it (``"red"`` for a member of an Enum, a dict for a model) make no difference. If the task is
    unknown here (called by name), the arguments count as written.

    Raises:
        EncodeError: An argument cannot be written.
    """
    if signature.each:
        calls, *rest = signature.args
        parts = [_call(task, (*call, *rest), signature.kwargs, dumps) for call in calls]
        return f"{signature.task}:{_hash('each', parts).hex()}"
    return f"{signature.task}:{_call(task, signature.args, signature.kwargs, dumps).hex()}"


def key_by(paths: Sequence[str], signature: Signature[Any], task: Task[..., Any] | None, dumps: Dumps) -> str | None:
    """Return the key of a call: its task, and a digest of the parts of its arguments that *paths* name.

    ``None`` if one of them is missing or ``None``: such calls are not duplicates of each other.

    Raises:
        EncodeError: A part cannot be written.
        OptionError: A path does not begin with a parameter of the task, or the task is unknown here and the call is not
            by name.
    """
    names = [path.partition(".")[0] for path in paths]
    if task is not None:
        task.parameters.check_names(names, of="to be unique by")
    elif not signature.kwargs.keys() >= set(names):
        text = f"{signature.task} is unknown here, so which of its arguments are {', '.join(names)} is unknown, too"
        raise OptionError(text, fix="Pass the arguments by name, or give the key:  UniqueKey(key=...)")
    several = [(*call, *signature.args[1:]) for call in signature.args[0]] if signature.each else [signature.args]
    parts: list[bytes] = []
    for args in several:
        arguments = _named(task, args, signature.kwargs)
        for path in paths:
            value = _part(arguments, path)
            if value is None:
                return None
            parts.append(_hash(path, [_digest(value, dumps)]))
    return f"{signature.task}:{_hash('by', parts).hex()}"


def _named(task: Task[..., Any] | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    if task is None:
        return kwargs
    if task.parameters.types is not None:
        with contextlib.suppress(ArgumentsError):  # as in _call()
            args, kwargs = _arriving(task, args, kwargs)
    return task.parameters.by_name(args, kwargs)


def _part(arguments: Mapping[str, Any], path: str) -> Any:
    value: Any = arguments
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
    return value


def _call(task: Task[..., Any] | None, args: tuple[Any, ...], kwargs: Mapping[str, Any], dumps: Dumps) -> bytes:
    if task is not None and task.parameters.types is not None:
        with contextlib.suppress(ArgumentsError):  # the send says so, or a follow-up lacks its last argument
            args, kwargs = _arriving(task, args, kwargs)
    bound = None if task is None else task.parameters.bind(args, kwargs)
    if bound is not None:
        given = set(bound.arguments)
        bound.apply_defaults()
        for name in bound.arguments.keys() - given:
            try:
                _digest(bound.arguments[name], dumps)
            except Exception:  # noqa: BLE001 - any reason why it cannot be sent
                bound.arguments[name] = _LEFT_OUT
        args, kwargs = bound.args, bound.kwargs
    return _hash("call", [_digest(list(args), dumps), _digest(dict(kwargs), dumps)])


def _arriving(
    task: Task[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return the arguments as the function receives them: ``"red"`` and ``Colour.RED`` are one call of it."""
    found, named = task.parameters.arrived([*args], dict(kwargs), each=False)
    return tuple(found), named


def _digest(value: Any, dumps: Dumps) -> bytes:
    """Return a digest that is equal for equal data, in whatever order dicts and sets were filled."""
    kind = type(value)
    if kind in {list, tuple}:
        return _hash(kind.__name__, [_digest(item, dumps) for item in value])
    if kind in {set, frozenset}:
        return _hash(kind.__name__, sorted(_digest(item, dumps) for item in value))
    if kind is dict:
        return _hash("dict", sorted(_digest(key, dumps) + _digest(item, dumps) for key, item in value.items()))
    if value is _LEFT_OUT:
        return _hash("default", ())
    if kind not in SCALARS:
        with contextlib.suppress(EncodeError, LookupError):  # JSON cannot write it, but another serializer may
            return _of_instance(value, dumps)
    return _hash("value", [dumps(value)])


def _of_instance(value: Any, dumps: Dumps) -> bytes:
    """Return the digest of an instance, field by field: the text of a set depends on the process.

    Raises:
        EncodeError: It cannot be taken apart.
        LookupError: It is not made of fields.
    """
    kind = type(value)
    shape = None if isinstance(value, enum.Enum | type) else shape_of(kind)
    if shape is not None:
        return _hash(type_name(kind), [_digest(part, dumps) for part in take_apart(value, shape)])
    model = model_of(kind)
    if model is None:
        raise LookupError
    return _of_model(value, model, dumps)


def _of_model(value: Any, model: ModelKind, dumps: Dumps) -> bytes:
    """Return the digest of a pydantic model or a msgspec struct; see :func:`_of_instance`."""
    kind = type(value)
    if is_struct(kind):
        fields, rest = {name: getattr(value, name) for name in kind.__struct_fields__}, None
    else:
        fields, rest = model.take_apart(value)
    parts = [_hash("name", [dumps(name), _field(value, model, name, fields[name], dumps)]) for name in fields]
    return _hash(type_name(kind), [*sorted(parts), dumps(rest)])


def _field(value: Any, model: ModelKind, name: str, item: Any, dumps: Dumps) -> bytes:
    try:
        return _digest(item, dumps)
    except EncodeError:
        return _digest(model.plain(value, name), dumps)


def _hash(kind: str, parts: Iterable[bytes]) -> bytes:
    found = hashlib.sha256(kind.encode("utf-8", "surrogatepass") + b"\0")
    for part in parts:
        found.update(len(part).to_bytes(8, "big"))
        found.update(part)
    return found.digest()[:16]
