"""What the command line prints can be read by people and by programs."""

from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from queuekit import Queuekit
from queuekit.broker import Place, QueueCounts
from queuekit.cli.arguments import parse_value, typed_call
from queuekit.cli.message_view import as_document
from queuekit.cli.output import age, as_json, columns, counted, fields, moment, one_line, span, when
from queuekit.cli.program import error_lines
from queuekit.errors import ArgumentsError, QueuekitError
from queuekit.operations.admin import MessageView
from queuekit.states import State
from queuekit.wire.records import Info


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        pytest.param(None, "-", id="none"),
        pytest.param(-0.2, "0.0s", id="clock-behind"),
        pytest.param(0.44, "0.4s", id="tenths"),
        pytest.param(59.9, "59s", id="seconds"),
        pytest.param(185.2, "3m5s", id="minutes"),
        pytest.param(7_265.0, "2h1m", id="hours"),
        pytest.param(190_800.0, "2d5h", id="days"),
    ],
)
def test_age_is_short(seconds: float | None, text: str) -> None:
    """An age has one or two units, the finer ones dropped."""
    assert age(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.0123, "12.3 ms"), (2.5, "2.5s"), (75.0, "1m15s")])
def test_span_shows_milliseconds_of_what_was_quick(seconds: float, text: str) -> None:
    """What took less than a second is told in milliseconds."""
    assert span(seconds) == text


def test_moment_is_iso_in_utc() -> None:
    """Times in JSON are ISO 8601 in UTC; an unknown one is null."""
    assert moment(0.5) == "1970-01-01T00:00:00.500Z"
    assert moment(None) is None


@pytest.mark.parametrize(
    ("now", "text"),
    [(12.0, "12s ago (1970-01-01T00:00:00.000Z)"), (-90.0, "in 1m30s (1970-01-01T00:00:00.000Z)")],
    ids=["past", "future"],
)
def test_time_for_people_is_relative_too(now: float, text: str) -> None:
    """People read how long ago or ahead a time is, and the time itself."""
    assert when(0.0, now=now) == text


def test_columns_are_aligned_without_lines() -> None:
    """A table has two blanks between its columns, numbers to the right, and no blanks at the ends of lines."""
    table = columns(("NAME", "COUNT", "NOTE"), [["a", "10", ""], ["long name", "7", "x"]], right=("COUNT",))

    assert table.splitlines() == ["NAME       COUNT  NOTE", "a             10", "long name      7  x"]


def test_fields_leave_out_what_is_empty() -> None:
    """A list of names and values shows those that are known."""
    assert fields({"id": "1", "worker": "", "state": "SUCCESS"}) == "id     1\nstate  SUCCESS"


def test_one_line_keeps_a_table_in_shape() -> None:
    """Text from a message fills one line, and cannot move the cursor."""
    assert one_line("first\nsecond") == "first"
    assert one_line("\x1b[2Jgone") == r"\x1b[2Jgone"
    assert one_line("x" * 50, width=10) == "xxxxxxx..."


@attrs.frozen
class Point:
    """A class that JSON does not know."""

    x: int


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(Point(1), '{"x": 1}', id="attrs"),
        pytest.param(datetime(2026, 1, 2, tzinfo=UTC), '"2026-01-02T00:00:00+00:00"', id="datetime"),
        pytest.param({2, 1}, "[1, 2]", id="set"),
        pytest.param(b"x", "\"b'x'\"", id="bytes"),
        pytest.param({(1, 2): 3}, '"{(1, 2): 3}"', id="keys-that-are-no-text"),
        pytest.param("grün", '"grün"', id="text"),
    ],
)
def test_any_result_becomes_json(value: Any, text: str) -> None:
    """What a task returns can be printed as JSON, whatever it is."""
    assert as_json(value) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("1", 1, id="number"),
        pytest.param("-1.5", -1.5, id="negative"),
        pytest.param("true", True, id="boolean"),
        pytest.param('"1"', "1", id="quoted"),
        pytest.param('{"a": [1]}', {"a": [1]}, id="object"),
        pytest.param("abc", "abc", id="text"),
        pytest.param("007", "007", id="leading-zeros"),
        pytest.param("NaN", "NaN", id="no-json-constant"),
        pytest.param("[" * 100_000, "[" * 100_000, id="too-deep"),
        pytest.param("", "", id="empty"),
    ],
)
def test_value_is_json_else_text(text: str, value: Any) -> None:
    """A value on the command line is JSON if it can be read so, else text."""
    assert parse_value(text) == value


def test_arguments_are_positional_or_named() -> None:
    """``name=value`` is a keyword argument; what only looks a bit like one is not."""
    task = Queuekit(eager=True).task(name="show")(show)

    args, kwargs = typed_call(task, ("1", "x=2", "a b=c", "9=8", 'y={"k": "v=w"}'), usage="")

    assert args == [1, "a b=c", "9=8"]
    assert kwargs == {"x": 2, "y": {"k": "v=w"}}


def test_arguments_that_are_not_checked_are_json_else_text() -> None:
    """Who asks for it sends what the annotations do not allow, as it would be read without them."""
    task = Queuekit(eager=True).task(name="add")(add)

    assert typed_call(task, ("x", "y=5"), usage="", unchecked=True) == (["x"], {"y": 5})
    with pytest.raises(ArgumentsError, match="argument 'x': expected int, got str 'x'") as caught:
        typed_call(task, ("x", "y=5"), usage="")
    assert caught.value.fix.endswith("add  --unchecked")


def add(x: int, y: str = "") -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("number", "at_least", "text"),
    [
        (1_200, [], "1,200"),
        (0, [], "0"),
        (1_200, [Place.DEAD], ">=1,200"),
        (0, [Place.DEAD], "?"),
        (5, [Place.READY], "5"),
    ],
)
def test_a_number_says_whether_it_is_a_lower_bound(number: int, at_least: list[Place], text: str) -> None:
    """Of a place that was not counted to its end, the least is told, or that nothing is known."""
    assert counted(QueueCounts(dead=number, at_least=frozenset(at_least)), Place.DEAD, ",") == text


def show(*args: Any, **kwargs: Any) -> Any:
    """Return what it is called with."""
    return args, kwargs


def test_error_has_at_most_six_short_lines() -> None:
    """However much an error has to say, its answer stays short, and ends its first line with one full stop."""
    error = QueuekitError("too much.", where="\n".join("abcdefgh"), fix="y" * 1000, available="z")

    lines = error_lines(error)

    assert lines[0] == "Error QK100: too much."
    assert len(lines) == 6
    assert max(map(len, error_lines(QueuekitError("w" * 1000)))) == 500


def test_result_that_cannot_be_read_is_told_of() -> None:
    """A result written by a serializer that is not accepted here does not keep the rest from being shown."""
    info = Info(id="a", task="add", state=State.SUCCESS, content_type="pickle")

    document = as_document(MessageView(info=info), {})

    assert document["state"] == "SUCCESS"
    assert document["result"] == "(cannot be read: the result is 'pickle', which is not accepted here)"
