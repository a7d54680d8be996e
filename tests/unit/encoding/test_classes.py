"""Instances of classes on their way through JSON: built by their constructors, or refused by the sender."""

import dataclasses
import enum
import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import attrs
import pytest

from queuekit.errors import DecodeError, EncodeError
from queuekit.serializer import JsonSerializer, type_name

T = TypeVar("T")
KNOWN: dict[str, type] = {}
made: list[str] = []


def known(kind: Any) -> Any:
    """Let the serializer know a class."""
    KNOWN[type_name(kind)] = kind
    return kind


@pytest.fixture
def serializer() -> JsonSerializer:
    """Return a serializer that knows the classes of this module."""
    return JsonSerializer(KNOWN.get)


@known
@dataclasses.dataclass
class Plain:
    """One with what is no field."""

    x: Any
    count: ClassVar[int] = 3


@known
@dataclasses.dataclass(slots=True, frozen=True)
class RunTable:
    """One without a dict."""

    x: int
    y: tuple[int, ...] = ()


@known
@dataclasses.dataclass(kw_only=True)
class Derived:
    """One with a field that the constructor does not take, and state beside its fields."""

    x: int
    twice: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.twice = self.x * 2
        self.thrice = self.x * 3

    @functools.cached_property
    def cached(self) -> int:
        """Be kept once asked for."""
        return self.x * 4


@known
@dataclasses.dataclass
class Seeded:
    """One whose constructor takes what is not kept."""

    x: int
    seed: dataclasses.InitVar[int]

    def __post_init__(self, seed: int) -> None:
        self.x += seed
        self.doubled = self.x * 2


@known
@dataclasses.dataclass
class OptionallySeeded:
    """One whose constructor can do without."""

    x: int
    seed: dataclasses.InitVar[int] = 0

    def __post_init__(self, seed: int) -> None:
        self.x += seed


@known
@attrs.frozen(cache_hash=True)
class Aliased:
    """An attrs class with names of its own for parameters, and a converter."""

    _private: int
    named: float = attrs.field(converter=float, alias="called", kw_only=True)
    made: str = attrs.field(init=False, default="m")


@known
@dataclasses.dataclass
class Problem(Exception):
    """An exception."""

    code: int
    why: str = ""


@known
@dataclasses.dataclass
class Bag(dict[str, Any]):
    """A dict with a label."""

    label: str = "b"


@known
@dataclasses.dataclass
class Row(list[Any]):
    """A list with a label."""

    label: str = "b"


@known
@dataclasses.dataclass
class Box(Generic[T]):
    """A generic one."""

    inner: T


@known
class Level(enum.IntFlag):
    """Numbers that can be put together."""

    LOW = 1
    HIGH = 2


@known
class Place(str, enum.Enum):  # noqa: UP042 - the old way must work, too
    """Text."""

    HERE = "here"


@known
class Shade(enum.Enum):
    """Members whose values are tuples, or no plain data."""

    DARK = (0, "dark")
    NONE = math.nan


def derived() -> Derived:
    """Return one whose derived field was set since, and whose property was asked for."""
    value = Derived(x=2)
    value.twice = 5
    assert value.cached == 8
    return value


CARRIED: dict[str, Callable[[], Any]] = {
    "plain": lambda: Plain([Plain({1: Plain(None)})]),
    "slots": lambda: RunTable(1, (2,)),
    "derived": derived,
    "seeded": lambda: Seeded(1, 5),
    "optionally-seeded": lambda: OptionallySeeded(1, 5),
    "aliased": lambda: Aliased(1, called=2.0),
    "bag": lambda: Bag(label="z"),
    "bag-of-something": lambda: _filled(Bag(label="z")),
    "row-of-something": lambda: _extended(Row("z")),
    "generic": lambda: Box[int](1),
    "flag": lambda: Level.LOW | Level.HIGH,
    "flag-as-key": lambda: {Level.LOW: Place.HERE, Place.HERE: {Level.HIGH}},
    "tuple-enum": lambda: Shade.DARK,
}


def _filled(bag: Bag) -> Bag:
    bag.update({"a": (1,), "b": Bag("inner")})
    return bag


def _extended(row: Row) -> Row:
    row.extend([1, (2,)])
    return row


@pytest.mark.parametrize("name", CARRIED)
def test_comes_back_as_itself(serializer: JsonSerializer, name: str) -> None:
    """Fields, what is derived from them, and what it holds: of the same type and equal, alone and inside others."""
    value = CARRIED[name]()

    for back in (serializer.loads(serializer.dumps(value)), serializer.loads(serializer.dumps({"a": [value]}))["a"][0]):
        assert type(back) is type(value)
        assert back == value
        assert repr(back) == repr(value)
        if isinstance(value, dict | list):
            assert [*back] == [*value]


def test_state_beside_the_fields_is_made_again(serializer: JsonSerializer) -> None:
    """By the constructor; where that cannot be called, it travels."""
    back = serializer.loads(serializer.dumps([derived(), Seeded(1, 5)]))

    assert (back[0].thrice, back[0].cached, back[1].doubled) == (6, 8, 12)


def test_an_exception_has_its_arguments(serializer: JsonSerializer) -> None:
    """The constructor gets them by position, as is usual for exceptions."""
    back = serializer.loads(serializer.dumps(Problem(7, "x")))

    assert (type(back), back.code, back.args) == (Problem, 7, (7, "x"))


@known
@dataclasses.dataclass
class Grows:
    """One that is another whenever it is made anew."""

    x: int

    def __post_init__(self) -> None:
        self.x += 1


@known
@dataclasses.dataclass
class Positive:
    """One with a rule."""

    x: int

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("below zero")


@known
@dataclasses.dataclass(init=False)
class Own:
    """One with a constructor of its own."""

    x: int

    def __init__(self, text: str) -> None:
        self.x = len(text)


@known
@dataclasses.dataclass
class Word(str):  # noqa: SLOT000 - that is what it is about
    """A text with a label."""

    label: str = ""


@known
@attrs.define
class Checked:
    """An attrs class with a rule."""

    x: int = attrs.field(validator=attrs.validators.ge(0))
    y: int = 0


def loose() -> Plain:
    """Return an instance to which something was tacked on."""
    value = Plain(1)
    value.note = "x"  # type: ignore[attr-defined]
    return value


def emptied() -> Any:
    """Return an instance that has lost a field."""
    value = Plain(1)
    del value.x
    return value


def broken() -> Any:
    """Return an instance that breaks its class's rule."""
    value = Checked(1)
    object.__setattr__(value, "x", -1)
    return value


@pytest.mark.parametrize(
    ("make", "text"),
    [
        pytest.param(lambda: Grows(1), "Grows cannot be sent: its constructor changes 'x'", id="grows"),
        pytest.param(lambda: Own("abc"), "its constructor takes 'text', which is not a field", id="own-constructor"),
        pytest.param(lambda: Word("w"), "it also derives from str", id="text"),
        pytest.param(loose, "'note' is not a field, so it would be lost", id="tacked-on"),
        pytest.param(emptied, "its field 'x' is missing", id="field-lost"),
        pytest.param(broken, "its constructor rejects its own fields: ", id="breaks-its-rule"),
        pytest.param(lambda: Shade.NONE, "Shade does not find NONE by its value", id="enum-that-is-not-found"),
    ],
)
def test_what_would_not_come_back_is_refused_with_its_path(
    serializer: JsonSerializer, make: Callable[[], Any], text: str
) -> None:
    """By the sender, who can mend it."""
    with pytest.raises(EncodeError, match=r"\.a\[1\]: .*" + text):
        serializer.dumps({"a": [0, make()]})


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        pytest.param(Positive, {"x": -1}, id="post-init"),
        pytest.param(Checked, {"x": -1, "y": 1}, id="attrs-validator"),
        pytest.param(Own, {"x": 1}, id="own-constructor"),
        pytest.param(Word, {"label": "x"}, id="text"),
        pytest.param(Seeded, {}, id="field-missing"),
        pytest.param(Seeded, {"x": 1, "__class__": 1}, id="class"),
        pytest.param(Seeded, {"x": 1, "__post_init__": 1}, id="method"),
        pytest.param(Seeded, {"x": 1, "__dict__": {"y": 1}}, id="dict"),
    ],
)
def test_hostile_fields_are_refused_by_the_class(serializer: JsonSerializer, kind: type, fields: Any) -> None:
    """Nobody makes an instance past the rules of its class."""
    data = JsonSerializer().dumps(fields)
    with pytest.raises(DecodeError):
        serializer.loads(b'{"$object":["%b",%b]}' % (type_name(kind).encode(), data))


def test_a_class_without_rules_is_not_made_at_the_send(serializer: JsonSerializer) -> None:
    """Only where the constructor could change something must that be tried."""

    class Counted(type):
        """Count instances."""

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            made.append(cls.__name__)
            return super().__call__(*args, **kwargs)

    kind = known(dataclasses.dataclass(Counted("Kind", (), {"__annotations__": {"x": int}})))
    value = kind(1)
    made.clear()
    serializer.dumps(value)

    assert made == []
