"""Converts raw values from files, environment and URLs to the annotated fields of an attrs class, and reports problems.

Settings and plugin options use the same conversion: text that parses as the annotated type is accepted, so a number can
come from an environment variable or a URL as well as from TOML.
"""

from __future__ import annotations

import collections.abc
import contextlib
import difflib
import enum
import json
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from queuekit import durations
from queuekit.errors import ConfigError, QueuekitError
from queuekit.ids import plain
from queuekit.urls import is_secret, mask
from queuekit.values import frozen

__all__ = ["Problem", "at_least", "read", "report", "settable", "shown", "unknown"]

MAX_LINES = 6
"""Longest report, in lines; further problems are only counted."""
_WIDTH = 60
_LONGEST = 200
"""Longest text about one setting, in characters."""
_CONVERTER: Any = getattr(attrs, "Converter", ())  # since attrs 24.1
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@frozen
class Problem:
    """A setting that is not valid."""

    key: str
    """As the user wrote it: ``worker.concurrency``, ``QUEUEKIT_WORKER__CONCURRENCY``."""
    text: str
    """What is wrong, in a few words."""
    source: str = ""
    """Where it was written, e.g. ``queuekit.toml``."""

    def __str__(self) -> str:
        return f"{self.key}: {self.text}"


class Mismatch(ValueError):
    """A value is not valid. The value is separate from the text, so that a secret can be left out."""

    def __init__(self, expected: str, value: object) -> None:
        super().__init__(expected, value)
        self.expected = expected
        self.value = value

    def __str__(self) -> str:
        return f"expected {self.expected}, got {shown(self.value)}"


def _rows(problems: Sequence[Problem], *, with_source: bool) -> list[str]:
    width = max(len(problem.key) for problem in problems)
    rows = [f"{problem.key:<{width}}  {problem.text}" for problem in problems]
    if not with_source:
        return rows
    return [f"{row} ({problem.source})" for row, problem in zip(rows, problems, strict=True)]


def report(problems: Sequence[Problem]) -> ConfigError:
    """Return one error for all *problems*; it prints at most six lines and holds all of them in ``problems``."""
    sources = {problem.source for problem in problems}
    choice = sources.pop() if len(sources) == 1 else "the settings"
    what = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in {choice}"
    listed = problems if len(problems) < MAX_LINES else problems[: MAX_LINES - 2]
    rows = _rows(listed, with_source=bool(sources))
    if len(listed) < len(problems):
        rows.append(f"... and {len(problems) - len(listed)} more")
    error = ConfigError(what, where="\n".join(rows))
    error.problems = tuple(problems)
    return error


def shown(value: object) -> str:
    """Return *value* for an error: short, text in quotes, a URL without its password."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, str):
        text = json.dumps(mask(value), ensure_ascii=False)
    elif value is None or isinstance(value, bool | list | tuple):
        text = mask(json.dumps(value, default=str, ensure_ascii=False))
    else:
        text = str(value)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."


def unknown(name: str, known: Iterable[str], *, what: str = "unknown key") -> str:
    """Return the text for a key that is not among *known*, with the nearest match, also by last part."""
    choices = list(known)
    by_tail = {choice.rpartition(".")[2]: choice for choice in choices} | {choice: choice for choice in choices}
    near = difflib.get_close_matches(name, list(by_tail), n=1)
    return f"{what}, did you mean {by_tail[near[0]]!r}?" if near else what


def settable(kind: type) -> dict[str, attrs.Attribute[Any]]:
    """Return the fields of an attrs class that a setting can fill, by their names in ``__init__``."""
    return {field.alias or field.name: field for field in attrs.fields(kind) if field.init}


def at_least(least: float) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Return a validator that rejects numbers below *least*."""

    def check(_instance: Any, _field: attrs.Attribute[Any], value: Any) -> None:
        if value < least:
            raise Mismatch(f"{least:g} or more", value)

    return check


def read(kind: type, raw: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return arguments for the attrs class *kind* from *raw*, and the problems of invalid values, by name.

    A field's own converter receives the value as written; without one, the annotation decides. Validators run here,
    field by field, so that one report can list all problems. Names that *kind* does not have are ignored.
    """
    hints = get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, field in settable(kind).items():
        if name not in raw:
            continue
        try:
            values[name] = _field_value(field, hints.get(field.name, Any), raw[name])
        except (ValueError, TypeError, QueuekitError) as error:
            problems[name] = _reason(error, name)
    return values, problems


def _field_value(field: attrs.Attribute[Any], annotation: Any, raw: Any) -> Any:
    """Return the argument for *field*, after running its converter and its validator."""
    converter: Any = field.converter
    if isinstance(converter, _CONVERTER):
        return raw  # the converter may need the instance, so it can only run when that is created
    value = convert(annotation, raw) if converter is None else converter(raw)
    if field.validator is not None:
        with contextlib.suppress(AttributeError):  # it may need the instance; then it runs when that is created
            field.validator(None, field, value)
    return value if converter is None else raw


def _reason(error: Exception, name: str) -> str:
    """Return an error's first line without the field name that attrs puts in front, and without secrets."""
    if isinstance(error, Mismatch) and is_secret(name):
        return f"expected {error.expected}"
    if is_secret(name):
        return "the value is not valid"
    if isinstance(error, Mismatch):
        return str(error).split("\n", 1)[0][:_LONGEST]
    text = str(error if isinstance(error, QueuekitError) or not error.args else error.args[0])
    # Mask before cutting: half a URL would not be recognized and masked.
    return re.sub(rf"^'{re.escape(name)}' ", "", mask(text).split("\n", 1)[0])[:_LONGEST]


def convert(annotation: Any, value: Any) -> Any:
    """Return *value* converted to *annotation*; unchanged if the type is not known here.

    Raises:
        Mismatch: The value is not valid.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _seconds(value) if annotation == durations.Seconds else convert(arguments[0], value)
    if origin in {Union, types.UnionType}:
        return _one_of(arguments, value)
    if origin is Literal:
        return _choice(arguments, value)
    kind = origin or annotation
    if kind in _CONTAINERS:
        return _items(_CONTAINERS[kind], arguments, value)
    if kind in _MAPPINGS:
        return _mapping(arguments, value)
    return _scalar(annotation, value)


def _scalar(annotation: Any, value: Any) -> Any:
    if annotation in _SCALARS:
        return _SCALARS[annotation](value)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return annotation(_choice(tuple(member.value for member in annotation), value))
    return value


def _seconds(value: Any) -> float:
    try:
        return durations.parse(value)
    except durations.DurationError as error:
        raise Mismatch(durations.EXAMPLES, value) from error


def _text(value: Any) -> str:
    if isinstance(value, str):
        return plain(value)
    raise Mismatch("text", value)


def _boolean(value: Any) -> bool:
    word = value.strip().lower() if isinstance(value, str) else value
    if isinstance(word, bool):
        return word
    if isinstance(word, str) and word in _TRUE | _FALSE:
        return word in _TRUE
    raise Mismatch("true or false", value)


def _whole(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d[\d_]{0,30}\s*", value, re.ASCII):
        return int(value)
    raise Mismatch("a whole number", value)


def _number(value: Any) -> float:
    try:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise Mismatch("a number", value)


def _path(value: Any) -> Path:
    return value if isinstance(value, Path) else Path(_text(value))


def _none(value: Any) -> None:
    if value is not None:
        raise Mismatch("nothing", value)


def _one_of(members: tuple[Any, ...], value: Any) -> Any:
    """Return *value* as the first member of a union that accepts it."""
    expected = []
    for member in sorted(members, key=lambda member: member is str):  # str last, since it accepts any text
        try:
            return convert(member, value)
        except Mismatch as error:
            expected.append(error.expected)
    raise Mismatch(" or ".join(item for item in expected if item != "nothing"), value)


def _choice(choices: tuple[Any, ...], value: Any) -> Any:
    """Return the choice that equals *value*, also as text."""
    for choice in choices:
        if value == choice or (isinstance(value, str) and not isinstance(choice, str) and value == str(choice)):
            return choice
    raise Mismatch(" or ".join(shown(choice) for choice in choices), value)


def _items(make: Callable[[Iterable[Any]], Any], arguments: tuple[Any, ...], value: Any) -> Any:
    """Return a list or similar; text is JSON or comma-separated."""
    if isinstance(value, str):
        text = value.strip()
        value = _json(text, "a list") if text.startswith("[") else [item.strip() for item in text.split(",")]
        value = [item for item in value if item != ""]
    if not isinstance(value, list | tuple | set | frozenset):
        raise Mismatch("a list", value)
    return make(convert(arguments[0], item) if arguments else item for item in value)


def _mapping(arguments: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return a table; text must be JSON."""
    table = _json(value, "a table") if isinstance(value, str) else value
    if not isinstance(table, Mapping):
        raise Mismatch("a table", value)
    kind = arguments[1] if arguments else Any
    return {plain(key) if isinstance(key, str) else str(key): convert(kind, item) for key, item in table.items()}


def _json(text: str, expected: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Mismatch(expected, text) from error


_SCALARS: dict[Any, Callable[[Any], Any]] = {
    str: _text,
    bool: _boolean,
    int: _whole,
    float: _number,
    Path: _path,
    types.NoneType: _none,
}
_CONTAINERS: dict[Any, Callable[[Iterable[Any]], Any]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: list,
    collections.abc.Iterable: list,
}
_MAPPINGS = frozenset({dict, collections.abc.Mapping})
