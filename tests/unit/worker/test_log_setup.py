"""Log output of the command line."""

import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from queuekit.context import Context, enter, leave
from queuekit.events import Events, TaskFinished
from queuekit.logs.lines import lines_together
from queuekit.worker.log_setup import configure_logging

FIELDS = ["task_id", "task", "queue", "attempt", "worker", "pid"]


@contextmanager
def configured(style: str, *handlers: logging.Handler) -> Iterator[None]:
    """Set logging up on a root logger that has only *handlers*, and put all back as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = handlers
    try:
        configure_logging(level="INFO", style=style, worker="host-1")
        yield
    finally:
        root.handlers[:] = before
        root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what went to standard error."""
    return capsys.readouterr().err.splitlines()


def test_text_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Date, level, pid, worker and text; inside a task also its id, on the user's own lines alone."""
    with configured("text"):
        token = enter(Context(id="id-1", task="t", queue="q"))
        logging.getLogger("shop").warning("low on %s", "paper")
        logging.getLogger("queuekit.task").info("start t id-1")
        leave(token)
        logging.getLogger("shop").debug("not this")

    user, own = lines(capsys)
    date = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"
    assert re.fullmatch(rf"{date} WARNING {os.getpid()} host-1: low on paper \[id-1\]", user)
    assert re.fullmatch(rf"{date} INFO    {os.getpid()} host-1: start t id-1", own)


def test_lines_of_a_batch_are_written_together(capsys: pytest.CaptureFixture[str]) -> None:
    """Within a batch, nothing is written before its end; then all lines are, in order."""
    log = logging.getLogger("queuekit.task")
    with configured("text"):
        with lines_together():
            log.info("one")
            log.info("two")
            within = lines(capsys)
        log.info("three")

    assert within == []
    assert [line.rpartition(" ")[2] for line in lines(capsys)] == ["one", "two", "three"]


def test_lines_of_a_batch_that_takes_long_are_written_before_its_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow subscriber does not keep the lines of other tasks from the log."""
    monkeypatch.setattr("queuekit.logs.lines._LONGEST", 0.0)
    with configured("text"), lines_together():
        logging.getLogger("queuekit.task").info("one")
        within = lines(capsys)

    assert [line.rpartition(" ")[2] for line in within] == ["one"]


def test_other_threads_do_not_wait_for_a_batch(capsys: pytest.CaptureFixture[str]) -> None:
    """Only the lines of the thread that works on the batch are held back."""
    log = logging.getLogger("queuekit.task")
    with configured("text"), lines_together():
        log.info("held")
        other = threading.Thread(target=log.info, args=("other",))
        other.start()
        other.join()
        within = lines(capsys)

    assert [line.rpartition(" ")[2] for line in within] == ["other"]


def test_text_lines_have_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception is written below its line."""
    with configured("text"):
        log_an_error()

    told = lines(capsys)
    assert told[0].endswith(f"ERROR   {os.getpid()} host-1: it broke")
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
        Events().emit(
            TaskFinished(id="id-2", task="t", queue="q", attempt=1, state="SUCCESS", duration=0.5, worker="host-2")
        )

    user, event = (json.loads(line) for line in lines(capsys))
    assert (user["level"], user["logger"], user["message"]) == ("INFO", "shop", "low on paper")
    assert [user[name] for name in FIELDS] == ["id-1", "t", "q", 0, "host-1", os.getpid()]
    assert [event[name] for name in FIELDS] == ["id-2", "t", "q", 1, "host-2", os.getpid()]
    assert (event["event"], event["duration"]) == ("TaskFinished", 0.5)
    assert "id" not in event
    assert user["time"].endswith("Z")


def test_json_lines_keep_what_the_user_adds(capsys: pytest.CaptureFixture[str]) -> None:
    """By its own name; one that says where a line comes from wins, and one of ours is told apart."""
    with configured("json"):
        logging.getLogger("shop").info("paid", extra={"order": 7, "queue": "till", "level": "high", "at": Odd()})

    (line,) = map(json.loads, lines(capsys))
    assert (line["order"], line["queue"], line["level"], line["extra_level"]) == (7, "till", "INFO", "high")
    assert line["at"] == "<Odd>"
    assert not {"task_id", "task", "attempt", "args", "taskName"} & {*line}


class Odd:
    """A value that cannot be shown."""

    def __str__(self) -> str:
        """Fail."""
        raise ValueError("no")


@pytest.mark.parametrize("value", [float("nan"), {1: {(2,): 3}}, {"a": {b"b"}}], ids=["nan", "keys", "nested"])
def test_json_lines_are_json_whatever_is_logged(capsys: pytest.CaptureFixture[str], value: object) -> None:
    """A line that a strict reader refuses would be lost."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    with configured("json"):
        logging.getLogger("shop").info("odd", extra={"value": value})

    (line,) = lines(capsys)
    assert json.loads(line, parse_constant=refuse)["message"] == "odd"


def test_json_lines_keep_a_traceback_that_the_user_adds(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside that of the exception, which has the name."""
    with configured("json"):
        try:
            int("no")
        except ValueError:
            logging.getLogger("shop").exception("odd", extra={"traceback": "of a friend"})

    (line,) = map(json.loads, lines(capsys))
    assert line["traceback"].startswith("Traceback (most recent call last):")
    assert line["extra_traceback"] == "of a friend"


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
