"""The decorators and the constructors of classes that are data.

attrs writes and compiles ``__eq__``, ``__hash__`` and ``__repr__`` for each class. That took a fifth of the start of a
worker, so the classes of queuekit share one of each, with the same results.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import attrs

__all__ = ["define", "frozen", "quick_frozen", "quickly"]

P = ParamSpec("P")
T = TypeVar("T")


@cache
def _reader(kind: Any, use: str) -> Callable[[Any], Any]:
    """Return the function that reads from an instance of *kind* the fields that count for *use*: ``eq`` or ``hash``."""
    names = [one.name for one in attrs.fields(kind) if (one.eq if getattr(one, use) is None else getattr(one, use))]
    return attrgetter(*names) if names else lambda _instance: ()


def _equal(self: Any, other: Any) -> Any:
    kind = self.__class__
    if other.__class__ is not kind:
        return NotImplemented
    read = _reader(kind, "eq")
    return read(self) == read(other)


def _hash(self: Any) -> int:
    return hash((self.__class__, _reader(self.__class__, "hash")(self)))


@recursive_repr()
def _text(self: Any) -> str:
    shown = []
    for one in attrs.fields(self.__class__):
        if one.repr:
            text = repr if one.repr is True else one.repr
            shown.append(f"{one.name}={text(getattr(self, one.name))}")
    return f"{self.__class__.__qualname__.rpartition('>.')[2]}({', '.join(shown)})"


def _data(kind: Any = None, *, decorate: Any, hash_by: Any = _hash, **options: Any) -> Any:
    """Decorate *kind* as *decorate* would, with the shared methods; methods that *kind* has of its own stay."""
    if kind is None:
        return partial(_data, decorate=decorate, hash_by=hash_by, **options)
    shared: dict[str, Any] = {"__repr__": _text}
    if options.get("eq", True):
        shared |= {"__eq__": _equal, "__hash__": hash_by}
    for name, method in shared.items():
        if name not in vars(kind):
            setattr(kind, name, method)
    return decorate(kind, **{**options, "eq": False, "repr": False})


if TYPE_CHECKING:
    from attrs import define, frozen
    from attrs import frozen as quick_frozen
else:
    define = partial(_data, decorate=attrs.define, hash_by=None)
    frozen = partial(_data, decorate=attrs.frozen)
    # `attrs.frozen` for type checkers. At run time a frozen class of ten fields takes four times as long to create, in
    # all 5 us per message, so nothing prevents writes to an instance; do not write to one.
    quick_frozen = partial(_data, decorate=attrs.define, on_setattr=attrs.setters.NO_OP)


def quickly(kind: Callable[P, T], *, trusted: bool = False) -> Callable[P, T]:
    """Return a function that creates instances of the attrs class *kind* like the class itself, in a third of the time.

    Python builds a dict of the keyword arguments of a call of a class, but not of a call of a function.

    Args:
        kind: The class; it may be frozen.
        trusted: Whether all values that callers pass are already valid and converted, so that both may be skipped.

    Raises:
        TypeError: A field has a validator or a converter, which this would skip, and callers are not *trusted*.
    """
    fields: tuple[Any, ...] = getattr(kind, "__attrs_attrs__")  # noqa: B009 - no type checker knows *kind* as a class
    checked = [one.name for one in fields if one.validator is not None or one.converter is not None]
    if not trusted and (checked or hasattr(kind, "__attrs_post_init__")):
        raise TypeError(f"{kind!r} checks or converts {checked}: create it by its own constructor")
    names: dict[str, Any] = {"kind": kind, "draft": _writable(kind), "new": object.__new__}
    heads, lines = [], ["self = new(draft)"]
    for one in fields:
        given: Any = one.default
        heads.append(one.alias if given is attrs.NOTHING else f"{one.alias}=of_{one.name}")
        made = hasattr(given, "factory")
        names[f"of_{one.name}"] = getattr(given, "factory", given)
        value = f"of_{one.name}() if {one.alias} is of_{one.name} else {one.alias}" if made else one.alias
        lines.append(f"self.{one.name} = {value}")
    if names["draft"] is not kind:
        lines.append("self.__class__ = kind")
    body = "\n    ".join([*lines, "return self"])
    exec(f"def create({'*, ' if fields[0].kw_only else ''}{', '.join(heads)}):\n    {body}", names)  # noqa: S102 - as attrs
    create: Callable[P, T] = names["create"]
    return create


def _writable(kind: Any) -> Any:
    """Return *kind*, or if it is frozen a subclass whose instances are not; they become instances of *kind* when full.

    An assignment takes a tenth of the time of ``object.__setattr__``, by which attrs fills a frozen instance.
    """
    if kind.__setattr__ is object.__setattr__:
        return kind
    # Both, since Python has one slot for the two, which is slow if only one of them is the usual one.
    usual = {"__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    return type(kind.__name__, (kind,), {"__slots__": (), **usual})
