"""Values that the suite for serializers uses."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["PLAIN", "TYPED", "Colour", "Figure", "Point", "anything_plain", "anything_typed", "is_same"]


class Colour(enum.Enum):
    """An Enum that an app might register."""

    RED = "red"
    BLUE = 3


@attrs.frozen
class Point:
    """An attrs class that an app might register."""

    x: int
    y: float = 0.0


@attrs.define
class Figure:
    """An attrs class with others in its fields."""

    name: str
    points: tuple[Point, ...] = ()
    colour: Colour | None = None


_UTC = datetime.UTC
_EAST = datetime.timezone(datetime.timedelta(hours=5, minutes=30))

PLAIN: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "negative": -17,
    "big": 2**53 + 1,
    "bigger": -(2**64) - 1,
    "float": 0.1,
    "tiny": 5e-324,
    "huge": 1.7976931348623157e308,
    "whole-float": 3.0,
    "empty-text": "",
    "text": "sch\N{LATIN SMALL LETTER O WITH DIAERESIS}n \N{SNOWMAN} \N{GRINNING FACE} \N{LINE SEPARATOR}",
    "nul-text": "a\0b\r\n\t\x7f",
    "quotes": "\"'\\</script>",
    "empty-list": [],
    "list": [1, "two", 3.0, None, True, [4, [5]]],
    "empty-dict": {},
    "dict": {"a": 1, "": 2, "\N{SNOWMAN}": {"deep": [{"er": None}]}},
    "dollar-keys": {"$date": "not a date", "$": 1, "$object": ["os.system", {}], "a": {"$tuple": [1]}},
    "call": {"args": [1, "x"], "kwargs": {"y": 2.5}},
}
"""Values that every serializer must return unchanged, with the same types."""

TYPED: dict[str, Any] = {
    "tuple": (1, (2, "x"), []),
    "set": {1, 2, 3},
    "frozenset": frozenset({"a", "b"}),
    "bytes": bytes(range(256)),
    "datetime-naive": datetime.datetime(2026, 11, 23, 12, 34, 56, 789012),  # noqa: DTZ001 - naive on purpose
    "datetime-utc": datetime.datetime(1970, 1, 1, tzinfo=_UTC),
    "datetime-offset": datetime.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=_EAST),
    "date": datetime.date(1, 1, 1),
    "time": datetime.time(23, 59, 59, 1),
    "timedelta": datetime.timedelta(days=-1, seconds=1, microseconds=999_999),
    "uuid": uuid.UUID("0190d5a4-7b3e-7c00-8000-0123456789ab"),
    "decimal": decimal.Decimal("-12345678901234567890.0123456789"),
    "decimal-exponent": decimal.Decimal("1E+400"),
    "infinity": float("inf"),
    "negative-infinity": float("-inf"),
    "int-keys": {1: "a", 2: "b", "2": "c"},
    "tuple-keys": {(1, "x"): [1]},
    "none-key": {None: 1, True: 2},
    "enum": Colour.RED,
    "enum-value": [Colour.BLUE, {"c": Colour.RED}],
    "attrs": Point(1, 2.5),
    "attrs-nested": Figure("square", (Point(0), Point(1)), Colour.BLUE),
    "mixture": {"at": datetime.date(2026, 1, 1), "of": [(b"\0", {decimal.Decimal("0.10")})]},
}
"""Values that a serializer may refuse with EncodeError, but must not change."""


def is_same(one: Any, other: Any) -> bool:
    """Return whether two values are equal, with the same types at every level: ``1``, ``1.0`` and ``True`` differ."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return is_same([*one.items()], [*other.items()])
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(is_same(item, twin) for item, twin in zip(one, other, strict=True))
    return bool(one == other or (one != one and other != other))  # noqa: PLR0124 - NaN is not equal to itself


def anything_plain() -> SearchStrategy[Any]:
    """Return a Hypothesis strategy for values that every serializer must return unchanged."""
    from hypothesis import strategies as st

    leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    return _nested(leaves)


def anything_typed() -> SearchStrategy[Any]:
    """Return a Hypothesis strategy for values that a serializer may refuse, but must not change."""
    from hypothesis import strategies as st

    zones = st.none() | st.just(_UTC) | st.just(_EAST)
    leaves = (
        anything_plain()
        | st.binary()
        | st.dates()
        | st.datetimes(timezones=zones)
        | st.timedeltas()
        | st.decimals(allow_nan=False)
        | st.uuids()
        | st.sampled_from(Colour)
    )
    return _nested(leaves | st.tuples(leaves, leaves) | st.frozensets(st.integers() | st.text()))


def _nested(leaves: SearchStrategy[Any]) -> SearchStrategy[Any]:
    from hypothesis import strategies as st

    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
    )
