"""Pydantic models and msgspec structs on their way through JSON: validated on arrival, or refused by the sender."""

import enum
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar

import msgspec
import pydantic
import pytest

from queuekit.errors import DecodeError, EncodeError
from queuekit.serializer import JsonSerializer, type_name

T = TypeVar("T")
KNOWN: dict[str, type] = {}


def known(kind: Any) -> Any:
    """Let the serializer know a class."""
    KNOWN[type_name(kind)] = kind
    return kind


@pytest.fixture
def serializer() -> JsonSerializer:
    """Return a serializer that knows the classes of this module."""
    return JsonSerializer(KNOWN.get)


@known
class Colour(enum.Enum):
    """A member inside models."""

    RED = "red"


@known
class Line(pydantic.BaseModel):
    """A model inside another."""

    sku: str
    quantity: int = 1


@known
class Order(pydantic.BaseModel):
    """Aliases, a default made anew, a type that JSON lacks, and a private attribute."""

    number: int = pydantic.Field(alias="orderNumber")
    lines: list[Line] = pydantic.Field(default_factory=list)
    key: uuid.UUID = pydantic.Field(default_factory=uuid.uuid4)
    placed: datetime | None = None
    price: Decimal = Decimal(0)
    colour: Colour = Colour.RED
    site: pydantic.HttpUrl | None = None
    secret: pydantic.SecretStr | None = None
    more: Any = None
    _tries: int = pydantic.PrivateAttr(0)


@known
class Names(pydantic.RootModel[list[str]]):
    """A model that is a list."""


@known
class Open(pydantic.BaseModel, extra="allow"):
    """A model that takes more fields than it has."""

    x: int


class Page(pydantic.BaseModel, Generic[T]):
    """A generic model."""

    items: list[T]


PageOfLines = known(Page[Line])


@known
class Doubling(pydantic.BaseModel):
    """One whose validation changes what it gets."""

    x: int

    @pydantic.field_validator("x")
    @classmethod
    def double(cls, value: int) -> int:
        """Return another value."""
        return value * 2


class Inner(msgspec.Struct):
    """A struct inside another."""

    a: int


@known
class Struct(msgspec.Struct, rename="camel", tag=True):
    """Renamed fields, a tag, and a field that may be unset."""

    my_colour: Colour
    inner: Inner
    pairs: tuple[int, str]
    numbers: set[int]
    when: datetime
    unset: int | msgspec.UnsetType = msgspec.UNSET
    more: Any = None


@known
class Row(msgspec.Struct, array_like=True, tag=True):
    """A struct that msgspec writes as a list."""

    a: int
    b: float = 0.5


NOW = datetime(2026, 3, 4, tzinfo=UTC)
STRUCT = Struct(Colour.RED, Inner(1), (1, "x"), {1, 2}, NOW)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(Order(orderNumber=1), id="defaults"),
        pytest.param(
            Order(
                orderNumber=1,
                lines=[Line(sku="a", quantity=2)],
                placed=NOW,
                price=Decimal("1.50"),
                site=pydantic.HttpUrl("https://example.org/x"),
            ),
            id="full",
        ),
        pytest.param(Names(["a", "b"]), id="root-model"),
        pytest.param(Open.model_validate({"x": 1, "y": (1, 2)}), id="extra-fields"),
        pytest.param(PageOfLines(items=[Line(sku="a")]), id="generic"),
        pytest.param(STRUCT, id="struct"),
        pytest.param(Row(1), id="struct-as-a-list"),
        pytest.param({"deep": [Order(orderNumber=1), (STRUCT,)]}, id="inside-containers"),
    ],
)
def test_comes_back_equal_and_of_its_type(serializer: JsonSerializer, value: Any) -> None:
    """An instance is the same on the other side."""
    found = serializer.loads(serializer.dumps(value))

    assert found == value
    assert type(found) is type(value)


def test_keeps_which_fields_were_set(serializer: JsonSerializer) -> None:
    """``exclude_unset`` gives the same on both sides, so that a change of some fields can be sent."""
    order = Order(orderNumber=1, price=Decimal(2))

    found = serializer.loads(serializer.dumps(order))

    assert found.model_fields_set == {"number", "price"}
    assert found.key == order.key


def _ill_typed() -> Any:
    return Line.model_construct(sku="a", quantity="many")


def _ill_row() -> Any:
    row: Any = Row(1)
    row.a = "x"
    return row


def _with_private() -> Any:
    order = Order(orderNumber=1)
    order._tries = 3
    return order


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param([_ill_typed()], "[0].quantity: Line rejects its own fields: Input should be", id="ill-typed"),
        pytest.param({"o": _with_private()}, ".o._tries: Order would not be rebuilt unchanged", id="private"),
        pytest.param(Order(orderNumber=1, secret=pydantic.SecretStr("x")), ".secret: Order would not be", id="secret"),
        pytest.param(Order(orderNumber=1, more=object()), ".more: object is not something JSON can hold", id="object"),
        pytest.param(Doubling(x=1), ".x: Doubling would not be rebuilt unchanged", id="validator-changes-it"),
        pytest.param(_ill_row(), ": Row rejects its own fields: Expected `int`, got `str`", id="struct-ill-typed"),
        pytest.param(Struct(Colour.RED, Inner(1), (1, "x"), {1}, NOW, more=object()), "cannot be sent", id="in-struct"),
    ],
)
def test_refuses_what_would_arrive_as_something_else(serializer: JsonSerializer, value: Any, text: str) -> None:
    """The sender learns the path to what would not come back, and no secret is shown."""
    with pytest.raises(EncodeError) as caught:
        serializer.dumps(value)

    assert text in caught.value.what


@pytest.mark.parametrize(
    ("kind", "fields", "text"),
    [
        pytest.param(Line, '{"sku":"a","quantity":"many"}', "Line.quantity: Input should be", id="pydantic"),
        pytest.param(Row, '{"a":1}', "Row", id="struct"),
    ],
)
def test_validates_what_arrives(serializer: JsonSerializer, kind: Any, fields: str, text: str) -> None:
    """A hostile message makes no instance that the class would reject."""
    data = f'{{"$object":["{type_name(kind)}",{fields}]}}'.encode()

    with pytest.raises(DecodeError, match=text):
        serializer.loads(data)


def test_hands_fields_to_a_reader_that_does_not_know_the_class(serializer: JsonSerializer) -> None:
    """Such a reader sees plain data."""
    data = serializer.dumps([Line(sku="a"), Row(1)])

    assert JsonSerializer(lambda _: None).loads(data) == [{"sku": "a", "quantity": 1}, ["Row", 1, 0.5]]


def test_imports_nothing_that_the_app_did_not_import() -> None:
    """Sending and reading in a process without pydantic models leaves pydantic unimported."""
    code = (
        "import sys; from queuekit import Queuekit; app = Queuekit(eager=True, check_types=True)\n"
        "@app.task(name='t')\ndef t(x: 'int') -> int: return x\n"
        "assert t.send(1).get() == 1\n"
        "assert 'pydantic' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
