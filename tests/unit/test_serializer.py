"""What the conformance suite leaves to JSON and pickle: classes, hostile tags, and what cannot be written."""

import datetime
import enum
import json
import threading
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit.errors import DecodeError, EncodeError
from queuekit.serializer import JsonSerializer, PickleSerializer, type_name


class Colour(enum.Enum):
    """An Enum that refuses in its own way what it does not know."""

    RED = "red"

    @classmethod
    def _missing_(cls, value: object) -> Any:
        raise AttributeError(value)


def small(_instance: Any, _attribute: Any, value: int) -> None:
    """Refuse large numbers, with an error of its own."""
    if value > 100:
        raise ArithmeticError("too far")


@attrs.frozen
class Point:
    """An attrs class with a default, a private field, and a rule."""

    x: int = attrs.field(validator=small)
    _y: int = 7


KNOWN: dict[str, type] = {type_name(kind): kind for kind in (Colour, Point)}
POINT = f'"{type_name(Point)}"'.encode()
COLOUR = f'"{type_name(Colour)}"'.encode()


@pytest.fixture
def serializer() -> JsonSerializer:
    """Return a serializer that knows the classes above."""
    return JsonSerializer(KNOWN.get)


def test_private_fields_come_back(serializer: JsonSerializer) -> None:
    """They are part of the value."""
    assert serializer.loads(serializer.dumps(Point(1, 2))) == Point(1, 2)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        pytest.param(b'{"$object":[%b,{"x":1}]}' % POINT, Point(1), id="field-added-since"),
        pytest.param(b'{"$object":[%b,{"x":1,"_y":2,"z":3}]}' % POINT, Point(1, 2), id="field-removed-since"),
        pytest.param(b'{"$object":["shop.Gone",{"x":1}]}', {"x": 1}, id="class-unknown"),
        pytest.param(b'{"$object":[%b,{"x":1}]}' % COLOUR, {"x": 1}, id="class-without-fields"),
        pytest.param(b'{"$enum":["shop.Gone","red"]}', "red", id="enum-unknown"),
        pytest.param(b'{"$enum":[%b,"red"]}' % POINT, "red", id="not-an-enum"),
    ],
)
def test_reads_what_other_versions_wrote(serializer: JsonSerializer, data: bytes, value: Any) -> None:
    """A field more or less is no error, and a class that is not known here is plain data."""
    assert serializer.loads(data) == value


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'{"$":1}', id="escape-of-a-number"),
        pytest.param(b'{"$object":["t",1]}', id="fields-not-an-object"),
        pytest.param(b'{"$object":["t"]}', id="no-fields"),
        pytest.param(b'{"$object":[["t"],{}]}', id="name-not-text"),
        pytest.param(b'{"$object":[%b,{}]}' % POINT, id="field-missing"),
        pytest.param(b'{"$object":[%b,{"_y":1}]}' % POINT, id="required-field-missing"),
        pytest.param(b'{"$enum":[%b,"blue"]}' % COLOUR, id="no-member"),
        pytest.param(b'{"$bytes":1}', id="bytes"),
        pytest.param(b'{"$datetime":1}', id="datetime"),
        pytest.param(b'{"$timedelta":[1,2,3,4,5,6,7,8]}', id="timedelta"),
        pytest.param(b'{"$decimal":"x"}', id="decimal"),
        pytest.param(b'{"$set":[[]]}', id="unhashable"),
        pytest.param(b'{"$dict":[1]}', id="pairs"),
        pytest.param(b'{"$what":1}', id="unknown-tag"),
        pytest.param(b"1 2", id="two-values"),
        pytest.param(b"NaN", id="nan"),
        pytest.param(b"1" * 5_000, id="many-digits"),
    ],
)
def test_hostile_tags_are_one_error(serializer: JsonSerializer, data: bytes) -> None:
    """Whatever a class or a reader makes of them."""
    with pytest.raises(DecodeError, match="not JSON that queuekit writes"):
        serializer.loads(data)


TAGS = ["$", "$object", "$enum", "$bytes", "$date", "$time", "$uuid", "$decimal", "$tuple", "$set", "$dict", "$float"]
ANYTHING = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from([type_name(Point), type_name(Colour)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*TAGS, "x"]), inner, max_size=2),
)


@pytest.mark.no_cover  # what it runs through others do as well, and it takes three times as long measured
@given(ANYTHING)
def test_any_tags_are_read_or_refused(value: Any) -> None:
    """No combination raises anything but the one error."""
    reader = JsonSerializer(KNOWN.get)

    try:
        read = reader.loads(json.dumps(value).encode())
    except DecodeError:
        return

    assert reader.loads(reader.dumps(read)) == read


@pytest.mark.parametrize("fields", [b'{"x":500}', b'{"x":500,"_y":1}'], ids=["field-missing", "whole"])
def test_an_instance_obeys_the_rules_of_its_class(serializer: JsonSerializer, fields: bytes) -> None:
    """Instances are built by the constructor: what its validators refuse is refused, whoever wrote it."""
    with pytest.raises(DecodeError, match="too far"):
        serializer.loads(b'{"$object":[%b,%b]}' % (POINT, fields))


def nested(depth: int) -> list[Any]:
    """Return lists in lists."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def ring() -> list[Any]:
    """Return a list that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(nested(150), "nested deeper than 100", id="deep"),
        pytest.param(ring(), "nested deeper than 100", id="ring"),
        pytest.param(10**5_000, "digits", id="many-digits"),
        pytest.param(Point, "type is not something JSON can hold", id="class"),
        pytest.param({"a": (1, {2: object()})}, r"\.a\[1\]\[2\]: object", id="path"),
    ],
)
def test_says_what_cannot_be_written(serializer: JsonSerializer, value: Any, text: str) -> None:
    """Where it is, and why."""
    with pytest.raises(EncodeError, match=text):
        serializer.dumps(value)


def test_pickle_brings_back_any_value() -> None:
    """Sets of tuples, classes, and what JSON has no name for."""
    value = {"a": {(1, 2)}, "b": Point, "c": Colour.RED, "d": 3j}
    pickler = PickleSerializer()

    assert pickler.loads(pickler.dumps(value)) == value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        pytest.param(threading.Lock(), "it cannot be pickled", id="whole"),
        pytest.param({"a": [1, (2, threading.Lock())]}, r"\.a\[1\]\[1\]: it cannot be pickled", id="path"),
    ],
)
def test_pickle_says_what_cannot_be_written(value: Any, path: str) -> None:
    """With the path through lists, tuples and dicts."""
    with pytest.raises(EncodeError, match=path):
        PickleSerializer().dumps(value)


@pytest.mark.parametrize("data", [b"", b"\x80\x05.", b"cqueuekit.nosuch\nthing\n."], ids=["empty", "cut", "no-module"])
def test_pickle_refuses_damaged_bytes(data: bytes) -> None:
    """With the one error."""
    with pytest.raises(DecodeError, match="not a pickle"):
        PickleSerializer().loads(data)


# -- depth

TRAPS = [
    "[" * 150,
    '{"a": [' * 60,
    "\\",
    '\\"',
    '\\\\"[{',
    '"[',
    "[\n" * 120,
    json.dumps([[{"a": "["}]] * 101, indent=1),
]


@pytest.mark.parametrize("text", TRAPS, ids=range(len(TRAPS)))
def test_text_is_never_counted(serializer: JsonSerializer, text: str) -> None:
    """Brackets, quotes and backslashes in a text do not nest, wherever it stands."""
    for value in ([text] * 110, {text: [text, {text: text}]}, [[text + "\\", text]] * 60):
        assert serializer.loads(serializer.dumps(value)) == value


@pytest.mark.parametrize("step", ["list", "dict", "tuple", "int-key", "object", "mixed"])
@pytest.mark.parametrize("depth", [40, 60, 97, 98, 99, 100, 101, 102, 150, 300])
def test_what_is_written_is_read(serializer: JsonSerializer, step: str, depth: int) -> None:
    """However deep a value is nested, and in what, the sender refuses exactly what is too deep for the reader."""
    value = wrapped(step, depth)
    try:
        data = serializer.dumps(value)
    except EncodeError:
        assert depth > 100
        return

    assert step == "mixed" or depth <= 100
    assert serializer.loads(data) == value


@attrs.frozen
class Node:
    """An attrs class that nests."""

    inner: Any


KNOWN[type_name(Node)] = Node


def wrapped(step: str, depth: int) -> Any:
    """Return a number in *depth* containers of one kind."""
    steps: dict[str, Any] = {
        "list": lambda value, _: [value],
        "dict": lambda value, _: {"a": value},
        "tuple": lambda value, _: (value,),
        "int-key": lambda value, _: {1: value},
        "object": lambda value, _: Node(value),
        "mixed": lambda value, number: [Node((value,)), {"$": value}, {1: "[" * 200, 2: value}][number % 3],
    }
    value: Any = 1
    for number in range(depth if step != "mixed" else depth // 2):
        value = steps[step](value, number)
    return value


@pytest.mark.parametrize("depth", [101, 200, 299, 301, 900, 100_000])
@pytest.mark.parametrize("text", [b"1", b'"\\"[\\n]]]"', b'"]]]]\\\\"'], ids=["number", "brackets", "backslashes"])
def test_deep_texts_are_refused(serializer: JsonSerializer, depth: int, text: bytes) -> None:
    """Real nesting over the limit is refused, whatever stands in texts beside it."""
    for data in (b"[" * depth + text + b"]" * depth, b"[" * depth + (text + b",") * 60 + text + b"]" * depth):
        with pytest.raises(DecodeError, match="nested deeper than 100"):
            serializer.loads(data)


@pytest.mark.parametrize("tag", ["$set", "$frozenset", "$dict"])
def test_values_that_collide_are_refused(serializer: JsonSerializer, tag: str) -> None:
    """A set or dict whose values all have one hash takes time that grows with the square of its size."""
    values = [number * (2**61 - 1) for number in range(1, 100)]
    inner = [[value, 1] for value in values] if tag == "$dict" else values
    with pytest.raises(DecodeError, match="the same hash"):
        serializer.loads(json.dumps({tag: inner}).encode())
    with pytest.raises(EncodeError, match="the same hash"):
        serializer.dumps(
            dict.fromkeys(values) if tag == "$dict" else {"$set": set, "$frozenset": frozenset}[tag](values)
        )


# -- time

BERLIN, DUBLIN = zoneinfo.ZoneInfo("Europe/Berlin"), zoneinfo.ZoneInfo("Europe/Dublin")
TWICE = datetime.datetime(2026, 10, 25, 2, 30)  # noqa: DTZ001 - a naive one is tried as well
OFFSET = datetime.timezone(datetime.timedelta(hours=5, minutes=45, seconds=7, microseconds=9))


@pytest.mark.parametrize(
    "value",
    [
        TWICE.replace(fold=1),
        TWICE.replace(tzinfo=BERLIN),
        TWICE.replace(tzinfo=BERLIN, fold=1),
        TWICE.replace(tzinfo=OFFSET, fold=1),
        TWICE.replace(tzinfo=datetime.UTC, fold=1),
        TWICE.replace(tzinfo=zoneinfo.ZoneInfo("UTC")),
        TWICE.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=1), "CET")),
        TWICE.replace(tzinfo=datetime.timezone(datetime.timedelta(0), "GMT")),
        TWICE.replace(tzinfo=datetime.timezone(datetime.timedelta(microseconds=1))),
        datetime.time(2, 30, tzinfo=datetime.timezone(-datetime.timedelta(microseconds=999_999))),
        datetime.datetime.max.replace(tzinfo=BERLIN),
        datetime.datetime.min.replace(tzinfo=DUBLIN),
        datetime.time(2, 30, tzinfo=BERLIN, fold=1),
        datetime.time(2, 30, fold=1),
        datetime.time(2, 30, tzinfo=OFFSET),
        datetime.UTC,
        OFFSET,
        bytearray(b"\0x"),
    ],
    ids=repr,
)
def test_what_a_moment_says_comes_back(serializer: JsonSerializer, value: Any) -> None:
    """Fold, zone and the zone's name are part of the value, so that reckoning with it gives the same."""
    back = serializer.loads(serializer.dumps([value]))[0]

    assert (type(back), repr(back)) == (type(value), repr(value))
    if isinstance(value, datetime.datetime) and value.year == 2026:
        days = datetime.timedelta(days=1, seconds=1)
        assert repr(back - days) == repr(value - days)
        assert back - back.replace(year=2025) == value - value.replace(year=2025)
        assert back.utcoffset() == value.utcoffset()


class Odd(datetime.tzinfo):
    """A zone that nobody else has."""

    def tzname(self, _moment: datetime.datetime | None) -> None:
        """Have no name."""

    def dst(self, _moment: datetime.datetime | None) -> None:
        """Know nothing of it."""

    def utcoffset(self, moment: datetime.datetime | None) -> datetime.timedelta | None:
        """Return an offset that depends on the moment."""
        return None if moment is None else datetime.timedelta(hours=moment.hour)


class NeedsMoment(Odd):
    """One that cannot be asked without a moment."""

    def utcoffset(self, moment: Any) -> datetime.timedelta:
        """Return an offset that depends on the moment."""
        return datetime.timedelta(hours=moment.hour)


class Standard(Odd):
    """One that says its standard offset where it is asked without a moment."""

    def utcoffset(self, moment: datetime.datetime | None) -> datetime.timedelta:
        """Return one hour, and two in October."""
        return datetime.timedelta(hours=2 if moment is not None and moment.month == TWICE.month else 1)


def unknown_zone() -> zoneinfo.ZoneInfo:
    """Return a zone whose key is known to nobody."""
    with next(Path(path, "UTC").open("rb") for path in zoneinfo.TZPATH if Path(path, "UTC").exists()) as file:
        return zoneinfo.ZoneInfo.from_file(file, key="Nowhere/Known")


@pytest.mark.parametrize("zone", [NeedsMoment, Standard, unknown_zone])
def test_a_zone_that_would_come_back_as_another_is_refused(
    serializer: JsonSerializer, zone: Callable[[], datetime.tzinfo]
) -> None:
    """Whatever it says or raises when it is asked."""
    with pytest.raises(EncodeError, match=r"\[0\]: the time zone .* is not something JSON can hold"):
        serializer.dumps([TWICE.replace(tzinfo=zone())])


def test_a_zone_that_cannot_travel_is_refused_with_its_path(serializer: JsonSerializer) -> None:
    """Its offset at one moment would be another value."""
    with pytest.raises(EncodeError, match=r"\.at\[1\]: the time zone .*Odd is not something JSON can hold"):
        serializer.dumps({"at": [1, TWICE.replace(tzinfo=Odd())]})
