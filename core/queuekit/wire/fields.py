"""Checks of what the fields of a record say, for other programs may have written it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from queuekit.durations import LONGEST
from queuekit.errors import DecodeError
from queuekit.ids import is_name

__all__ = [
    "LAST",
    "Check",
    "checked",
    "is_count",
    "is_flag",
    "is_list",
    "is_moment",
    "is_name",
    "is_priority",
    "is_span",
    "is_text",
    "or_none",
    "read_object",
]

Check = Callable[[Any], bool]
"""Says whether a value is valid."""
LAST = 253_370_764_800
"""The start of the year 9999, in UTC epoch seconds: no record speaks of a later time."""
_MOST_COUNTED = 2**53


def is_text(value: Any) -> bool:
    """Return whether *value* is text."""
    return type(value) is str


def is_flag(value: Any) -> bool:
    """Return whether *value* is true or false."""
    return type(value) is bool


def is_list(value: Any) -> bool:
    """Return whether *value* is a list."""
    return type(value) is list


def is_count(value: Any) -> bool:
    """Return whether *value* is a number of things."""
    return type(value) is int and 0 <= value < _MOST_COUNTED


def is_priority(value: Any) -> bool:
    """Return whether *value* is a priority, 0 to 9."""
    return type(value) is int and 0 <= value <= 9  # noqa: PLR2004 - the range of priorities


def is_moment(value: Any) -> bool:
    """Return whether *value* is a time in UTC epoch seconds, within the supported range."""
    return type(value) in {int, float} and 0 <= value < LAST


def is_span(value: Any) -> bool:
    """Return whether *value* is a duration in seconds."""
    return type(value) in {int, float} and 0 <= value <= LONGEST


def or_none(check: Check) -> Check:
    """Return the check that a value is ``None``, or as *check* says."""
    return lambda value: value is None or check(value)


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that is the body of a record.

    Raises:
        DecodeError: The body is something else.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DecodeError("the record is not JSON") from error
    if type(found) is not dict:
        raise DecodeError("the record is not an object")
    return found


def checked(fields: Any, checks: Mapping[str, Check], *, what: str = "the record") -> dict[str, Any]:
    """Return those of *fields* that *checks* name; a field that is missing is not looked for.

    Raises:
        DecodeError: *fields* are not an object, or one of them is not valid.
    """
    if type(fields) is not dict:
        raise DecodeError(f"{what} is not an object")
    known = {name: fields[name] for name in checks if name in fields}
    for name, value in known.items():
        if not checks[name](value):
            raise DecodeError(f"{what}: {name} is not valid: {repr(value)[:60]}")
    return known
