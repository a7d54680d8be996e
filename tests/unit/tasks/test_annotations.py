"""Which classes annotations name."""
# ruff: noqa: D103, UP037, UP045 - all ways of writing one must work, and the functions have nothing else to say

from __future__ import annotations

import ast
import dataclasses
import enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType, Optional, TypedDict, TypeVar

import attrs
import pytest

import queuekit
from queuekit import Queuekit
from queuekit.tasks import registry
from queuekit.tasks.annotations import classes_in
from queuekit.tasks.task import Task, TaskOptions
from support.working import burst, make_app

if TYPE_CHECKING:
    from elsewhere import Thing  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]

    import queuekit as qk
    from queuekit import Context
    from queuekit import Context as Ctx


class Colour(enum.Enum):
    """An Enum."""

    RED = "red"


@dataclasses.dataclass
class Item:
    """A class that only a field names."""

    colour: Colour
    other: Thing | None = None


@attrs.frozen
class Order:
    """A class that holds others."""

    items: list[Item]
    next: Order | None = None


class Row(TypedDict):
    """A dict that holds others."""

    order: Order


@attrs.frozen
class Special(Order):
    """A subclass that nothing names."""

    note: Any = None


@attrs.frozen
class Stranger:
    """A class that nothing names."""


Alias = NewType("Alias", Order)
Bound = TypeVar("Bound", bound=Order)


def plain(order: Order) -> None: ...
def optional(order: Optional[Order], thing: Optional[Thing] = None) -> None: ...
def one_bad(thing: Thing, order: Order) -> None: ...
def beside(order: Thing | Order) -> None: ...
def around(order: dict[str, Thing[Order] | list[Order]]) -> None: ...
def dotted(order: Annotated["Order", "note"], thing: Thing.part) -> None: ...
def quoted(order: "list['Order']") -> None: ...
def returned() -> Order | None: ...
def typed_dict(row: Row) -> None: ...
def new_type(order: Alias) -> None: ...
def bound(order: Bound) -> None: ...  # pyright: ignore[reportInvalidTypeVarUse]
def broken(bad: 1 / 0, order: Order) -> None: ...  # type: ignore[valid-type]  # pyright: ignore[reportInvalidTypeForm]


@pytest.mark.parametrize(
    "function",
    [plain, optional, one_bad, beside, around, dotted, quoted, returned, typed_dict, new_type, bound, broken],
    ids=lambda function: function.__name__,
)
def test_finds_the_classes_in_annotations_and_in_their_fields(function: Any) -> None:
    """Whatever stands beside them, and however they are written."""
    assert {Order, Item, Colour} <= {*classes_in(function)}


def test_finds_the_class_of_a_member() -> None:
    """As in ``Literal[Colour.RED]``."""

    def chosen(colour: Literal[Colour.RED]) -> None: ...

    assert Colour in {*classes_in(chosen)}
    assert Order not in {*classes_in(chosen)}


def test_what_annotations_name_comes_back_as_itself() -> None:
    """Fields, members, and subclasses, of which no annotation knows."""
    app = make_app()

    @app.task(name="echo")
    def echo(order: Order | Thing) -> Any:
        return type(order).__name__, order

    value = Special([Item(Colour.RED)], Order([]), note=Colour.RED)
    result = echo.send(value)
    burst(app)

    assert result.get(timeout=1) == ("Special", value)


def first_context(ctx: Context, x: int) -> None: ...
def renamed(ctx: Ctx, x: int) -> None: ...
def of_module(ctx: qk.Context, x: int) -> None: ...
def of_real_module(ctx: queuekit.Context, x: int) -> None: ...
def unknown(ctx: Thing, x: int) -> None: ...
def part_of_unknown(ctx: Thing.Context, x: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "takes"),
    [
        pytest.param(first_context, True, id="for-checkers"),
        pytest.param(renamed, True, id="renamed"),
        pytest.param(of_module, True, id="module-renamed"),
        pytest.param(of_real_module, True, id="module"),
        pytest.param(unknown, False, id="unknown"),
        pytest.param(part_of_unknown, False, id="unknown-module"),
    ],
)
def test_knows_a_context_that_is_imported_for_type_checkers(app: Queuekit, function: Any, takes: bool) -> None:  # noqa: FBT001 - a row
    """The import says whose class it is."""
    task: Task[..., Any] = app.task(function)

    assert task.parameters.have_context is takes
    assert task.parameters.names == (("x",) if takes else ("ctx", "x"))


@pytest.fixture
def app() -> Queuekit:
    """Return an app without tasks."""
    return make_app()


def test_a_registered_class_brings_its_fields(app: Queuekit) -> None:
    """And no other."""
    app.register_type(Order)

    assert app._types.find(f"{__name__}.Item") is Item
    assert app._types.find(f"{__name__}.Special") is Special
    assert app._types.find(f"{__name__}.Stranger") is None


def test_unknown_names_are_not_looked_for_again_and_again(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message may name any number of classes that nobody has; the subclasses are listed once for all of them."""
    app.register_type(Order)
    listed: list[object] = []
    real = registry._subclasses_of

    def counted(kinds: Any) -> dict[str, type]:
        listed.append(kinds)
        return real(kinds)

    monkeypatch.setattr(registry, "_subclasses_of", counted)
    monkeypatch.setattr(registry, "_LISTED_FOR", 3600)

    assert {app._types.find(f"no.Such{number}") for number in range(100)} == {None}
    assert len(listed) == 1


def test_reads_an_annotation_again_where_the_interpreter_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11 cannot parse while a finalizer does, as when asyncio logs an error that nobody has retrieved."""
    parse, failures = ast.parse, [SystemError("AST constructor recursion depth mismatch (before=156, after=210)")]

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return parse(*arguments, **options)

    monkeypatch.setattr(ast, "parse", interrupted)

    task: Task[Any, Any] = Task(with_text, app=make_app(), name="t", options=TaskOptions())

    assert (failures, task.parameters.have_context) == ([], True)


def with_text(ctx: queuekit.Context) -> None:
    """Do nothing."""
