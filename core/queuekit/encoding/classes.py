"""Takes instances of attrs classes and dataclasses apart, and rebuilds them through their constructors.

The reader always calls the constructor, so that the validation of a class also applies to hostile messages. So the
sender must find out whether the constructor would rebuild the instance unchanged.
"""

from __future__ import annotations

import inspect
import math
import weakref
from collections.abc import Mapping
from typing import Any

from queuekit.errors import EncodeError
from queuekit.values import frozen

__all__ = ["Shape", "build", "shape_of", "take_apart"]

_RULES = ("__post_init__", "__attrs_post_init__", "__attrs_pre_init__")
"""Methods of a class that may change the values given to its constructor."""


@frozen(kw_only=True)
class Shape:
    """How instances of one class are taken apart and rebuilt."""

    arguments: tuple[tuple[str, str, bool], ...]
    """For each field that the constructor takes: its name, its parameter, and whether that is keyword-only."""
    others: tuple[str, ...]
    """Fields that the constructor does not take."""
    tried: bool
    """Whether the class may have its own validation, so that the sender must try to rebuild the instance."""
    content: type | None = None
    """``dict`` or ``list`` if instances are themselves one."""
    seeded: bool = False
    """Whether the constructor needs values that instances do not keep (``InitVar``); then it is not called."""
    problem: str = ""
    """Why instances cannot be sent; empty if they can."""

    @property
    def names(self) -> tuple[str, ...]:
        """All fields."""
        return (*(name for name, _, _ in self.arguments), *self.others)


_shapes: weakref.WeakKeyDictionary[type, Shape | None] = weakref.WeakKeyDictionary()


def shape_of(kind: type) -> Shape | None:
    """Return the shape of an attrs class or a dataclass, ``None`` for any other class."""
    try:
        return _shapes[kind]
    except KeyError:
        shape = _shapes[kind] = _made(kind)
        return shape


def _made(kind: type) -> Shape | None:
    fields = _attrs_fields(kind) if "__attrs_attrs__" in dir(kind) else _dataclass_fields(kind)
    if fields is None:
        return None
    taken = tuple((name, parameter, by_name) for name, parameter, by_name in fields if parameter)
    others = tuple(name for name, parameter, _ in fields if not parameter)
    content, problem = _content(kind)
    seeds = _seeds(kind)
    if not problem:
        problem = _constructor_problem(kind, {parameter for _, parameter, _ in taken} | seeds)
    missing = _required(kind) & seeds if not problem else set()
    return Shape(
        arguments=taken,
        others=others,
        tried=_has_rules(kind),
        content=content,
        seeded=bool(missing),
        problem=problem,
    )


def _attrs_fields(kind: Any) -> list[tuple[str, str, bool]]:
    """Return name, parameter (empty if there is none), and whether it is keyword-only, for each field."""
    return [
        (field.name, (field.alias or field.name.lstrip("_")) if field.init else "", bool(field.kw_only))
        for field in kind.__attrs_attrs__
    ]


def _dataclass_fields(kind: type) -> list[tuple[str, str, bool]] | None:
    if not isinstance(getattr(kind, "__dataclass_fields__", None), Mapping):
        return None
    import dataclasses

    fields = dataclasses.fields(kind)
    return [(field.name, field.name if field.init else "", bool(field.kw_only)) for field in fields]


def _seeds(kind: Any) -> set[str]:
    """Return the parameters whose values a dataclass does not keep."""
    fields = getattr(kind, "__dataclass_fields__", None) or {}
    return {name for name, field in fields.items() if field._field_type.name == "_FIELD_INITVAR"}  # noqa: SLF001


def _parameters(kind: type) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(kind).parameters.values())
    except (TypeError, ValueError):
        return None


def _required(kind: type) -> set[str]:
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = _parameters(kind) or []
    return {each.name for each in found if each.default is each.empty and each.kind not in free}


def _constructor_problem(kind: type, known: set[str]) -> str:
    """Return why the constructor cannot be called with the fields; empty if it can."""
    found = _parameters(kind)
    if found is None:
        return "its constructor has no readable signature"
    if inspect.isabstract(kind):
        return "it is abstract"
    if others := sorted(_required(kind) - known):
        return f"its constructor takes {others[0]!r}, which is not a field"
    if any(each.kind is each.VAR_KEYWORD for each in found):
        return ""
    if lost := sorted(known - {each.name for each in found}):
        return f"its constructor does not take the field {lost[0]!r}"
    return ""


def _content(kind: type) -> tuple[type | None, str]:
    """Return the container type that instances derive from, and why they cannot be sent if they derive from others."""
    builtins = [base for base in kind.__mro__ if base.__module__ in {"builtins", "collections"} and base is not object]
    bases = [base for base in builtins if not issubclass(base, BaseException)]
    if not bases:
        return None, ""
    if bases in ([dict], [list]):
        return bases[0], ""
    return None, f"it also derives from {bases[0].__name__}"


def _has_rules(kind: Any) -> bool:
    if any(hasattr(kind, name) for name in _RULES) or kind.__new__ is not object.__new__:
        return True
    if any(field.converter or field.validator for field in getattr(kind, "__attrs_attrs__", ())):
        return True
    own = next(base for base in kind.__mro__ if "__init__" in vars(base))
    generated = "__attrs_attrs__" in vars(own) or "__dataclass_fields__" in vars(own)
    return not generated or not _is_generated(vars(own)["__init__"])


def _is_generated(function: Any) -> bool:
    """Return whether attrs or dataclasses generated a constructor; generated code has no file."""
    return getattr(getattr(function, "__code__", None), "co_filename", "").startswith("<")


def take_apart(value: Any, shape: Shape) -> tuple[dict[str, Any], Any]:
    """Return the fields of an instance by name, and its content if it is itself a container.

    Raises:
        EncodeError: The constructor would not rebuild it unchanged; says why.
    """
    if shape.problem:
        raise EncodeError(shape.problem)
    fields = {name: getattr(value, name) for name in shape.names if hasattr(value, name)}
    for name, parameter, _ in shape.arguments:
        if name not in fields:
            raise EncodeError(f"its field {parameter!r} is missing")
    content = shape.content(value) if shape.content is not None else None
    extra = _extra(value, shape)
    if shape.seeded:
        return {**fields, **extra}, content
    if shape.tried or extra:
        _try(value, shape, fields, content, extra)
    return fields, content


def _extra(value: Any, shape: Shape) -> dict[str, Any]:
    """Return the attributes of an instance that are neither fields nor provided by its class."""
    kept = getattr(value, "__dict__", None)
    if not kept or kept.keys() <= {*shape.names}:
        return {}
    kind, names = type(value), shape.names
    return {key: item for key, item in kept.items() if key not in names and key[:2] != "__" and not hasattr(kind, key)}


def _try(value: Any, shape: Shape, fields: dict[str, Any], content: Any, extra: Mapping[str, Any]) -> None:
    try:
        twin = build(type(value), fields, content)
    except Exception as error:
        raise EncodeError(f"its constructor rejects its own fields: {str(error)[:120]}") from error
    for name, _, _ in shape.arguments:
        if not _is_same(getattr(twin, name, None), fields[name]):
            raise EncodeError(f"its constructor changes {name!r}, so it would not be rebuilt unchanged")
    for name in extra:
        if not hasattr(twin, name):
            raise EncodeError(f"{name!r} is not a field, so it would be lost")


def _is_same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if type(one) is float and math.isnan(one):
        return math.isnan(other)
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - values that cannot be compared count as different
        return False


def build(kind: Any, fields: Mapping[str, Any], content: Any = None) -> Any:
    """Return an instance rebuilt from *fields*, which are untrusted, by the constructor of its class.

    Unknown fields are dropped and missing ones get their defaults, since another version of the class may have written
    them.

    Raises:
        Exception: Any error of the class.
    """
    shape = shape_of(kind)
    assert shape is not None  # noqa: S101 - called only for classes with a shape
    if shape.problem:
        raise ValueError(shape.problem)
    made = _restored(kind, shape.names, fields) if shape.seeded else _called(kind, shape, fields)
    if shape.content is dict and content is not None:
        dict.clear(made)
        dict.update(made, content)
    elif shape.content is list and content is not None:
        list.__setitem__(made, slice(None), content)
    return made


def _called(kind: Any, shape: Shape, fields: Mapping[str, Any]) -> Any:
    by_place: list[Any] = []
    by_name: dict[str, Any] = {}
    in_a_row = True
    for name, parameter, only_by_name in shape.arguments:
        if name not in fields:
            in_a_row = False
        elif in_a_row and not only_by_name:
            by_place.append(fields[name])
        else:
            by_name[parameter] = fields[name]
    made = kind(*by_place, **by_name)
    for name in shape.others:
        if name in fields:
            object.__setattr__(made, name, fields[name])
    return made


def _restored(kind: Any, names: tuple[str, ...], fields: Mapping[str, Any]) -> Any:
    made = kind.__new__(kind)
    for name, item in fields.items():
        if name not in names and (name[:2] == "__" or hasattr(kind, name)):
            raise ValueError("an attribute of the class is not a field")
        object.__setattr__(made, name, item)
    for name in names:
        if not hasattr(made, name):
            raise ValueError(f"the field {name!r} is missing")
    return made
