"""The record of a unique key that lets the newest arguments win: written and read, and how it changes."""

from typing import Any

import attrs
import pytest

from queuekit.backend import Record
from queuekit.envelope import join_frame
from queuekit.errors import DecodeError
from queuekit.wire.merges import (
    CallContent,
    KeyState,
    Merge,
    Running,
    Waiting,
    arrived,
    closed,
    merge_in,
    merged,
    over,
    read_content,
    read_merge,
    read_state,
    taken_mark,
    withdrawn,
)

NOW = 1_000.0
MERGE = Merge(mode="latest", key="k" * 40, ttl=60.0)
WAITING = Waiting(
    id="w",
    queue="q",
    since=NOW,
    due=NOW + 2,
    latest=NOW + 5,
    content=CallContent(body=b"{}\nw", priority=4, expires=9.5),
)
RUNNING = Running(id="r", queue="q", since=NOW)
STATES = {
    "empty": KeyState(task="t"),
    "waiting": KeyState(task="t", waiting=WAITING, asked=3.0),
    "running": KeyState(task="t", running=RUNNING, closing=True),
    "both": KeyState(task="t", running=RUNNING, waiting=attrs.evolve(WAITING, sent=True)),
}


def at(state: KeyState, id: str, *, mode: str = "latest", now: float = NOW + 2, ended: bool = False) -> Any:
    """Return what a worker does with a message."""
    return arrived(state, id, "q", mode=mode, now=now, pause=0.5, ended=ended)


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_a_state_is_read_as_it_was_written(state: KeyState) -> None:
    """The version is that of the record that was read."""
    record = attrs.evolve(state.record(MERGE, NOW), version=7)

    assert read_state(record) == attrs.evolve(state, version=7)


@pytest.mark.parametrize(
    "body", [b"", b"x", b"{}\n", b"[]\n", b'{"running":1,"waiting":null,"task":"","closing":false,"asked":0}\n']
)
def test_a_damaged_record_is_an_empty_state(body: bytes) -> None:
    """It can be replaced, so it has the version of the record."""
    assert read_state(Record(key="merge:k", body=body, version=3)) == KeyState(version=3)


def test_the_record_outlives_the_delay() -> None:
    """A message that is due after the ttl still finds it."""
    late = attrs.evolve(WAITING, due=NOW + 1_000)

    assert KeyState(waiting=late).record(MERGE, NOW).ttl == 1_060


def test_a_content_is_read_as_it_was_written() -> None:
    """Whatever bytes its body has."""
    content = CallContent(body=b"\n\0\xff", priority=9, expires=1.5)

    assert read_content(taken_mark("id", content, ttl=1)) == content
    assert read_content(None) is None
    assert read_content(Record(key="taken:x", body=b"?")) is None


@pytest.mark.parametrize(
    "value",
    [
        "latest",
        [],
        ["latest", "k"],
        ["last", "k", 1],
        ["latest", 5, 1],
        ["latest", "k", "1"],
        ["latest", "k", True],
        ["latest", "k", 0],
        ["latest", "k" * 101, 1],
        ["latest", "k", 1, 2],
        {"mode": "latest"},
    ],
    ids=repr,
)
def test_a_header_that_is_not_ours_is_refused(value: Any) -> None:
    """What a message says of its key is not trusted."""
    with pytest.raises(DecodeError):
        read_merge(value)
    with pytest.raises(DecodeError):
        merge_in(join_frame({"merge": value}, b""))


def test_the_header_is_found_in_a_body() -> None:
    """Only there, and not in the payload."""
    assert merge_in(join_frame({"merge": MERGE.header()}, b"")) == MERGE
    assert merge_in(join_frame({}, b'"merge":')) is None
    assert merge_in(b"") is None


def test_a_newer_call_gives_its_content_and_moves_the_due_time() -> None:
    """Up to the latest time, and never back; without a quiet time the due time stays."""
    call = attrs.evolve(WAITING, id="x", due=NOW + 4, content=CallContent(body=b"new", priority=1))
    late = attrs.evolve(call, due=NOW + 60)
    early = attrs.evolve(call, due=NOW)
    dues = [merged(STATES["waiting"], one, quiet=2).waiting for one in (call, late, early)]

    assert [(one.id, one.due, one.content.body) for one in dues if one] == [
        ("w", NOW + 4, b"new"),
        ("w", NOW + 5, b"new"),
        ("w", NOW + 2, b"new"),
    ]
    assert merged(STATES["waiting"], call, quiet=None).waiting == attrs.evolve(WAITING, content=call.content)
    assert merged(STATES["running"], call, quiet=None).waiting == call


@pytest.mark.parametrize("mode", ["latest", "debounce"])
def test_a_message_that_is_not_due_waits(mode: str) -> None:
    """As long as its record says."""
    assert at(STATES["waiting"], "w", mode=mode, now=NOW).wait == 2.0


def test_a_message_starts_with_what_its_record_holds() -> None:
    """And leaves its place there."""
    turn = at(STATES["waiting"], "w")
    quiet = at(STATES["waiting"], "w", mode="debounce")

    assert turn.content == quiet.content == WAITING.content
    assert turn.after == attrs.evolve(
        STATES["waiting"], running=Running(id="w", queue="q", since=NOW + 2), waiting=None
    )
    assert quiet.after == attrs.evolve(STATES["waiting"], waiting=None)


def test_one_message_of_latest_runs_at_a_time() -> None:
    """Another one waits, unless the one that runs has ended; its own redelivery runs on."""
    assert at(STATES["both"], "w").wait == 0.5
    assert at(STATES["both"], "stray").wait == 0.5
    assert at(STATES["both"], "w", ended=True).content == WAITING.content
    assert at(STATES["both"], "r") == at(STATES["both"], "stray", mode="debounce")


def test_the_end_of_a_message_leaves_what_waits() -> None:
    """First it closes, then it is over; each once."""
    closing = closed(STATES["both"], "r")
    assert closing is not None

    assert closed(closing, "r") is None
    assert closed(STATES["both"], "w") is None
    assert over(closing, "r", sent="w") == KeyState(task="t", waiting=attrs.evolve(WAITING, sent=True))
    assert over(STATES["waiting"], "w") == KeyState(task="t", asked=3.0)
    assert over(STATES["waiting"], "x") is None
    assert withdrawn(STATES["waiting"], "w") == KeyState(task="t", asked=3.0)
    assert withdrawn(STATES["waiting"], "x") is None


def test_a_message_is_sent_with_the_delay_that_is_left() -> None:
    """No longer than the broker delays, and without an expiry, which a newer call may change."""
    sent = WAITING.envelope(NOW + 0.5, longest=None)
    capped = WAITING.envelope(NOW, longest=1.0)

    assert (sent.delay, sent.expires, sent.body, sent.unique) == (1.5, None, b"{}\nw", None)
    assert capped.delay == 1.0
    assert WAITING.envelope(NOW + 9, longest=None).delay == 0.0
