"""The types of a task's arguments, as its annotations state them: checked at the send, and again when they arrive."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

from queuekit.errors import ArgumentsError
from queuekit.tasks.annotations import Names, annotations_of, evaluated, is_secret, names_of
from queuekit.tasks.conversion import (
    BUILD,
    LAX,
    STRICT,
    Convert,
    MismatchError,
    compiled,
    is_default,
    is_starting,
    is_structured,
)
from queuekit.values import frozen

__all__ = ["ArgumentTypes"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class ArgumentTypes:
    """Checks and converts the arguments of one task.

    Args:
        function: The task's function.
        parameters: Its parameters that callers fill.
        coerce: Whether text may stand for numbers, dates and members of enums.
        of: The task's name.
    """

    def __init__(
        self, function: Callable[..., Any], parameters: Sequence[inspect.Parameter], *, coerce: bool, of: str
    ) -> None:
        self._function = inspect.unwrap(function)
        self._parameters = parameters
        self._coerce = coerce
        self._task = of
        self._all: dict[str, Convert] | None = None
        self._structured: dict[str, Convert] = {}
        self._exact: tuple[Any, ...] = ()
        self._positional = tuple(each.name for each in parameters if each.kind in _POSITIONAL)
        self._rest = next((each.name for each in parameters if each.kind is each.VAR_POSITIONAL), "")
        self._more = next((each.name for each in parameters if each.kind is each.VAR_KEYWORD), "")
        self._defaults = {each.name: each.default for each in parameters}
        self._by_name = frozenset(each.name for each in parameters if each.kind in _NAMED)

    @property
    def idle(self) -> bool:
        """Whether no argument needs a check at the send and on arrival; false while the module is being imported."""
        self._read()
        return self._all is not None and not self._wanted

    @property
    def _wanted(self) -> dict[str, Convert]:
        return (self._all or {}) if self._coerce else self._structured

    def _read(self) -> None:
        if self._all is not None:
            return
        names, hints = names_of(self._function), annotations_of(self._function)
        found = {each.name: compiled(hints[each.name], names) for each in self._parameters if each.name in hints}
        chosen = {name: convert for name, convert in found.items() if convert is not None}
        self._structured = {name: chosen[name] for name in chosen if is_structured(hints[name], names)}
        self._exact = tuple(_scalar(hints.get(name), names) for name in self._positional)
        self._all = chosen
        if is_starting(getattr(self._function, "__module__", "")):
            self._late()

    def _late(self) -> None:
        """Forget what was read, since the module may yet define names that the annotations use."""
        self._all = None

    def at_send(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments to send: converted if the task coerces, else as they are.

        Raises:
            ArgumentsError: An argument does not fit its annotation; names it and the path inside it.
        """
        self._read()
        made = self._converted(args, kwargs, self._wanted, LAX if self._coerce else BUILD)
        return (tuple(made[0]), made[1]) if self._coerce else (args, kwargs)

    def on_arrival(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of a message as the annotations name them; see :meth:`at_send`."""
        self._read()
        return self._converted(args, kwargs, self._wanted, LAX if self._coerce else BUILD)

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise if an argument is not what its annotation says; see :meth:`at_send`."""
        if not kwargs and self._all is not None and (*map(type, args),) == self._exact[: len(args)]:
            return  # as most calls; the rest takes several microseconds
        self._read()
        self._converted(args, kwargs, self._all or {}, STRICT)

    def typed(
        self, args: Sequence[Sequence[Any]], kwargs: Mapping[str, Sequence[Any]]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments that somebody has typed: of each, the first of its readings that fits its annotation.

        What fits as it is comes before what has to be converted. Plain data for a class stays plain data.

        Args:
            args: The readings of each positional argument, the likeliest first.
            kwargs: Those of the others.

        Raises:
            ArgumentsError: No reading of an argument fits its annotation; names it and the path inside it.
        """
        self._read()
        known = self._all or {}
        wanted = {
            name: partial(_chosen, known.get(name), default, plain=name in self._structured)
            for name, default in self._defaults.items()
        }
        named = {name: _Typed(one) for name, one in kwargs.items()}
        return self._converted([_Typed(one) for one in args], named, wanted, LAX)

    def _converted(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], wanted: Mapping[str, Convert], mode: int
    ) -> tuple[list[Any], dict[str, Any]]:
        if not wanted:
            return [*args], {**kwargs}
        places = [*self._positional, *[self._rest] * (len(args) - len(self._positional))]
        made = [self._one(name, value, wanted, mode) for name, value in zip(places, args, strict=False)]
        named = {
            name: self._one(name if name in self._by_name else self._more, value, wanted, mode, shown=name)
            for name, value in kwargs.items()
        }
        return [*made, *args[len(made) :]], named

    def _one(self, name: str, value: Any, wanted: Mapping[str, Convert], mode: int, *, shown: str = "") -> Any:
        convert = wanted.get(name)
        if convert is None or is_default(value, self._defaults.get(name, inspect.Parameter.empty)):
            return value
        try:
            return convert(value, "", mode)
        except MismatchError as error:
            what = f"{error.path}: {error.what}"
            if is_secret(annotations_of(self._function).get(name), names_of(self._function)):
                what = ": its value, which is secret, does not fit its annotation"
            text = f"{self._task}() argument {shown or name!r}{what}"
            raise ArgumentsError(text) from None
        except RecursionError:
            return value  # too deep to check: the encoder refuses it with the limit


@frozen
class _Typed:
    """What somebody has typed for an argument."""

    readings: Sequence[Any]
    """What it may mean, the likeliest first."""


def _chosen(convert: Convert | None, default: Any, typed: _Typed, path: str, _mode: int, *, plain: bool) -> Any:
    """Return the reading that fits an annotation best; with *plain*, data for a class is not made an instance."""
    if convert is None:
        return typed.readings[0]
    problems: list[MismatchError] = []
    for step, reading in product((STRICT, BUILD, LAX), typed.readings):
        if is_default(reading, default):
            return reading
        try:
            made = convert(reading, path, step)
        except MismatchError as error:
            problems.append(error)
        else:
            return reading if plain and step == BUILD else made
    raise problems[-len(typed.readings)]


def _scalar(annotation: Any, names: Names) -> Any:
    """Return the type of the values that *annotation* certainly accepts, if it is that of a scalar."""
    found = evaluated(annotation, names) if isinstance(annotation, str) else annotation
    return found if found in _SCALARS else None


_SCALARS = (int, float, str, bytes, bool)
