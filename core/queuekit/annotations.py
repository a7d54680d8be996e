"""The classes that annotations name. Each is read by itself: one that means nothing at run time spoils no other."""

from __future__ import annotations

import ast
import builtins
import enum
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, ForwardRef, get_args, get_origin

__all__ = ["classes_in", "fields_of", "hints_of", "names_context"]

_FORWARDREF = 3
"""Since Python 3.14: what cannot be resolved yet is a reference, no error."""
_MOST = 10_000
"""Parts of annotations that are looked at, so that one that leads to itself ends."""


class _Absent(type):
    """Of a name that is missing at run time: whatever is made of it is as good as any type."""

    def __getattr__(cls, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(name)
        return cls

    def __getitem__(cls, _item: Any) -> Any:
        return cls


class _Nothing(metaclass=_Absent):
    """Stands for what only type checkers know."""


class _Names(dict[str, Any]):
    """The names of a module, to which no name is unknown."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, _Nothing)


def hints_of(thing: Any) -> Iterator[Any]:
    """Yield the annotations of a function, or of a class with its bases; each resolved as far as it can be."""
    owners = thing.__mro__ if isinstance(thing, type) else [inspect.unwrap(thing)]
    for owner in owners:
        names = _names_of(owner)
        for annotation in _annotations(owner).values():
            yield from _resolved(annotation, names)


def _annotations(owner: Any) -> Mapping[str, Any]:
    if sys.version_info >= (3, 14):
        read: Any = inspect.get_annotations
        found: Mapping[str, Any] = read(owner, format=_FORWARDREF)
        return found
    if isinstance(owner, type):  # its own, not those of a base
        return vars(owner).get("__annotations__") or {}
    return getattr(owner, "__annotations__", None) or {}


def _names_of(owner: Any) -> _Names:
    if isinstance(owner, type):
        module = sys.modules.get(owner.__module__)
        return _Names({**(vars(module) if module else {}), **vars(owner)})
    names = _Names(getattr(owner, "__globals__", {}))
    code, cells = getattr(owner, "__code__", None), getattr(owner, "__closure__", None) or ()
    for name, cell in zip(getattr(code, "co_freevars", ()), cells, strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # not yet bound
            continue
    return names


def _resolved(annotation: Any, names: _Names) -> Iterator[Any]:
    """Yield what *annotation* names, itself and inside unions, containers and aliases."""
    pending = [annotation]
    for _ in range(_MOST):
        if not pending:
            return
        part = pending.pop()
        text = part.__forward_arg__ if isinstance(part, ForwardRef) else part
        if isinstance(text, str):
            pending.append(_evaluated(text, names))
            continue
        yield part
        pending += [each for each in (get_origin(part), *_parts(part)) if each is not None]


def _parts(part: Any) -> tuple[Any, ...]:
    """Return what a type is made of: its arguments, and what a NewType, an alias or a type variable stands for."""
    inner: list[Any] = []
    for item in get_args(part):
        inner += item if isinstance(item, list) else [item]
    # Of a member, as in Literal[Colour.RED], the class.
    inner = [type(item) if isinstance(item, enum.Enum) else item for item in inner]
    for attribute in ("__supertype__", "__value__", "__bound__", "__constraints__"):
        found = None if isinstance(part, type) else getattr(part, attribute, None)
        inner += found if isinstance(found, tuple) else [found]
    return tuple(inner)


def _evaluated(text: str, names: _Names) -> Any:
    try:
        return eval(text, {"__builtins__": {}}, names)  # noqa: S307 - the annotation is part of the user's own code
    except Exception:  # noqa: BLE001 - what cannot be resolved names no class
        return None


def classes_in(thing: Any) -> Iterator[type]:
    """Yield the classes in the annotations of *thing*, and in those of the fields of these classes, and so on."""
    seen: set[int] = set()
    pending = [thing]
    while pending:
        for part in hints_of(pending.pop()):
            if isinstance(part, type) and part is not _Nothing and id(part) not in seen:
                seen.add(id(part))
                yield part
                if fields_of(part):
                    pending.append(part)


def fields_of(kind: Any) -> bool:
    """Return whether the annotations of a class say what its instances hold."""
    marks = ("__attrs_attrs__", "__dataclass_fields__", "__total__", "_fields")
    return any(hasattr(kind, mark) for mark in marks)


def names_context(annotation: str, function: Callable[..., Any], *, name: str, package: str) -> bool:
    """Return whether a text that cannot be resolved names what *package* calls *name*, imported for type checkers."""
    head, *rest = annotation.strip("'\" ").split(".")
    target = _imported(inspect.unwrap(function).__module__).get(head)
    if target is None:
        return False
    whole = ".".join([target, *rest])
    return whole.partition(".")[0] == package and whole.rpartition(".")[2] == name


@lru_cache(maxsize=64)
def _imported(module: str) -> dict[str, str]:
    """Return what the source of *module* imports, inside ``if`` blocks too: local name -> full name."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except Exception:  # noqa: BLE001 - no source, no answer
        return {}
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found.update({one.asname or one.name: f"{node.module}.{one.name}" for one in node.names})
        elif isinstance(node, ast.Import):
            for one in node.names:
                first = one.name.partition(".")[0]
                found[one.asname or first] = one.name if one.asname else first
    return found
