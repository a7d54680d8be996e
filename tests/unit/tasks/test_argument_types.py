"""The types of arguments: refused at the send with the path, built on arrival, converted if the task asks for it."""

import dataclasses
import enum
import typing
from collections import abc
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Generic, Literal, NotRequired, TypedDict, TypeVar, cast
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from typing_extensions import TypeAliasType

from queuekit import Queuekit, Signature, chain, chord
from queuekit.cli.arguments import readings
from queuekit.errors import ArgumentsError, OptionError, TaskFailed


class Status(enum.Enum):
    """An Enum."""

    NEW = "new"
    PAID = "paid"


class Level(enum.IntEnum):
    """An Enum of numbers."""

    LOW = 1


class Line(pydantic.BaseModel):
    """A model."""

    sku: str
    quantity: int


class Order(pydantic.BaseModel):
    """A model of models."""

    lines: list[Line]


class Struct(msgspec.Struct):
    """A struct."""

    n: int
    status: Status = Status.NEW


@dataclasses.dataclass
class Item:
    """A dataclass that names itself."""

    price: Decimal
    parts: "list[Item]" = dataclasses.field(default_factory=list)
    note: str = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


@attrs.define
class Point:
    """An attrs class with a converter."""

    x: int = attrs.field(converter=int)


class Row(TypedDict):
    """A typed dict."""

    a: int
    item: NotRequired[Item]


class Lazy(TypedDict):
    """A class as it looks in a module with ``from __future__ import annotations``."""

    a: "int"
    b: "NotRequired[int]"


class Plain:
    """A class without fields."""


TYPES: list[Any] = [Order, Struct, Item, Point, Row, Status]


def returning(annotation: Any, **options: Any) -> Any:
    """Return an eager task that returns its argument, annotated so."""

    def same(value: Any) -> Any:
        return value

    same.__annotations__ = {"value": annotation, "return": Any}
    app = Queuekit(eager=True)
    for kind in TYPES[:-2]:
        app.register_type(kind)
    return app.task(name="same", **options)(same)


@pytest.mark.parametrize(
    ("annotation", "sent", "got"),
    [
        pytest.param(
            Order, {"lines": [{"sku": "a", "quantity": 2}]}, Order(lines=[Line(sku="a", quantity=2)]), id="model"
        ),
        pytest.param(Struct, {"n": 1, "status": "paid"}, Struct(1, Status.PAID), id="struct"),
        pytest.param(
            Item,
            {"price": Decimal(1), "parts": [{"price": Decimal(2)}]},
            Item(Decimal(1), [Item(Decimal(2))]),
            id="dataclass",
        ),
        pytest.param(Point, {"x": "7"}, Point(7), id="attrs"),
        pytest.param(Row, {"a": 1, "item": {"price": Decimal(1)}}, {"a": 1, "item": Item(Decimal(1))}, id="typed-dict"),
        pytest.param(Status, "paid", Status.PAID, id="enum"),
        pytest.param(list[Status] | None, ["new", Status.PAID], [Status.NEW, Status.PAID], id="union-of-list"),
        pytest.param("dict[str, Annotated[Item, 1]]", {"k": {"price": Decimal(1)}}, {"k": Item(Decimal(1))}, id="text"),
        pytest.param(tuple[Status, int], ["new", 1], (Status.NEW, 1), id="tuple"),
        pytest.param(Item, Item(Decimal(1)), Item(Decimal(1)), id="default-of-another-type"),
    ],
)
def test_builds_what_the_annotation_names(annotation: Any, sent: Any, got: Any) -> None:
    """Plain data, as another language or the command line sends it, arrives as instances of the annotated classes."""
    found = returning(annotation).send(sent).get(timeout=10)

    assert found == got
    assert type(found) is type(got)


@pytest.mark.parametrize(
    ("annotation", "sent", "text"),
    [
        pytest.param(
            Order, {"lines": [{"sku": "a", "quantity": "z"}]}, "'value'.lines[0].quantity: Input should be", id="model"
        ),
        pytest.param(Struct, {"n": "1"}, "'value'.n: Expected `int`, got `str`", id="struct"),
        pytest.param(
            Item,
            Item(Decimal(1), [Item(1.5)]),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            "'value'.parts[0].price: expected Decimal, got float 1.5",
            id="dataclass",
        ),
        pytest.param(Item, {}, "'value': Item: ", id="missing-field"),
        pytest.param(Item | None, 7, "'value': expected Item or None, got int 7", id="optional"),
        pytest.param(Row, {}, "'value'.a: Row needs this key", id="typed-dict"),
        pytest.param(Row, {"a": "x"}, "'value'.a: expected int, got str 'x'", id="key"),
        pytest.param(Status, "late", "'value': expected a Status ('new', 'paid'), got str 'late'", id="enum"),
        pytest.param(dict[str, Status], {"k": "x"}, "'value'['k']: expected a Status", id="in-dict"),
    ],
)
def test_is_refused_at_the_send_with_the_path(annotation: Any, sent: Any, text: str) -> None:
    """What does not fit never leaves the caller's process."""
    with pytest.raises(ArgumentsError) as caught:
        returning(annotation).send(sent)

    assert f"same() argument {text}" in caught.value.what


@pytest.mark.parametrize(
    ("annotation", "sent", "got"),
    [
        pytest.param(int, "5", 5, id="int"),
        pytest.param(int, 5.0, 5, id="whole-float"),
        pytest.param(float, "1.5", 1.5, id="float"),
        pytest.param(bool, "off", False, id="bool"),
        pytest.param(Decimal, "1.50", Decimal("1.50"), id="decimal"),
        pytest.param(UUID, "0" * 32, UUID(int=0), id="uuid"),
        pytest.param(datetime, "2024-01-01T00:00:00Z", datetime(2024, 1, 1, tzinfo=UTC), id="datetime"),
        pytest.param(date, "2024-01-01", date(2024, 1, 1), id="date"),
        pytest.param(timedelta, "90", timedelta(seconds=90), id="timedelta"),
        pytest.param(Level, "1", Level.LOW, id="enum-of-numbers"),
        pytest.param(list[int], ["1", 2], [1, 2], id="list"),
        pytest.param(Annotated[int | None, "x"], "3", 3, id="annotated-union"),
        pytest.param(str | int, "3", "3", id="exact-member-first"),
        pytest.param(Struct, {"n": "1"}, Struct(1), id="struct"),
    ],
)
def test_converts_text_if_the_task_coerces(annotation: Any, sent: Any, got: Any) -> None:
    """Web input becomes what the annotation says, at the send."""
    found = returning(annotation, coerce=True).send(sent).get(timeout=10)

    assert found == got
    assert type(found) is type(got)


@pytest.mark.parametrize("sent", ["x", "1.5", "", None, [1], 1.5], ids=repr)
def test_refuses_what_cannot_be_converted(sent: Any) -> None:
    """A coercing task guesses nothing."""
    with pytest.raises(ArgumentsError, match="expected int"):
        returning(int, coerce=True).send(sent)


@pytest.mark.parametrize(
    "annotation", [Any, "Missing", "Missing[int] | None", Plain | Any, object], ids=lambda each: str(each)[:20]
)
def test_accepts_what_annotations_leave_open(annotation: Any) -> None:
    """A name for type checkers only, and ``Any``, check nothing."""
    assert returning(annotation, coerce=True).send(5).get(timeout=10) == 5


@pytest.mark.parametrize(
    ("annotation", "sent", "text"),
    [
        pytest.param(int, "1", "expected int, got str '1'", id="int"),
        pytest.param(str, 1, "expected str, got int 1", id="str"),
        pytest.param(Status, "new", "expected Status, got str 'new'", id="enum"),
        pytest.param(Literal["a"], "b", "expected one of 'a', got str 'b'", id="literal"),
        pytest.param(list[int], [1, "2"], "[1]: expected int, got str '2'", id="in-list"),
    ],
)
def test_checks_scalars_if_the_app_checks_types(annotation: Any, sent: Any, text: str) -> None:
    """With ``check_types`` a send finds at run time what a type checker would find."""
    task = returning(annotation)
    task.app.configure({"check_types": True})

    with pytest.raises(ArgumentsError) as caught:
        task.send(sent)

    assert text in caught.value.what


def test_accepts_an_int_for_a_float_and_checks_the_rest() -> None:
    """What type checkers accept, the check accepts; each further argument is checked as well."""
    app = Queuekit(eager=True, check_types=True)

    @app.task(name="scale")
    def scale(x: float, *rest: int, **more: str) -> Any:
        return [x, rest, more]

    assert scale.send(1, 2, 3, k="v").get(timeout=10) == [1, (2, 3), {"k": "v"}]
    with pytest.raises(ArgumentsError, match="'k': expected str"):
        scale.send(1, k=5)  # pyright: ignore[reportArgumentType]


@dataclasses.dataclass(frozen=True)
class Tag:
    """A dataclass that may be in a set."""

    name: str


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        pytest.param(int, "5", 5, id="int"),
        pytest.param(int, '"5"', 5, id="quoted-int"),
        pytest.param(str, "5", "5", id="text"),
        pytest.param(str, "null", "null", id="word-of-json"),
        pytest.param(str | None, "null", None, id="none"),
        pytest.param(str, '"a"', "a", id="quoted-text"),
        pytest.param(float, "5", 5, id="int-for-float"),
        pytest.param(bool, "yes", True, id="bool"),
        pytest.param(int | str, "5", 5, id="either"),
        pytest.param(bool | str, "1", "1", id="as-it-is-first"),
        pytest.param(date, "2026-11-30", date(2026, 11, 30), id="date"),
        pytest.param(list[date], '["2026-11-30"]', [date(2026, 11, 30)], id="dates"),
        pytest.param(tuple[int, ...], "[1, 2]", (1, 2), id="tuple"),
        pytest.param(Status, "new", "new", id="enum-stays-plain"),
        pytest.param(list[Tag], '[{"name": "a"}]', [{"name": "a"}], id="class-stays-plain"),
        pytest.param(Any, "5", 5, id="anything"),
    ],
)
def test_reads_what_is_typed_as_the_annotation_says(annotation: Any, text: str, value: Any) -> None:
    """Of what a text may mean, the first that fits is sent: as it is, or else converted."""
    types = returning(annotation).parameters.all_types

    (found,), _ = types.typed([readings(text)], {})

    assert (found, type(found)) == (value, type(value))


def test_says_why_nothing_that_is_typed_fits() -> None:
    """The error is about the likeliest reading, and names the argument and the path inside it."""
    types = returning(list[int]).parameters.all_types

    with pytest.raises(ArgumentsError, match=r"\[1\]: expected int, got str 'b'"):
        types.typed([readings('[1, "b"]')], {})


def test_typed_default_fits() -> None:
    """A text that equals the default is the default, whatever the annotation says."""
    app = Queuekit(eager=True)

    @app.task(name="page")
    def page(size: int = "auto", *more: int) -> Any:  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
        return size, more

    assert page.parameters.all_types.typed([("auto",), (3, "3")], {}) == (["auto", 3], {})


JSON = dict[str, "JSON"] | list["JSON"] | str | int | None


@dataclasses.dataclass
class Odd:
    """A dataclass whose values do not fit its annotations, as its defaults allow."""

    known: ClassVar[dict[str, int]] = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    mail: pydantic.EmailStr = "a@example.org"
    total: int = dataclasses.field(init=False, default=None)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


@attrs.define
class Private:
    """An attrs class with a private field that has a default of another type."""

    _x: int = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "checked"])
@pytest.mark.parametrize(
    ("annotation", "sent"),
    [
        pytest.param(typing.List, [1], id="bare-list"),  # noqa: UP006
        pytest.param(typing.Tuple, (1, 2), id="bare-tuple"),  # noqa: UP006
        pytest.param(typing.Set, {1}, id="bare-set"),  # noqa: UP006
        pytest.param(tuple[()], (), id="empty-tuple"),
        pytest.param(tuple[int, *tuple[str, ...]], (1, "a", "b"), id="unpacked-tuple"),
        pytest.param("JSON", {"a": ["b", {"c": None}]}, id="names-itself"),
        pytest.param(TypeAliasType("Tree", "list[Tree] | int"), [[1], 2], id="alias-of-itself"),  # noqa: F821  # pyright: ignore[reportGeneralTypeIssues]
        pytest.param(Odd, Odd(), id="class-variable"),
        pytest.param(Private, Private(), id="private-field"),
        pytest.param(pydantic.EmailStr, "a@example.org", id="name-of-pydantic"),
        pytest.param(Literal["exit()", "Status"], "exit()", id="literal-text-is-no-code"),
        pytest.param(Annotated[Status, "exit()"], Status.NEW, id="metadata-is-no-code"),
        pytest.param(Sequence[Status], (Status.NEW,), id="abstract-container"),
        pytest.param(Sequence[str], "abc", id="text-is-a-sequence"),
    ],
)
def test_accepts_what_the_annotation_allows(annotation: Any, sent: Any, checked: bool) -> None:  # noqa: FBT001
    """A valid call is never refused, however its annotation is written."""
    task = returning(annotation)
    for kind in (Odd, Private, Status):
        task.app.register_type(kind)
    task.app.configure({"check_types": checked})

    assert task.send(sent).get(timeout=10) == sent


@pytest.mark.parametrize(
    ("annotation", "sent", "got"),
    [
        pytest.param(Literal[Status.NEW], "new", Status.NEW, id="literal-member"),
        pytest.param(Sequence[Item], [{"price": Decimal(1)}], [Item(Decimal(1))], id="sequence"),
        pytest.param(Iterable[Status], ("new",), (Status.NEW,), id="iterable"),
        pytest.param(Mapping[str, Status], {"a": "new"}, {"a": Status.NEW}, id="mapping"),
        pytest.param(abc.Set[Status], ["new"], {Status.NEW}, id="abstract-set"),
        pytest.param(set[Tag], [{"name": "a"}], {Tag("a")}, id="set"),
    ],
)
def test_builds_members_of_any_container(annotation: Any, sent: Any, got: Any) -> None:
    """What a container holds is built, also if its annotation is abstract."""
    task = returning(annotation)
    task.app.register_type(Tag)

    assert task.send(sent).get(timeout=10) == got


@pytest.mark.parametrize("default", ["every one", {}, -1, None], ids=repr)
def test_a_default_of_another_type_may_be_sent(default: Any) -> None:
    """A value that equals the default fits whatever the annotation says, at the send and on arrival."""
    app = Queuekit(eager=True)

    @app.task(name="same")
    def same(value: Status = default) -> Any:
        return value

    assert same.send(default).get(timeout=10) == default


def test_a_key_that_may_be_missing_may_be_missing() -> None:
    """``NotRequired`` counts, also where annotations are text."""
    assert returning(Lazy).send({"a": 1}).get(timeout=10) == {"a": 1}
    with pytest.raises(ArgumentsError, match="needs this key"):
        returning(Lazy).send({"b": 1})


def test_names_of_further_arguments_are_not_those_of_parameters() -> None:
    """A keyword that only ``**more`` takes has the type of that, also if a positional parameter has its name."""
    app = Queuekit(eager=True)

    @app.task(name="keep")
    def keep(status: Status, /, *rest: Status, **more: int) -> Any:
        return [status, rest, more]

    sent: Any = {"status": 5, "rest": 6, "more": 7}
    assert keep.send("new", **sent).get(timeout=10) == [Status.NEW, (), sent]  # pyright: ignore[reportArgumentType]


def test_dead_letters_a_message_whose_arguments_do_not_fit() -> None:
    """Who sent it does not matter: a body never sees an argument that is not what its annotation says."""
    task = returning(Order)

    sent = task.app.send(Signature("same", ({"lines": 5},)))

    with pytest.raises(TaskFailed, match=r"same\(\) argument 'value'.lines: Input should be a valid list"):
        sent.get(timeout=10)


def test_links_of_workflows_carry_models() -> None:
    """A result is built and checked as the argument of what follows it."""
    app = Queuekit(eager=True)

    @app.task(name="make")
    def make(n: int) -> Item:
        return Item(Decimal(n))

    @app.task(name="price")
    def price(item: Item) -> Decimal:
        return item.price

    @app.task(name="total")
    def total(items: list[Item]) -> Decimal:
        return sum((item.price for item in items), Decimal(0))

    assert app.send(chain(make.s(2), price.s())).get(timeout=10) == 2
    assert app.send(chord([make.s(1), make.s(2)], total.s())).get(timeout=10) == 3
    assert app.send(price.starmap([[Item(Decimal(1))], [Item(Decimal(2))]], chunk=2)).get(timeout=10) == [1, 2]
    with pytest.raises(ArgumentsError, match="'item'"):
        price.s({"cost": 1})


def test_early_acknowledged_messages_arrive_as_what_they_are() -> None:
    """A task that is acknowledged early gets instances too."""
    assert returning(Status, ack="early").send("new").get(timeout=10) is Status.NEW


def test_costs_a_task_of_scalars_nothing() -> None:
    """Once that is known, no argument is looked at."""
    task = returning(int)

    task.send(1)

    assert task.parameters.types is None


def test_handles_know_the_task_that_was_called() -> None:
    """A handle made of an id and a task has the type of the task's result, and needs no round trip."""
    task = returning(int)
    sent = task.send(5)

    assert task.result(sent.id) == task.app.result(sent.id, task) == sent
    assert task.result(sent.id).get(timeout=10) == 5
    assert task.result(sent.id).done
    with pytest.raises(OptionError, match="expected a task"):
        task.app.result(sent.id, "same")


V = TypeVar("V")


class Batch(pydantic.BaseModel, Generic[V]):
    """A generic model."""

    items: list[V]


@pytest.mark.parametrize("check_types", [False, True])
def test_a_generic_model_takes_the_place_of_a_parametrized_one(*, check_types: bool) -> None:
    """Pydantic reads ``Batch(items=[...])`` as a ``Batch[Line]`` if the items fit, and so does a task."""
    app = Queuekit(eager=True, check_types=check_types)

    @app.task(name="of")
    def of(batch: Batch[Line]) -> str:
        return type(batch).__name__

    lines, wrong = [Line(sku="a", quantity=1)], cast("Any", Batch(items=[1]))

    assert of.send(Batch(items=lines)).get(timeout=10) == of.send(Batch[Line](items=lines)).get(timeout=10)
    with pytest.raises(ArgumentsError, match=r"argument 'batch'.items\[0\]"):
        of.send(wrong)
