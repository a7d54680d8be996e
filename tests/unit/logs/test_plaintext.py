"""Nothing that others wrote moves the cursor, colours, hides or forges a line, on a terminal or in a log."""

import json
import logging

import pytest

from queuekit import Queuekit
from queuekit.cli.dlq import _document, _row
from queuekit.cli.message_view import as_document, as_text
from queuekit.cli.output import as_json, columns, fields
from queuekit.cli.program import error_lines
from queuekit.errors import QueuekitError, TaskFailed
from queuekit.logs.plaintext import clean, clean_json
from queuekit.operations.admin import Admin
from queuekit.worker.log_setup import JsonFormatter, TextFormatter
from support.working import burst, make_app

HOSTILE = "a\x1b[31mb\x1b]0;title\x07\r\n12:00:01 ERROR   forged\x9b2J\u202egnp\u2028\udcff\x00z"
"""Colours, a terminal's title, a forged line, C1, a turn of the reading direction, a lone surrogate, NUL."""


def is_plain(text: str, *, lines: int | None = None) -> bool:
    """Return whether *text* is printable, and how many lines it has."""
    rows = text.split("\n")
    return all(row.isprintable() for row in rows) and (lines is None or len(rows) == lines)


def hostile_app() -> tuple[Queuekit, str]:
    """Return an app with one dead letter whose error is hostile, and its id."""
    app = make_app()

    @app.task(name="t")
    def fail() -> None:
        raise type(f"E{HOSTILE}", (ValueError,), {})(HOSTILE)

    result = fail.send()
    burst(app)
    return app, result.id


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [("plain ü 漢", "plain ü 漢"), ("\x1b", r"\x1b"), ("\u202e", r"\u202e"), ("\udcff", r"\udcff"), ("a\nb", r"a\nb")],
)
def test_writes_out_what_is_not_printable(text: str, cleaned: str) -> None:
    """Other characters stay, of whatever script."""
    assert clean(text) == cleaned


def test_lines_of_a_traceback_stay_lines() -> None:
    """Line feeds and tabs are kept where they are wanted; a carriage return never is."""
    assert clean("a\n\tb\r", lines=True) == "a\n\tb\\r"


def test_json_means_the_same() -> None:
    """What is written out is read back as it was, beyond the first plane too."""
    text = f"{HOSTILE}\U000e0001"

    document = clean_json(as_json({"x": text}, indent=2))

    assert is_plain(document)
    assert json.loads(document) == {"x": text}


def test_a_table_has_a_line_for_each_row() -> None:
    """Names and values are on one line each, whatever is in them."""
    assert is_plain(columns(("A", "B"), [[HOSTILE, HOSTILE]]), lines=2)
    assert is_plain(fields({"a": HOSTILE}), lines=1)


def test_an_error_has_the_lines_that_it_was_made_with() -> None:
    """No part of it adds one, or an escape."""
    lines = error_lines(QueuekitError(f"bad {HOSTILE}", where=HOSTILE))

    assert all(is_plain(line, lines=1) for line in lines)


def test_dead_letters_are_shown_plainly() -> None:
    """In the list, in full and as JSON."""
    app, id = hostile_app()
    sight, (letter,) = Admin(app).show(id), Admin(app).dead()

    shown = [columns(("A",) * 6, [_row(letter, 0.0)]), as_text(sight, app.runtime.accepted, now=0.0)]
    documents = [_document(letter), as_document(sight, app.runtime.accepted)]

    assert all(map(is_plain, shown))
    assert all(is_plain(clean_json(as_json(document, indent=2))) for document in documents)


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_logs_of_a_failure_are_plain(formatter: logging.Formatter, caplog: pytest.LogCaptureFixture) -> None:
    """No line of an exception's text or traceback can pass for a line of the log."""
    with caplog.at_level(logging.INFO):
        hostile_app()

    lines = "\n".join(map(formatter.format, caplog.records)).split("\n")

    assert is_plain("\n".join(lines))
    assert not [line for line in lines if line.startswith("12:00:01")]


def test_an_error_of_a_result_is_plain() -> None:
    """What a program that waits for a result prints of a remote failure is as clean as what we print."""
    app, id = hostile_app()

    with pytest.raises(TaskFailed) as caught:
        app.result(id).get(timeout=5)

    assert is_plain(str(caught.value))
    assert all(is_plain(note) for note in caught.value.__notes__)
