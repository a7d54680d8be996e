"""Raw values become what a class annotates, whichever source they come from; and what does not fit is told apart."""

import enum
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import attrs
import pytest

from queuekit.durations import Seconds
from queuekit.plugins.options import Mismatch, Problem, convert, read, shown


class Colour(enum.Enum):
    """Something to choose from."""

    RED = "red"
    BLUE = 2


@pytest.mark.parametrize(
    ("annotation", "raw", "value"),
    [
        pytest.param(str, "5", "5", id="text"),
        pytest.param(int, " 1_000 ", 1000, id="whole"),
        pytest.param(float, "1.5", 1.5, id="number"),
        pytest.param(float, 2, 2.0, id="number-from-whole"),
        pytest.param(bool, True, True, id="truth"),
        pytest.param(bool, "Yes", True, id="true"),
        pytest.param(bool, "off", False, id="false"),
        pytest.param(Seconds, timedelta(minutes=1), 60.0, id="duration"),
        pytest.param(Annotated[int, "bytes"], "5", 5, id="annotated"),
        pytest.param(Path, "/a", Path("/a"), id="path"),
        pytest.param(Path, Path("/a"), Path("/a"), id="path-itself"),
        pytest.param(Colour, "red", Colour.RED, id="enum"),
        pytest.param(Colour, "2", Colour.BLUE, id="enum-from-text"),
        pytest.param(Literal["a", 1], "1", 1, id="choice"),
        pytest.param(str | None, None, None, id="none"),
        pytest.param(str | int, "5", 5, id="union"),
        pytest.param(list[int], "1, 2", [1, 2], id="list"),
        pytest.param(tuple[str, ...], ["a"], ("a",), id="tuple"),
        pytest.param(frozenset[str], "a,a", frozenset({"a"}), id="set"),
        pytest.param(Sequence[int], "[1]", [1], id="sequence"),
        pytest.param(list, ["a", 1], ["a", 1], id="bare-list"),
        pytest.param(dict[str, int], '{"a": "1"}', {"a": 1}, id="table"),
        pytest.param(Mapping[str, str], {"a": "b"}, {"a": "b"}, id="mapping"),
        pytest.param(dict, {"a": 1}, {"a": 1}, id="bare-table"),
        pytest.param(Any, "as it is", "as it is", id="anything"),
        pytest.param(bytes, "as it is", "as it is", id="a-type-that-is-not-known"),
    ],
)
def test_converts_to_the_annotation(annotation: Any, raw: object, value: object) -> None:
    """Text that reads as the annotated type is that type; what has it already stays."""
    converted = convert(annotation, raw)

    assert (type(converted), converted) == (type(value), value)


@pytest.mark.parametrize(
    ("annotation", "raw", "error"),
    [
        pytest.param(str, 5, "expected text, got 5", id="text"),
        pytest.param(int, "1.5", 'expected a whole number, got "1.5"', id="whole"),
        pytest.param(int, True, "expected a whole number, got true", id="bool-is-no-number"),
        pytest.param(int, "9" * 40, "expected a whole number", id="absurd"),
        pytest.param(float, "x", 'expected a number, got "x"', id="number"),
        pytest.param(float, 10**400, "expected a number", id="infinite"),
        pytest.param(float, False, "expected a number, got false", id="bool-is-no-fraction"),
        pytest.param(bool, 2, "expected true or false, got 2", id="truth"),
        pytest.param(bool, ["a"], 'expected true or false, got ["a"]', id="list-is-no-truth"),
        pytest.param(Path, 5, "expected text, got 5", id="path"),
        pytest.param(Colour, "green", 'expected "red" or 2, got "green"', id="enum"),
        pytest.param(int | None, "x", 'expected a whole number, got "x"', id="optional"),
        pytest.param(int | bool, "x", 'expected a whole number or true or false, got "x"', id="union"),
        pytest.param(list[int], "[1", 'expected a list, got "[1"', id="json"),
        pytest.param(list[int], {"a": 1}, "expected a list, got a table", id="table-is-no-list"),
        pytest.param(dict[str, int], "x", 'expected a table, got "x"', id="text-is-no-table"),
        pytest.param(dict[str, int], ["x"], 'expected a table, got ["x"]', id="list-is-no-table"),
    ],
)
def test_refuses_what_does_not_fit(annotation: Any, raw: object, error: str) -> None:
    """The error says what was expected and what was there."""
    with pytest.raises(Mismatch) as caught:
        convert(annotation, raw)

    assert str(caught.value).startswith(error)


def test_shows_values_briefly() -> None:
    """A long value is cut, and a URL shown without its password."""
    values = [shown("x" * 100), shown("redis://u:pw@h"), shown(["redis://u:pw@h"])]

    assert len(values[0]) == 60
    assert values[1:] == ['"redis://u:***@h"', '["redis://u:***@h"]']


def test_names_a_problem_in_one_line() -> None:
    """A problem reads as key and text."""
    assert str(Problem("worker.lease", "expected 1 or more")) == "worker.lease: expected 1 or more"


def _even(value: object) -> int:
    number = int(str(value))
    if number % 2:
        raise ValueError("must be even")
    return number


def _below_top(instance: Any, _field: Any, value: int) -> None:
    if value > instance.top:
        raise ValueError("above the top")


_TAKEN: Any = attrs.Converter(lambda value, _self: str(value), takes_self=True)


@attrs.frozen(kw_only=True)
class Fussy:
    """A class with converters and validators of its own."""

    even: int = attrs.field(default=0, converter=_even)
    taken: str = attrs.field(default="", converter=_TAKEN)  # type: ignore[misc]
    api_token: int = attrs.field(default=5, validator=attrs.validators.lt(10))
    secret: str = attrs.field(default="", validator=attrs.validators.matches_re("[a-z]*"))
    top: int = 9
    below: int = attrs.field(default=0, validator=_below_top)
    hidden: int = attrs.field(default=0, init=False)
    _private: int = 0


def test_leaves_conversion_to_the_class() -> None:
    """A field's own converter gets the value as written, and what it says is the problem."""
    values, problems = read(Fussy, {"even": "3", "taken": 7, "private": "8", "strange": 1})

    assert values == {"taken": 7, "private": 8}
    assert problems == {"even": "must be even"}


def test_leaves_validators_that_look_at_the_instance_for_later() -> None:
    """A validator that needs the other fields is asked when the object is made."""
    values, problems = read(Fussy, {"below": 10})

    assert (values, problems) == ({"below": 10}, {})
    with pytest.raises(ValueError, match="above the top"):
        Fussy(**values)


def test_keeps_secrets_out_of_problems() -> None:
    """What is wrong with a secret is told without quoting it, whoever refuses it."""
    _, wrong_type = read(Fussy, {"api_token": "hunter2"})
    _, wrong_value = read(Fussy, {"api_token": 11, "secret": "HUNTER2"})

    assert wrong_type == {"api_token": "expected a whole number"}
    assert wrong_value == dict.fromkeys(("api_token", "secret"), "the value is not valid")
