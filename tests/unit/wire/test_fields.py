"""Records that are read back: whatever one of their fields is, what is read holds only what we could have written."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from queuekit.backend import Record
from queuekit.limiting.rates import number_in, read_override, slowed
from queuekit.limiting.slots import Holder, SlotKey, SlotState, Waiter, read_most, waiters_in
from queuekit.limits import Rate
from queuekit.operations.actions import Action, read_action
from queuekit.schedules.schedule import Progress, read_progress
from queuekit.wire.fields import LAST
from queuekit.wire.merges import (
    CallContent,
    KeyState,
    Merge,
    Running,
    Waiting,
    read_content,
    read_state,
    taken_mark,
)
from queuekit.wire.pauses import Drain, Pause, drain_record, pauses_record, read_drain, read_pauses
from queuekit.wire.presence import read_workers
from queuekit.wire.records import Cancellation, cancel_mark, read_cancellation
from queuekit.wire.stacks import Frame, StackReport, read_report, reported
from support.hostile import WORDS

NOW = 1_800_000_000.0
CONTENT = CallContent(body=b"{}", priority=4, expires=NOW)
STATE = KeyState(
    task="add",
    running=Running(id="a", queue="default", since=NOW),
    waiting=Waiting(id="b", queue="default", since=NOW, due=NOW, latest=NOW, content=CONTENT),
    asked=NOW,
)
LINE = Waiter("default", "a", "token", 1, 0, 0, 0)
SLOTS = SlotState(
    SlotKey("one", "k"),
    2,
    holders={"a": Holder((0, 0, 0, 1), NOW, LINE)},
    front=[LINE],
    parts=[("part", 1)],
    back=[LINE],
)
REPORT = StackReport(worker="w", host="h", pid=1, kind="thread", seconds=1.0, frames=(Frame("f.py", 1, "run"),))
PRESENCE = {
    "name": "w",
    "pid": 1,
    "slots": 2,
    "rss": 3,
    "uptime": 4.0,
    "rate": 5.0,
    "runs": [["a", "add", "default", 1.0]],
}


RECORDS: dict[str, tuple[Record, Callable[[Record], Any]]] = {
    "merge": (STATE.record(Merge(mode="latest", key="k", ttl=60.0), NOW), read_state),
    "taken": (taken_mark("a", CONTENT, ttl=60.0), read_content),
    "pauses": (
        pauses_record([Pause(mark="m", queue="q", at=NOW, left=9.0)], now=NOW),
        lambda one: read_pauses(one, now=NOW),
    ),
    "drain": (drain_record("w", Drain(by="me", at=NOW)), read_drain),
    "cancel": (cancel_mark("a", ttl=60.0, wish=Cancellation(by="me", at=NOW)), read_cancellation),
    "stack": (reported("a", "t", REPORT), lambda one: read_report(one, "t")),
    "presence": (Record(key="worker:w", body=json.dumps(PRESENCE).encode()), lambda one: read_workers([one])),
    "progress": (Progress(at=NOW, last=NOW, id="a").record("s"), read_progress),
    "action": (
        Record(key="action:a", body=json.dumps(attrs.asdict(Action(what="x", by="me", at=NOW))).encode()),
        read_action,
    ),
    "slots": (SLOTS.written(NOW), lambda one: SlotState.read(one, SlotKey("one", "k"), None)),
    "part": (SLOTS.spill("part"), waiters_in),
    "slow": (slowed("api", "", until=NOW, seconds=9.0), lambda one: number_in(one, "until")),
    "rate": (Record(key="limit:r", body=b'{"limit":"5/s","burst":2}'), lambda one: read_override(one, Rate("1/s"))),
    "most": (Record(key="limit:c", body=b'{"limit":"5"}'), lambda one: read_most(one, 2)),
}


def replaced(value: Any) -> Iterator[Any]:
    """Yield a JSON value with each of its parts, at any depth, replaced by each hostile word, or left out."""
    yield from WORDS
    if isinstance(value, dict):
        for key in value:
            yield {name: item for name, item in value.items() if name != key}
            yield from (value | {key: other} for other in replaced(value[key]))
    if isinstance(value, list):
        for place in range(len(value)):
            yield from ([*value[:place], other, *value[place + 1 :]] for other in replaced(value[place]))


def bodies(body: bytes) -> Iterator[bytes]:
    """Yield bodies that differ from *body* in one value of their JSON."""
    head, newline, rest = body.partition(b"\n")
    for other in replaced(json.loads(head)):
        yield json.dumps(other).encode("utf-8", "surrogatepass") + newline + rest


def numbers(value: Any) -> Iterator[float]:
    """Yield all numbers in what was read."""
    if isinstance(value, (int, float)):
        yield value
    elif isinstance(value, dict):
        yield from (number for item in value.values() for number in numbers(item))
    elif isinstance(value, (list, tuple)):
        yield from (number for item in value for number in numbers(item))
    elif attrs.has(type(value)):
        yield from numbers(attrs.asdict(value, recurse=False))


@pytest.mark.parametrize("name", RECORDS)
def test_whatever_a_record_says_what_is_read_is_sound(name: str) -> None:
    """No reader raises anything of Python's, and no number is negative, infinite or beyond what engines can hold."""
    record, read = RECORDS[name]
    seen = 0

    for body in bodies(record.body):
        found = read(attrs.evolve(record, body=body))
        assert all(0 <= number <= max(LAST, 2**63) for number in numbers(found)), body
        seen += 1

    assert seen > len(WORDS)


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_as_it_is_written_is_read(name: str) -> None:
    """The checks of :func:`test_whatever_a_record_says_what_is_read_is_sound` refuse nothing that we write."""
    record, read = RECORDS[name]

    assert read(record) != read(attrs.evolve(record, body=b""))
