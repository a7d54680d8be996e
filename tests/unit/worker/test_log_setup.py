"""Log output of the command line."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from queuekit.context import Context, enter, leave
from queuekit.events import Events, TaskFinished
from queuekit.worker.log_setup import configure_logging


@contextmanager
def configured(style: str, *handlers: logging.Handler) -> Iterator[None]:
    """Set logging up on a root logger that has only *handlers*, and put all back as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = handlers
    try:
        configure_logging(level="INFO", style=style)
        yield
    finally:
        root.handlers[:] = before
        root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what went to standard error."""
    return capsys.readouterr().err.splitlines()


def test_text_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Time, level and text; inside a task also its id, on the user's own lines alone."""
    with configured("text"):
        token = enter(Context(id="id-1", task="t", queue="q"))
        logging.getLogger("shop").warning("low on %s", "paper")
        logging.getLogger("queuekit.task").info("start t id-1")
        leave(token)
        logging.getLogger("shop").debug("not this")

    user, own = lines(capsys)
    assert user.endswith(" WARNING low on paper [id-1]")
    assert own.endswith(" INFO    start t id-1")


def test_text_lines_have_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception is written below its line."""
    with configured("text"):
        log_an_error()

    told = lines(capsys)
    assert told[0].endswith("ERROR   it broke")
    assert told[-1] == "ZeroDivisionError: division by zero"


def log_an_error() -> None:
    """Log an exception."""
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logging.getLogger("shop").exception("it broke")


def test_json_lines_are_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    """One object a line, with the task and the event's own fields."""
    with configured("json"):
        token = enter(Context(id="id-1", task="t", queue="q"))
        logging.getLogger("shop").info("low on paper")
        leave(token)
        Events().emit(TaskFinished(id="id-2", task="t", queue="q", attempt=0, state="SUCCESS", duration=0.5))

    user, event = (json.loads(line) for line in lines(capsys))
    assert (user["level"], user["logger"], user["message"]) == ("INFO", "shop", "low on paper")
    assert (user["task_id"], user["task_name"]) == ("id-1", "t")
    assert (event["event"], event["id"], event["duration"]) == ("TaskFinished", "id-2", 0.5)
    assert user["time"].endswith("Z")


def test_json_lines_hold_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback is a field, so that one record stays one line."""
    with configured("json"):
        log_an_error()

    (line,) = lines(capsys)
    assert json.loads(line)["traceback"].endswith("ZeroDivisionError: division by zero")


def test_leaves_a_logging_of_the_users_own_alone() -> None:
    """Where the root logger has a handler nothing is changed."""
    handler = logging.NullHandler()

    with configured("json", handler):
        handlers = logging.getLogger().handlers[:]

    assert handlers == [handler]
