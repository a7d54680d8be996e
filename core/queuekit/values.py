"""The decorators and the constructors of classes that are data.

attrs writes and compiles ``__eq__``, ``__hash__`` and ``__repr__`` for each class. That took a fifth of the start of a
worker, so the classes of queuekit share one of each, with the same results. All else that attrs makes, the constructor
above all, a plain class gets when it is first used: most classes that a program imports, it never uses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property, partial
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from weakref import WeakSet

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


class _Late:
    """Stands in a class for one of ``_LATE``; all of them are made when one is first asked for.

    Args:
        draft: The class as it was written, of which attrs makes them.
        decorate: The decorator that does.
    """

    __slots__ = ("_decorate", "_draft", "_name", "_owner")

    def __init__(self, draft: Any, decorate: Callable[[Any], Any]) -> None:
        self._draft, self._decorate = draft, decorate

    def __set_name__(self, owner: Any, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, instance: Any, owner: Any) -> Any:
        made = vars(self._decorate(self._draft))
        for name in _LATE:
            if isinstance(vars(self._owner).get(name), _Late):  # else another thread was quicker
                setattr(self._owner, name, made.get(name))
        found = vars(self._owner)[self._name]
        return found.__get__(instance, owner) if hasattr(found, "__get__") else found


_LATE = ("__init__", "__attrs_attrs__", "__match_args__", "__getstate__", "__setstate__")
"""What a class needs of attrs only if it is used."""
_OWN = frozenset({*_LATE, "__setattr__", "__delattr__", "__slots__", "__init_subclass__"})
_FIELD = type(attrs.field())
_slim = WeakSet[Any]()
"""The classes with ``_Late``."""
_FROZEN: Any = attrs.frozen(type("_Frozen", (), {}))


def _is_plain(kind: Any, *, frozen: bool) -> bool:
    """Return whether attrs would only add slots and ``_LATE`` to *kind*, and refuse writes if it is frozen."""
    names, values = kind.__annotations__, vars(kind)
    return not (
        any(base is not object and base not in _slim for base in kind.__bases__)
        or any(name in values for name in _OWN)
        or any(str(text).startswith(("ClassVar", "typing.ClassVar")) for text in names.values())
        or any(isinstance(one, _FIELD) and not (frozen and name in names) for name, one in values.items())
        or any(hasattr(base, name) for base in kind.__bases__ for name in names)
        or any(map(_knows_its_class, values.values()))
    )


def _knows_its_class(value: Any) -> bool:
    """Return whether a method has a reference to its class, which attrs corrects; or attrs treats it specially."""
    function = getattr(value, "fget", getattr(value, "__func__", value))
    return isinstance(value, cached_property) or "__class__" in getattr(
        getattr(function, "__code__", None), "co_freevars", ()
    )


def _slotted(kind: Any, shared: dict[str, Any], decorate: Callable[[Any], Any], *, frozen: bool) -> Any:
    """Return the class that attrs would make of *kind*, which is plain; what is left out is made when it is used."""
    names = tuple(kind.__annotations__)
    slots = names if kind.__bases__ != (object,) else (*names, "__weakref__")
    content = {name: value for name, value in vars(kind).items() if name not in {*names, "__dict__", "__weakref__"}}
    if frozen:
        content |= {"__setattr__": _FROZEN.__setattr__, "__delattr__": _FROZEN.__delattr__}
    content |= {name: method for name, method in shared.items() if name not in content}
    content |= {"__slots__": slots, **{name: _Late(kind, decorate) for name in _LATE}}
    made = type(kind)(kind.__name__, kind.__bases__, content)
    _slim.add(made)
    return made


def _data(kind: Any = None, *, decorate: Any, hash_by: Any = _hash, **options: Any) -> Any:
    """Decorate *kind* as *decorate* would, with the shared methods; methods that *kind* has of its own stay."""
    if kind is None:
        return partial(_data, decorate=decorate, hash_by=hash_by, **options)
    shared: dict[str, Any] = {"__repr__": _text}
    if options.get("eq", True):
        shared |= {"__eq__": _equal, "__hash__": hash_by}
    made = partial(decorate, **{**options, "eq": False, "repr": False})
    frozen, free = decorate is attrs.frozen, "on_setattr" in options
    if options.keys() <= {"eq", "kw_only", "on_setattr"} and _is_plain(kind, frozen=frozen or free):
        return _slotted(kind, shared, made, frozen=frozen)
    for name, method in shared.items():
        if name not in vars(kind):
            setattr(kind, name, method)
    return made(kind)


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
