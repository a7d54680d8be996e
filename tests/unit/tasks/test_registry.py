"""What an app knows by name."""

import dataclasses
import enum
from typing import Any, Optional

import attrs
import pytest

from queuekit import Queuekit, Signature
from queuekit.errors import EncodeError, OptionError, UnknownTaskError
from queuekit.ids import InvalidNameError
from queuekit.serializer import type_name
from queuekit.tasks.callables import DeclarationError
from queuekit.tasks.registry import DuplicateTaskError
from support.waiting import PATIENCE
from support.working import burst, make_app


class Colour(enum.Enum):
    """An Enum."""

    RED = "red"


@attrs.frozen
class Point:
    """An attrs class."""

    x: int


@dataclasses.dataclass
class Line:
    """A dataclass."""

    ends: list[Point]


@attrs.frozen
class Stranger:
    """A class that nothing names."""

    x: int


def first() -> None:
    """Do nothing."""


def second() -> None:
    """Do nothing."""


@pytest.fixture
def app() -> Queuekit:
    """Return an app with some tasks."""
    app = make_app()
    for name in ("shop.mail.send", "shop.sms.send", "shop.total"):
        app.task(name=name)(first)
    return app


def test_two_functions_cannot_share_a_name(app: Queuekit) -> None:
    """The error names both and the way out."""
    with pytest.raises(DuplicateTaskError, match=r"two tasks are named 'shop\.total'") as caught:
        app.task(name="shop.total")(second)

    assert "test_registry.first and" in caught.value.where
    assert "name=" in caught.value.fix


def test_runs_what_names_an_alias() -> None:
    """Messages that an older release sent under the earlier name of a task, or sends during a deploy."""
    app = make_app()
    app.task(name="mail.deliver", aliases=["mail.send", "send"])(lambda to: f"mail to {to}")
    results = [app.send(Signature[str](name, ("ann",))) for name in ("mail.send", "send", "mail.deliver")]

    burst(app)

    assert [result.get(timeout=PATIENCE) for result in results] == ["mail to ann"] * 3


def test_an_alias_is_found_and_not_listed(app: Queuekit) -> None:
    """A command may name it; lists show each task once."""
    before = len(app.tasks)
    task = app.task(name="mail.deliver", aliases=["mail.dispatch"])(lambda: None)

    assert app.tasks.find("mail.dispatch") is app.tasks["mail.dispatch"] is task
    assert (len(app.tasks), "mail.dispatch" in list(app.tasks)) == (before + 1, False)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"name": "a"}, {"name": "b", "aliases": ["a"]}),
        ({"name": "a", "aliases": ["b"]}, {"name": "b"}),
        ({"name": "a", "aliases": ["c"]}, {"name": "b", "aliases": ["c"]}),
    ],
    ids=["alias-is-a-name", "name-is-an-alias", "alias-is-an-alias"],
)
def test_an_alias_belongs_to_one_task(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Nobody could tell which of two tasks a message means."""
    app = make_app()
    app.task(**first)(lambda: 1)

    with pytest.raises(DuplicateTaskError, match="two tasks are named"):
        app.task(**second)(lambda: 2)


@pytest.mark.parametrize(("aliases", "kind"), [("old", OptionError), (5, OptionError), (["a b"], InvalidNameError)])
def test_aliases_are_names(aliases: Any, kind: type[Exception]) -> None:
    """A text alone would be a list of letters."""
    with pytest.raises(kind):
        make_app().task(name="a", aliases=aliases)


def test_a_reloaded_module_registers_again(app: Queuekit) -> None:
    """The same function, imported anew, takes the place of the old one."""
    task = app.task(name="shop.total")(first)

    assert app.tasks["shop.total"] is task
    assert len(app.tasks) == 3


@pytest.mark.parametrize(
    ("name", "found"),
    [
        pytest.param("shop.total", "shop.total", id="whole"),
        pytest.param("total", "shop.total", id="last-part"),
        pytest.param("mail.send", "shop.mail.send", id="last-parts"),
    ],
)
def test_finds_by_a_unique_ending(app: Queuekit, name: str, found: str) -> None:
    """People at a prompt need not write the module."""
    assert app.tasks.find(name).name == found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("send", "'send' could be shop.mail.send or shop.sms.send; Write the whole name", id="several"),
        pytest.param("totl", "no task named 'totl'; Did you mean 'total'?", id="near"),
        pytest.param("zzzzzz", "no task named 'zzzzzz'; Name one of the app's tasks", id="far"),
        pytest.param("otal", "no task named 'otal'; Did you mean 'total'?", id="half-a-word"),
    ],
)
def test_says_what_comes_near(app: Queuekit, name: str, text: str) -> None:
    """An unknown or ambiguous name is answered with what could be meant."""
    with pytest.raises(UnknownTaskError) as caught:
        app.tasks.find(name)

    assert str(caught.value).startswith(text)


def test_says_that_there_are_none() -> None:
    """An app without tasks cannot be guessed at."""
    with pytest.raises(UnknownTaskError, match="the app has no tasks"):
        make_app().tasks.find("add")


def echo_app(function: Any) -> Queuekit:
    """Return an app whose one task returns what it gets, and says what type that was."""
    app = make_app()
    app.task(name="echo")(function)
    return app


def through(app: Queuekit, value: Any) -> Any:
    """Return *value* after a journey to a worker and back."""
    result = app.tasks["echo"].send(value)
    burst(app)
    return result.get(timeout=1)


def named(value: Colour | Point | Line) -> tuple[str, Any]:
    """Name the types in annotations."""
    return type(value).__name__, value


def named_deep(value: dict[str, list[Optional[Colour]]]) -> Any:  # noqa: UP045 - the old way must work, too
    """Name a type deep inside."""
    return value


def unnamed(value: Any) -> tuple[str, Any]:
    """Name no type."""
    return type(value).__name__, value


@pytest.mark.parametrize("value", [Colour.RED, Point(1), Line([Point(1), Point(2)])], ids=repr)
def test_types_in_annotations_come_back_as_themselves(value: Any) -> None:
    """What a task's annotations name needs no registration."""
    assert through(echo_app(named), value) == (type(value).__name__, value)


def test_types_deep_in_annotations_come_back_as_themselves() -> None:
    """Unions and containers are looked into."""
    assert through(echo_app(named_deep), {"a": [Colour.RED]}) == {"a": [Colour.RED]}


def test_registered_types_come_back_as_themselves() -> None:
    """``register_type`` works as a decorator and as a call."""
    app = echo_app(unnamed)

    assert app.register_type(Stranger) is Stranger
    assert through(app, Stranger(1)) == ("Stranger", Stranger(1))


def test_other_types_are_refused_at_the_send() -> None:
    """A class that nothing names would come back as a dict; a name in a message is looked up, never imported."""
    with pytest.raises(EncodeError, match=r"argument 'value'\[1\]\.a: Stranger is not known to the app.*register_type"):
        echo_app(unnamed).tasks["echo"].send([0, {"a": Stranger(1)}])


def test_annotations_that_cannot_be_resolved_harm_nothing() -> None:
    """A name that exists only for type checkers leaves the other annotations usable."""
    app = make_app()

    def hazy(value: Point, other: Any) -> None:
        """Have an annotation that means nothing at run time."""

    hazy.__annotations__["other"] = "OnlyForTypeCheckers"
    app.task(name="hazy")(hazy)

    assert app._types.find(type_name(Point)) is Point
    assert app._types.find("os.system") is None


def test_tasks_registered_later_are_looked_at_later() -> None:
    """A type that was unknown is known as soon as a task names it."""
    app = make_app()
    before = app._types.find(type_name(Point))

    app.task(name="named")(named)

    assert (before, app._types.find(type_name(Point))) == (None, Point)


class Plain:
    """Neither an attrs class nor a dataclass."""


@dataclasses.dataclass
class Word(str):  # noqa: SLOT000 - that is what it is about
    """A text as well."""


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        pytest.param(Plain, "Plain cannot be registered: it is neither an attrs class", id="plain-class"),
        pytest.param(dict, "dict cannot be registered: it is neither", id="dict"),
        pytest.param(Word, "Word cannot be registered: it also derives from str", id="text"),
        pytest.param(Point(1), "it is not a class", id="instance"),
    ],
)
def test_what_could_not_come_back_is_not_registered(app: Queuekit, kind: Any, text: str) -> None:
    """It is refused there, not at the first send."""
    with pytest.raises(DeclarationError, match=text):
        app.register_type(kind)
