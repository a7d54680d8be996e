"""The record of pauses: how long each lasts, and which messages it selects."""

import json
from typing import Any

import attrs
import pytest

from queuekit.backend import Record
from queuekit.wire.pauses import PAUSED, Drain, Pause, drain_key, drain_record, pauses_record, read_drain, read_pauses

MAIL = Pause(mark="m-1", queue="mail", by="ann", at=5.0, left=60.0, why="full")
TASK = Pause(mark="m-2", task="pay", where=(("tenant", "acme"),), by="bob", at=6.0)


def test_a_record_holds_all_pauses() -> None:
    """It expires with the last of them, and never if one has no end."""
    short, for_ever = pauses_record([MAIL], now=100.0), pauses_record([MAIL, TASK], now=100.0)

    assert (short.key, short.ttl) == (PAUSED, 60.0)
    assert read_pauses(for_ever, now=100.0) == (MAIL, TASK)
    assert for_ever.ttl is not None
    assert for_ever.ttl > 3e8


def test_its_remaining_life_tells_the_time() -> None:
    """A reader whose clock is an hour ahead sees the same pauses."""
    record = pauses_record([MAIL, attrs.evolve(MAIL, mark="m-3", left=20.0)], now=100.0)

    (left,) = read_pauses(attrs.evolve(record, ttl=35.0), now=3_700.0)

    assert (left.mark, left.left) == ("m-1", 35.0)


def test_without_that_the_clock_tells_it() -> None:
    """Some backends do not report how long a record will live."""
    record = attrs.evolve(pauses_record([MAIL], now=100.0), ttl=None)

    assert [pause.left for pause in read_pauses(record, now=110.0)] == [50.0]
    assert read_pauses(record, now=161.0) == ()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"pauses": 1}',
        b"\xff",
        b'{"at": "x", "ttl": 1, "pauses": []}',
        b"[" * 100_000,
        b'{"at": 1, "ttl": 1, "pauses": [{"mark": 1}, 7, {"mark": "m", "queue": "", "task": ""}]}',
        b'{"at": 1, "ttl": 1, "pauses": [{"mark": "m", "queue": "q", "task": "", "where": [], "left": "x", "at": 1}]}',
    ],
    ids=["empty", "list", "no-list", "no-text", "no-time", "deep", "no-pauses", "no-length"],
)
def test_what_is_damaged_pauses_nothing(body: bytes) -> None:
    """A worker goes on."""
    assert read_pauses(Record(key=PAUSED, body=body, ttl=1.0), now=1.0) == ()


def test_no_record_is_no_pause() -> None:
    """It is deleted with the last pause."""
    assert read_pauses(None, now=1.0) == ()


@pytest.mark.parametrize(
    ("where", "values", "fits"),
    [
        ([("tenant", "acme")], {"tenant": "acme", "x": 1}, True),
        ([("tenant", "acme")], {"x": 1}, False),
        ([("id", "42")], {"id": 42}, True),
        ([("id", "42")], {"id": "42"}, True),
        ([("on", "true"), ("n", "null")], {"on": True, "n": None}, True),
        ([("user.id", "7")], {"user": {"id": 7}}, True),
        ([("user.id", "7")], {"user.id": 7}, True),
        ([("user.id", "7")], {"user": "7"}, False),
        ([("raw", "b")], {"raw": b"b"}, False),
        ([], {}, True),
    ],
    ids=["text", "missing", "number", "digits", "json", "path", "dotted-name", "no-path", "bytes", "nothing"],
)
def test_selects_messages(where: list[tuple[str, str]], values: dict[str, Any], fits: bool) -> None:  # noqa: FBT001 - a row
    """Values are compared as text, written as in JSON."""
    assert Pause(mark="m", task="t", where=tuple(where)).fits(values) is fits


def test_names_tasks() -> None:
    """A whole name, in which ``*`` stands for any characters; a paused queue names no task."""
    assert Pause(mark="m", task="mail.*").names("pay", "mail.send")
    assert not Pause(mark="m", task="mail").names("mail.send")
    assert not MAIL.names("mail", "")


def test_says_what_is_paused() -> None:
    """As the start of a sentence."""
    assert (MAIL.what, TASK.what) == ("the queue 'mail'", "the task 'pay' where tenant=acme")


def test_a_request_to_drain() -> None:
    """Who asked, and when; a damaged one is a request all the same."""
    record = drain_record("w-1", Drain(by="ann", at=5.0))

    assert (record.key, read_drain(record)) == (drain_key("w-1"), Drain(by="ann", at=5.0))
    assert json.loads(record.body) == {"by": "ann", "at": 5.0}
    assert read_drain(Record(key="drain:w-1", body=b"[]")) == Drain()
