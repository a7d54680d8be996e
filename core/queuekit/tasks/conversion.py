"""Checks values against annotations, and builds what an annotation names from plain data.

An annotation is compiled once to a function. What it cannot decide it accepts: ``Any``, type variables, protocols, and
names that exist only for type checkers.
"""

from __future__ import annotations

import enum
import re
import sys
import typing
import weakref
from collections import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType, UnionType
from typing import Annotated, Any, ForwardRef, Literal, NewType, Union, Unpack, get_args, get_origin
from uuid import UUID

from queuekit.encoding.classes import build, shape_of
from queuekit.encoding.models import is_model, validate, why
from queuekit.errors import with_article
from queuekit.tasks.annotations import Names, annotations_of, evaluated, is_unknown, names_of, parts_of

__all__ = [
    "BUILD",
    "LAX",
    "STRICT",
    "Convert",
    "MismatchError",
    "compiled",
    "is_default",
    "is_starting",
    "is_structured",
]

STRICT, BUILD, LAX = 0, 1, 2
"""How a value may differ from its annotation: not at all; plain data for a class; also text for a number."""

Convert = Callable[[Any, str, int], Any]
"""Takes a value, its path and how it may differ; returns the value that fits the annotation, or raises."""
_MOST_SHOWN = 40
_DEEPEST = 20
_PLAIN_ITEMS = frozenset({list, tuple, set, frozenset})
_WRAPPERS = frozenset({"ClassVar", "Final", "Required", "NotRequired", "ReadOnly", "InitVar"})
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,4000}\s*")
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


class MismatchError(ValueError):
    """A value does not fit an annotation."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(path, what)
        self.path = path
        self.what = what


def _reject(path: str, expected: str, value: Any) -> MismatchError:
    shown = f" {value!r:.{_MOST_SHOWN}}" if type(value) in {str, int, float, bool} else ""
    return MismatchError(path, f"expected {expected}, got {type(value).__name__}{shown}")


def is_structured(annotation: Any, names: Names) -> bool:
    """Return whether *annotation* names a class whose instances are made of fields, or an Enum."""
    return any(isinstance(part, type) and _is_made_of_parts(part) for part in parts_of(annotation, names))


def _is_made_of_parts(kind: Any) -> bool:
    return issubclass(kind, enum.Enum) or is_model(kind) or typing.is_typeddict(kind) or shape_of(kind) is not None


def compiled(annotation: Any, names: Names) -> Convert | None:
    """Return the function that checks values against *annotation*; ``None`` if it accepts anything."""
    name = _name_of(annotation)
    if name is None:
        return _compiled(annotation, names)
    if name not in names.compiled:
        again = names.compiled[name] = _Again()
        again.convert = names.compiled[name] = _compiled(annotation, names)
    found: Convert | None = names.compiled[name]
    return found


def _name_of(annotation: Any) -> Any:
    """Return what identifies an annotation that may contain itself: text, or an alias; ``None`` for any other."""
    if isinstance(annotation, str | ForwardRef):
        return annotation if isinstance(annotation, str) else annotation.__forward_arg__
    return annotation if not isinstance(annotation, type) and hasattr(annotation, "__value__") else None


class _Again:
    """Stands for a part of an annotation that is the annotation itself, such as ``JSON = list["JSON"] | str``."""

    convert: Convert | None = None

    def __call__(self, value: Any, path: str, mode: int) -> Any:
        return value if self.convert is None else self.convert(value, path, mode)


def _compiled(annotation: Any, names: Names) -> Convert | None:
    annotation = _unwrapped(annotation, names)
    if annotation is NoneType:
        return _none
    origin = get_origin(annotation)
    if origin is not None:
        return _generic(annotation, origin, names)
    return _of_class(annotation) if isinstance(annotation, type) else None


def _unwrapped(annotation: Any, names: Names) -> Any:
    """Return the type behind text, ``Annotated``, aliases and new types; ``Any`` if it is not known."""
    for _ in range(_DEEPEST):
        inner = _inside(annotation, names)
        if inner is annotation:
            break
        annotation = inner
    return annotation


def _inside(annotation: Any, names: Names) -> Any:
    text = annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else annotation
    if isinstance(text, str):
        found = evaluated(text.strip(), names)
        return found if found is not None or text.strip() == "None" else Any
    if annotation is None:
        return NoneType
    if get_origin(annotation) is Annotated or getattr(get_origin(annotation), "_name", "") in _WRAPPERS:
        return get_args(annotation)[0]
    if isinstance(annotation, NewType):
        return annotation.__supertype__
    return annotation if isinstance(annotation, type) else getattr(annotation, "__value__", annotation)


def _generic(annotation: Any, origin: Any, names: Names) -> Convert | None:
    args = get_args(annotation)
    if origin in {Union, UnionType}:
        return _union(args, names)
    if origin is Literal:
        return _literal(args)
    if _is_unpacked(annotation) or not isinstance(origin, type):
        return None
    make = _CONTAINERS.get(origin)
    if make is None or _is_bare(annotation):
        return _of_class(origin)
    return make(origin, args, names)


def _is_bare(annotation: Any) -> bool:
    """Return whether a container says nothing of its items, as ``typing.List`` does."""
    return not get_args(annotation) and (get_origin(annotation) is not tuple or annotation is typing.Tuple)  # noqa: UP006


def _is_unpacked(part: Any) -> bool:
    return get_origin(part) is Unpack or getattr(part, "__unpacked__", False) is True


def _none(value: Any, path: str, _mode: int) -> Any:
    if value is not None:
        raise _reject(path, "None", value)
    return value


def _literal(allowed: tuple[Any, ...]) -> Convert:
    def convert(value: Any, path: str, mode: int) -> Any:
        for each in allowed:
            if type(value) is type(each) and value == each:
                return value
        for each in allowed if mode != STRICT else ():
            if isinstance(each, enum.Enum) and type(value) is type(each.value) and value == each.value:
                return each
        raise _reject(path, f"one of {', '.join(map(repr, allowed))}", value)

    return convert


def _union(args: tuple[Any, ...], names: Names) -> Convert | None:
    found = [compiled(arg, names) for arg in args]
    members = [member for member in found if member is not None]
    if len(members) < len(args):
        return None
    alone = sum(member is not _none for member in members) == 1

    def convert(value: Any, path: str, mode: int) -> Any:
        problem: MismatchError | None = None
        for step in range(mode + 1):
            for member in members:
                try:
                    return member(value, path, step)
                except MismatchError as error:
                    problem = problem if member is _none else _further(problem, error)
        if problem is not None and (problem.path != path or (alone and isinstance(value, dict))):
            raise problem
        raise _reject(path, " or ".join(map(_named, args)), value)

    return convert


def _further(problem: MismatchError | None, error: MismatchError) -> MismatchError:
    """Return the one that got further into the value: it says most."""
    return error if problem is None or len(error.path) >= len(problem.path) else problem


def _named(annotation: Any) -> str:
    if annotation is NoneType or annotation is None:
        return "None"
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation).removeprefix("typing.")


def _items(kind: type, args: tuple[Any, ...], names: Names) -> Convert:
    each = compiled(args[0], names)

    def convert(value: Any, path: str, mode: int) -> Any:
        fits = isinstance(value, kind)
        if not fits and (mode == STRICT or type(value) not in _PLAIN_ITEMS):
            raise _reject(path, kind.__name__, value)
        made = _each(value, each, path, mode)
        return value if fits and (mode == STRICT or type(value) is not kind) else _filled(kind, made, path)

    return convert


def _each(items: Any, each: Convert | None, path: str, mode: int) -> list[Any]:
    """Return *items*, each converted."""
    if each is None:
        return list(items)
    return [each(item, f"{path}[{index}]", mode) for index, item in enumerate(items)]


def _filled(kind: Any, items: list[Any], path: str) -> Any:
    try:
        return kind(items)
    except TypeError:
        raise MismatchError(path, f"expected a {kind.__name__}, and an item cannot be in one") from None


def _iterable(kind: type, args: tuple[Any, ...], names: Names) -> Convert | None:
    """Return the function for an abstract container: it keeps the type of the value that the caller chose."""
    each = compiled(args[0], names)

    def convert(value: Any, path: str, mode: int) -> Any:
        as_set = mode != STRICT and issubclass(kind, abc.Set) and isinstance(value, list | tuple)
        if not as_set and not isinstance(value, kind):
            raise _reject(path, kind.__name__, value)
        if type(value) not in _PLAIN_ITEMS and not isinstance(value, str | bytes | dict):
            return value
        made = _each(value, each, path, mode)
        if mode == STRICT or type(value) not in _PLAIN_ITEMS:
            return value
        return _filled(set if as_set else type(value), made, path)

    return convert


def _tuple(kind: type, args: tuple[Any, ...], names: Names) -> Convert | None:
    if len(args) == 2 and args[1] is ...:  # noqa: PLR2004 - tuple[X, ...]
        return _items(kind, args, names)
    if any(map(_is_unpacked, args)):
        return _of_class(kind)
    parts = [compiled(arg, names) for arg in args]

    def convert(value: Any, path: str, mode: int) -> Any:
        if not isinstance(value, tuple) and (mode == STRICT or not isinstance(value, list)):
            raise _reject(path, "tuple", value)
        if len(value) != len(parts):
            raise MismatchError(path, f"expected a tuple of {len(parts)}, got {len(value)}")
        pairs = enumerate(zip(parts, value, strict=True))
        made = [_field(part, item, f"{path}[{index}]", mode) for index, (part, item) in pairs]
        return value if mode == STRICT else tuple(made)

    return convert


def _dict(kind: type, args: tuple[Any, ...], names: Names) -> Convert:
    key, each = (compiled(arg, names) for arg in args)

    def convert(value: Any, path: str, mode: int) -> Any:
        if not isinstance(value, kind):
            raise _reject(path, kind.__name__, value)
        if not isinstance(value, dict):
            return value
        made = {
            _field(key, name, f"{path} key {name!r}", mode): _field(each, item, f"{path}[{name!r}]", mode)
            for name, item in value.items()
        }
        return value if mode == STRICT or type(value) is not dict else made

    return convert


_CONTAINERS: dict[type, Callable[[type, tuple[Any, ...], Names], Convert | None]] = {
    **dict.fromkeys((list, set, frozenset), _items),
    **dict.fromkeys((dict, abc.Mapping, abc.MutableMapping), _dict),
    **dict.fromkeys((abc.Iterable, abc.Collection, abc.Sequence, abc.MutableSequence), _iterable),
    **dict.fromkeys((abc.Set, abc.MutableSet, abc.Container, abc.Reversible), _iterable),
    tuple: _tuple,
}
_classes: weakref.WeakKeyDictionary[type, Convert | None] = weakref.WeakKeyDictionary()


def _of_class(kind: type) -> Convert | None:
    try:
        return _classes[kind]
    except KeyError:
        found = _classes[kind] = _compiled_class(kind)
        return found


def _compiled_class(kind: Any) -> Convert | None:
    if is_unknown(kind) or kind in {object, Any} or getattr(kind, "_is_protocol", False):
        return None
    if typing.is_typeddict(kind):
        return _typed_dict(kind)
    if issubclass(kind, enum.Enum):
        return _enum(kind)
    if is_model(kind):
        return _model(kind)
    if shape_of(kind) is not None:
        return _Record(kind)
    return _plain(kind)


def _plain(kind: type) -> Convert | None:
    if hasattr(kind, "__get_pydantic_core_schema__"):
        return None  # as for EmailStr, whose values are of another class
    accepted = _ACCEPTED.get(kind, kind)
    read = _READERS.get(kind)

    def convert(value: Any, path: str, mode: int) -> Any:
        if isinstance(value, accepted):
            return value
        if mode == LAX and read is not None:
            try:
                return read(value)
            except (ValueError, ArithmeticError, TypeError):
                pass
        raise _reject(path, kind.__qualname__, value)

    return convert


def _enum(kind: Any) -> Convert:
    def convert(value: Any, path: str, mode: int) -> Any:
        if isinstance(value, kind):
            return value
        if mode != STRICT:
            for candidate in _candidates(value, mode):
                try:
                    return kind(candidate)
                except Exception:  # noqa: BLE001, S112 - the Enum's own code may raise anything
                    continue
            known = ", ".join(repr(member.value) for member in list(kind)[:6])
            raise _reject(path, f"{with_article(kind.__qualname__)} ({known})", value)
        raise _reject(path, kind.__qualname__, value)

    return convert


def _candidates(value: Any, mode: int) -> Iterator[Any]:
    yield value
    if mode == LAX and isinstance(value, str) and _INTEGER.fullmatch(value):
        yield int(value)


def _model(kind: Any) -> Convert:
    generic = (getattr(kind, "__pydantic_generic_metadata__", None) or {}).get("origin")

    def convert(value: Any, path: str, mode: int) -> Any:
        if isinstance(value, kind):
            return value
        # Pydantic reads a Page whose items fit as a Page[Item].
        if mode == STRICT and not (generic is not None and isinstance(value, generic)):
            raise _reject(path, kind.__qualname__, value)
        try:
            return validate(kind, value, lax=mode == LAX)
        except Exception as error:
            inside, text = why(error)
            raise MismatchError(path + inside, text) from error

    return convert


class _Fields:
    """The compiled annotations of the fields of a class, found at the first use, since classes may name each other."""

    def __init__(self, kind: type) -> None:
        self._kind = kind
        self._found: dict[str, Convert | None] | None = None
        self._required: list[str] | None = None

    def required(self) -> list[str]:
        """Return the keys that a TypedDict needs."""
        if self._required is None:
            # Annotations in source form hide their NotRequired from the class.
            hints, names = annotations_of(self._kind), names_of(self._kind)
            keys = self._kind.__required_keys__  # type: ignore[attr-defined]
            self._required = sorted(key for key in keys if not _may_be_missing(hints.get(key), names))
        return self._required

    def get(self) -> dict[str, Convert | None]:
        """Return the function of each annotated field."""
        if self._found is None:
            found: dict[str, Convert | None] = {}
            for owner in reversed(self._kind.__mro__):
                names = names_of(owner)
                found.update({name: compiled(hint, names) for name, hint in annotations_of(owner).items()})
            self._found = found
        return self._found


def _typed_dict(kind: Any) -> Convert:
    fields = _Fields(kind)

    def convert(value: Any, path: str, mode: int) -> Any:
        if not isinstance(value, dict):
            raise _reject(path, kind.__qualname__, value)
        for name in fields.required():
            if name not in value:
                raise MismatchError(f"{path}.{name}", f"{kind.__qualname__} needs this key")
        known = fields.get()
        made = {name: _field(known.get(name), item, f"{path}.{name}", mode) for name, item in value.items()}
        return value if mode == STRICT else made

    return convert


def _may_be_missing(hint: Any, names: Names) -> bool:
    text = hint.__forward_arg__ if isinstance(hint, ForwardRef) else hint
    if not isinstance(text, str):
        return False
    found = evaluated(text, names)
    origin = get_origin(get_args(found)[0] if get_origin(found) is Annotated else found)
    return getattr(origin, "_name", "") == "NotRequired" or "NotRequired[" in text


def _field(convert: Convert | None, value: Any, path: str, mode: int) -> Any:
    return value if convert is None else convert(value, path, mode)


class _Record:
    """Checks and builds instances of one attrs class or dataclass."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._fields = _Fields(kind)
        self._defaults = _defaults(kind)
        self._converted = {field.name for field in getattr(kind, "__attrs_attrs__", ()) if field.converter}

    def __call__(self, value: Any, path: str, mode: int) -> Any:
        shape = shape_of(self._kind)
        if isinstance(value, self._kind):
            for name in shape.names if shape is not None else ():
                self._one(name, getattr(value, name, _ABSENT), path, STRICT)
            return value
        if mode == STRICT or not isinstance(value, Mapping):
            raise _reject(path, self._kind.__qualname__, value)
        return self._built(dict(value), shape.arguments if shape is not None else (), path, mode)

    def _built(self, made: dict[Any, Any], arguments: Iterable[tuple[str, str, Any]], path: str, mode: int) -> Any:
        """Return an instance made of plain data."""
        for name, parameter, _ in arguments:
            item = made.pop(parameter, made.get(name, _ABSENT))
            if item is not _ABSENT:
                made[name] = item if name in self._converted else self._one(name, item, path, mode)
        try:
            return build(self._kind, made)
        except Exception as error:
            text = str(error)[:120] or type(error).__name__
            raise MismatchError(path, f"{self._kind.__qualname__}: {text}") from error

    def _one(self, name: str, value: Any, path: str, mode: int) -> Any:
        convert = self._fields.get().get(name)
        if convert is None or value is _ABSENT or is_default(value, self._defaults.get(name, _ABSENT)):
            return value
        return convert(value, f"{path}.{name}", mode)


_ABSENT = object()


def _defaults(kind: Any) -> dict[str, Any]:
    """Return the defaults of a class's fields: they are accepted whatever the annotation says."""
    fields = getattr(kind, "__attrs_attrs__", None) or kind.__dataclass_fields__.values()
    return {field.name: field.default for field in fields}


def is_default(value: Any, default: Any) -> bool:
    """Return whether *value* is *default*, or what a message makes of it."""
    if value is default:
        return True
    try:
        return type(value) is type(default) and bool(value == default)
    except Exception:  # noqa: BLE001 - the value's own code may raise anything
        return False


def _read_int(value: Any) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise ValueError


def _read_bool(value: Any) -> bool:
    if isinstance(value, str) and value.strip().lower() in _BOOLEANS:
        return _BOOLEANS[value.strip().lower()]
    if type(value) is int and value in {0, 1}:
        return bool(value)
    raise ValueError


def _of_text(read: Callable[[str], Any]) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        if not isinstance(value, str):
            raise TypeError
        return read(value.strip())

    return checked


def _read_decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError
    return Decimal(str(value).strip())


def _read_timedelta(value: Any) -> timedelta:
    return timedelta(seconds=_of_text(float)(value) if isinstance(value, str) else value)


_ACCEPTED: dict[type, tuple[type, ...]] = {float: (float, int), complex: (complex, float, int)}
_READERS: dict[type, Callable[[Any], Any]] = {
    int: _read_int,
    bool: _read_bool,
    float: _of_text(float),
    Decimal: _read_decimal,
    UUID: _of_text(UUID),
    datetime: _of_text(datetime.fromisoformat),
    date: _of_text(date.fromisoformat),
    time: _of_text(time.fromisoformat),
    timedelta: _read_timedelta,
}


def is_starting(module: str) -> bool:
    """Return whether *module* is still being imported, so that some of its names may not exist yet."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))
