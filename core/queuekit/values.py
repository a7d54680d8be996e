"""The decorator and the constructors of small classes; each message creates several instances of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import attrs

__all__ = ["quick_frozen", "quickly"]

P = ParamSpec("P")
T = TypeVar("T")

if TYPE_CHECKING:
    from attrs import frozen as quick_frozen
else:
    # `attrs.frozen` for type checkers. At run time a frozen class of ten fields takes four times as long to create, in
    # all 5 us per message, so nothing prevents writes to an instance; do not write to one.
    quick_frozen = partial(attrs.define, unsafe_hash=True, on_setattr=attrs.setters.NO_OP)


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
