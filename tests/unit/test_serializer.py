"""What the conformance suite leaves to JSON and pickle: classes, hostile tags, and what cannot be written."""

import enum
import json
import threading
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


@given(ANYTHING)
def test_any_tags_are_read_or_refused(value: Any) -> None:
    """No combination raises anything but the one error."""
    reader = JsonSerializer(KNOWN.get)

    try:
        read = reader.loads(json.dumps(value).encode())
    except DecodeError:
        return

    assert reader.loads(reader.dumps(read)) == read


def test_an_instance_obeys_the_rules_of_its_class_only_where_it_is_made_anew(serializer: JsonSerializer) -> None:
    """What was legal when it was written is read; with a field missing the class is asked."""
    with pytest.raises(DecodeError):
        serializer.loads(b'{"$object":[%b,{"x":500}]}' % POINT)

    assert serializer.loads(b'{"$object":[%b,{"x":500,"_y":1}]}' % POINT).x == 500


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
