"""Unique keys: one for all ways to write a call, another for each other call."""

import dataclasses
import datetime
import decimal
import enum
import functools
import os
import signal
import subprocess
import sys
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuekit import Queuekit, Signature
from queuekit.client.sender import Sending
from support.working import make_app

MISSING = object()


class Colour(enum.Enum):
    """An Enum."""

    RED = "red"


@attrs.frozen
class Point:
    """An attrs class that holds what has no order."""

    tags: frozenset[str]
    more: dict[str, int]


@dataclasses.dataclass
class Line:
    """A dataclass."""

    ends: list[Point]


@pytest.fixture(scope="module")
def app() -> Queuekit:
    """An app with a unique task."""
    made = make_app()
    made.task(name="f", unique=True)(f)
    made.task(name="g", unique=True)(g)
    made.task(name="number", unique=True)(number)
    made.register_type(Point)
    made.register_type(Line)
    made.register_type(Colour)
    return made


def f(x: Any, y: Any = 2, *rest: Any, z: Any = MISSING, **more: Any) -> None:
    """Take arguments of all kinds; one default cannot be sent."""


def g(x: Any, /, y: Any = None) -> None:
    """Take one argument by position only."""


def number(value: int) -> None:
    """Take a number."""


def _key(app: Queuekit, call: Signature[Any]) -> str:
    unique = Sending(app.runtime, app.tasks).prepare(call.options(unique=True)).envelope.unique
    assert unique is not None
    return unique.key


def _f(*args: Any, **kwargs: Any) -> Signature[Any]:
    return Signature("f", args, kwargs)


SAME: dict[str, tuple[Signature[Any], Signature[Any]]] = {
    "keyword": (_f(1), _f(x=1)),
    "default": (_f(3), _f(3, 2)),
    "default-by-name": (_f(3), _f(3, y=2)),
    "all-by-name": (_f(3, 4), _f(y=4, x=3)),
    "order-of-keywords": (_f(1, a=1, b=2), _f(1, b=2, a=1)),
    "order-of-a-dict": (_f({"a": 1, "b": [2]}), _f({"b": [2], "a": 1})),
    "keys-of-a-dict": (_f({1: 2, (3,): 4}), _f({(3,): 4, 1: 2})),
    "order-of-a-set": (_f({"a", "b", "c"}), _f({"c", "b", "a"})),
    "inside": (_f([{"a": {"x", "y"}, "b": 1}]), _f([{"b": 1, "a": {"y", "x"}}])),
    "attrs": (
        _f(Point(frozenset("ab"), {"a": 1, "b": 2})),
        _f(x=Point(frozenset("ba"), {"b": 2, "a": 1})),
    ),
    "dataclass": (
        _f(Line([Point(frozenset("ab"), {})])),
        _f(Line([Point(frozenset("ba"), {})])),
    ),
    "not-a-number": (_f(float("nan")), _f(float("nan"))),
    "minus-nothing": (_f(0), _f(-0)),
    "zone-by-zone": (
        _f(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)),
        _f(datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(0)))),
    ),
    "decimal": (_f(decimal.Decimal("1.0")), _f(decimal.Decimal(10) / 10 * decimal.Decimal("1.0"))),
    "member-for-a-number": (Signature("number", [signal.SIGTERM]), Signature("number", [15])),
    "positional-only": (Signature("g", [1]), Signature("g", [1], {"y": None})),
    "by-name-only": (Signature("unknown", [], {"a": 1, "b": 2}), Signature("unknown", [], {"b": 2, "a": 1})),
}
OTHER: dict[str, tuple[Signature[Any], Signature[Any]]] = {
    "value": (_f(1), _f(2)),
    "kind": (_f(1), _f("1")),
    "float": (_f(1), _f(1.0)),
    "true": (_f(1), _f(*[True])),
    "list": (_f([1]), _f((1,))),
    "nesting": (_f([[1], 2]), _f([[1, 2]])),
    "sets": (_f({1}), _f(frozenset({1}))),
    "parts": (_f("a", "bc"), _f("ab", "c")),
    "task": (Signature("f", [1]), Signature("g", [1])),
    "default": (_f(1, 2), _f(1, 3)),
    "rest": (_f(1, 2, 3), _f(1, 2)),
    "keyword": (_f(1, a=1), _f(1, b=1)),
    "enum": (_f(Colour.RED), _f("red")),
    "decimal": (_f(decimal.Decimal("1.0")), _f(decimal.Decimal("1.00"))),
    "minus-zero": (_f(0.0), _f(-0.0)),
    "zones": (
        _f(datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)),
        _f(datetime.datetime(2026, 1, 1, 13, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))),
    ),
    "moment": (_f(datetime.date(2026, 1, 1)), _f(datetime.date(2026, 1, 2))),
    "no-default": (_f(1), _f(1, z=None)),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_equal_calls_have_one_key(app: Queuekit, one: Signature[Any], other: Signature[Any]) -> None:
    """However a call is written, it is the same call."""
    assert _key(app, one) == _key(app, other)


@pytest.mark.parametrize(("one", "other"), OTHER.values(), ids=OTHER)
def test_other_calls_have_others(app: Queuekit, one: Signature[Any], other: Signature[Any]) -> None:
    """What the function could tell apart is not one call."""
    assert _key(app, one) != _key(app, other)


@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_the_key_is_that_of_the_serializer_in_force(serializer: str) -> None:
    """Values that only another serializer can write have a key as well."""
    app = make_app(serializer=serializer, accept=[serializer], allow_unsafe=["pickle"])
    app.task(name="f", unique=True)(f)

    assert _key(app, _f({"a", "b"}, 2)) == _key(app, _f(x={"b", "a"}))


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@functools.cache
def _app() -> Queuekit:
    """Return an app for all examples: to make one takes longer than they do."""
    app = make_app()
    app.task(name="f", unique=True)(f)
    return app


@pytest.mark.no_cover  # what it runs through others do as well, and it takes three times as long measured
@settings(max_examples=settings().max_examples // 3)
@given(st.dictionaries(st.sampled_from("abcdef"), _values, max_size=6), st.randoms(use_true_random=False))
def test_no_order_makes_a_difference(kwargs: dict[str, Any], chance: Any) -> None:
    """Whatever can be sent has one key, in whatever order it was filled."""
    app = _app()
    items = list(kwargs.items())
    chance.shuffle(items)

    one, other = _f({**kwargs}, **kwargs), _f(x=dict(items), **dict(items))

    assert _key(app, one) == _key(app, other)


def test_the_key_is_the_same_in_every_process() -> None:
    """Texts are hashed otherwise in each process, and sets are ordered by that."""
    program = (
        "from queuekit import Queuekit\n"
        "from queuekit.client.sender import Sending\n"
        "app = Queuekit(broker='memory://')\n"
        "@app.task(name='f', unique=True)\n"
        "def f(x): ...\n"
        "print(Sending(app.runtime, app.tasks).prepare(f.s({str(n) for n in range(50)})).envelope.unique.key)\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert len(found) == 1


def test_a_call_written_otherwise_is_a_duplicate() -> None:
    """The second send returns the handle of the first."""
    app = make_app()
    task = app.task(name="f", unique=True)(f)
    first, second = task.send(1), task.send(x=1, y=2)

    assert (second.id, second.duplicate) == (first.id, True)


@pytest.mark.parametrize("coerce", [False, True])
def test_a_value_and_what_the_annotation_makes_of_it_are_one_call(*, coerce: bool) -> None:
    """The function receives the same, so the second call is a duplicate; another value is another call."""
    app = make_app()

    @app.task(name="paint", unique=True, coerce=coerce)
    def paint(colour: Colour | None, more: tuple[Colour, ...] = ()) -> None: ...

    plain: Any = "red"
    first = paint.send(Colour.RED, (Colour.RED,))

    assert paint.send(plain, more=(plain,)).id == first.id
    assert paint.send(colour=Colour.RED, more=(plain,)).duplicate
    assert not paint.send(None, (Colour.RED,)).duplicate
