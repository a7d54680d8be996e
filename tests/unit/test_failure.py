"""An error as text: bounded, and beginning with the user's own code."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from queuekit import Queuekit
from queuekit.failure import Failure, describe, in_words


class RudeError(Exception):
    """An error whose text cannot be had."""

    def __str__(self) -> str:
        raise SystemExit("no")


class Boasting(str):
    """A text that does not let itself be cut."""

    __slots__ = ()

    def __getitem__(self, _index: object) -> str:
        raise SystemExit("no")


class NamelessType(type):
    """A class whose name cannot be had."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        raise SystemExit("no")


class NamelessError(Exception, metaclass=NamelessType):
    """One of them."""


class BoastfulError(Exception):
    """An error with such a text."""

    def __str__(self) -> str:
        return Boasting("x" * 3_000)


def caught(call: Any) -> BaseException:
    """Return what *call* raises."""
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - whatever it is
        return error
    pytest.fail("nothing was raised")


def prepared_call(function: Callable[[], None]) -> Callable[[], Any]:
    """Return a call of *function* that goes through frames of queuekit."""
    return Queuekit().task(name="fail")(function)


def fail() -> None:
    """Raise with a cause."""
    try:
        str(dict[str, str]()["key"])
    except KeyError as error:
        raise ValueError("no such thing") from error


def test_tells_type_text_and_traceback() -> None:
    """The traceback holds the cause and the lines of code."""
    told = describe(caught(fail))

    assert (told["type"], told["text"]) == ("ValueError", "no such thing")
    assert "KeyError: 'key'" in told["traceback"]
    assert 'raise ValueError("no such thing") from error' in told["traceback"]


def test_begins_with_the_users_own_code() -> None:
    """Frames of queuekit stand before the task's and tell a user nothing."""
    error = caught(prepared_call(fail))
    while error.__traceback__ and error.__traceback__.tb_frame.f_globals["__name__"] == __name__:
        error.__traceback__ = error.__traceback__.tb_next  # frames of this file, not of the task

    assert "task.py" not in describe(error)["traceback"]
    assert "in fail" in describe(error)["traceback"]


def test_is_bounded() -> None:
    """A huge text is cut, and of the traceback both ends are kept."""
    told = describe(ValueError("x" * 100_000))

    assert len(told["text"]) == 2_000
    assert len(told["traceback"]) == 16_384
    assert told["traceback"].endswith("xxx\n")


def test_survives_an_error_without_text() -> None:
    """An error that cannot even be printed is reported all the same."""
    told = describe(RudeError())

    assert (told["type"], told["text"]) == ("RudeError", "<its text cannot be read>")


def test_survives_errors_of_unusual_classes() -> None:
    """Neither a class without a name nor a text that raises when it is cut ends the thread that tells of it."""
    assert describe(NamelessError("no"))["type"] == "<its type cannot be read>"
    assert describe(BoastfulError())["text"] == "x" * 2_000


def test_is_one_line_where_that_is_enough() -> None:
    """Type and text."""
    assert in_words(ValueError("no")) == "ValueError: no"


def test_a_failure_crosses_processes() -> None:
    """It is plain data, and its traceback does not fill the log."""
    failure = Failure(id="a", task="t", error_type="ValueError", error="no", traceback="Traceback ...")

    copy = pickle.loads(pickle.dumps(failure))  # noqa: S301 - our own bytes

    assert copy == failure
    assert "Traceback" not in repr(failure)
