"""Dead letters by fault, by filter and at a rate, and the record of who changed them."""

from collections.abc import Sequence

import pytest

from queuekit.backend import Record
from queuekit.events import OperatorActed
from queuekit.operations import dead_letters
from queuekit.operations.actions import ACTION, person, read_action
from queuekit.operations.admin import Admin
from queuekit.operations.dead_letters import fingerprint, group, in_steps, parse_rate
from support.working import backend_of, burst, flaky_app, make_app, seen


@pytest.mark.parametrize(
    "other",
    [
        "KeyError: 'ann'",
        "KeyError: 'bob and 7 others'",
        'KeyError: "x"\nsecond line',
    ],
)
def test_the_same_fault_has_the_same_fingerprint(other: str) -> None:
    """Numbers, ids and quoted texts, and all but the first line, do not matter."""
    assert fingerprint("t", "failed", other) == fingerprint("t", "failed", "KeyError: 'x'")


@pytest.mark.parametrize(
    ("task", "reason", "error"), [("u", "failed", "E: 1"), ("t", "crashed", "E: 1"), ("t", "failed", "F: 1")]
)
def test_another_fault_has_another(task: str, reason: str, error: str) -> None:
    """Task, reason and error each tell faults apart."""
    assert fingerprint(task, reason, error) != fingerprint("t", "failed", "E: 1")


def test_ids_and_addresses_do_not_matter() -> None:
    """Nor upper and lower case in them."""
    first = fingerprint("t", "failed", "E: order 01a22767-e5d1-7910-bcf1-73e0dd3f5281 at 0x7f00AA")

    assert first == fingerprint("t", "failed", "E: order 01A22745-C892-7318-AA76-45C7819387DC at 0x1")


def test_so_many_groups_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits none is counted together: memory is bounded."""
    monkeypatch.setattr(dead_letters, "MOST_GROUPS", 2)
    app = make_app()
    for name in "abcd":
        app.task(name=name)(lambda: 1 / 0)
        app.tasks[name].send()
    burst(app)

    found = group(Admin(app), None)

    assert sorted(one.count for one in found) == [1, 1, 2]
    assert found[0].fingerprint == "others"


@pytest.mark.parametrize(("text", "rate"), [("10/s", 10.0), ("30/m", 0.5), ("3600/h", 1.0), ("0.5/s", 0.5)])
def test_reads_a_rate(text: str, rate: float) -> None:
    """So many per second, minute or hour."""
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["10", "/s", "0/s", "-1/s", "nan/s", "inf/s", "ten/s", "10/d", "1e-320/s", ""])
def test_refuses_what_is_no_rate(text: str) -> None:
    """Also one that would never end."""
    with pytest.raises(ValueError, match="is not a rate"):
        parse_rate(text)


def test_a_slow_rate_changes_one_after_the_other() -> None:
    """And waits in between, not after the last."""
    pauses: list[float] = []

    def change(_queue: str, ids: Sequence[str]) -> list[str]:
        return list(ids)

    done = list(in_steps(change, [("a", ["1", "2"]), ("b", ["3"])], rate=0.5, sleep=pauses.append))

    assert (done, pauses) == (["1", "2", "3"], [2.0, 2.0])


def test_an_action_is_an_event_and_a_record() -> None:
    """With its author, and the first of many ids."""
    app = make_app()
    events = seen(app, OperatorActed)

    Admin(app).acted("purge", by=None, on="mail", ids=[str(number) for number in range(150)])

    (action,) = Admin(app).actions()
    assert (action.what, action.by, action.on, action.count, len(action.ids)) == ("purge", person(), "mail", 150, 100)
    assert (events[0].what, events[0].by, events[0].count) == ("purge", person(), 150)


def test_an_action_keeps_the_beginning_of_long_texts() -> None:
    """It has happened, so it is recorded in any case, in a record that any backend can store."""
    app = make_app()

    Admin(app).acted("dlq drop", by="b" * 201, on="o" * 100_000, why="w" * 100_000)

    (action,) = Admin(app).actions()
    assert (action.by, action.on, action.why) == ("b" * 200, "o" * 1_000, "w" * 1_000)


def test_an_action_stands_though_nothing_records_it() -> None:
    """It has happened: the backend is asked for nothing more than the record."""
    app = flaky_app()
    events = seen(app, OperatorActed)
    backend_of(app).wire.cut.add("put")

    Admin(app).acted("purge", by="ann", on="mail", count=3)

    assert [(event.by, event.count) for event in events] == [("ann", 3)]


@pytest.mark.parametrize("body", [b"", b"5", b"[]", b"{}", b'{"at":"x"}', b'{"at":1,"by":5}', b'{"at":1,"ids":[1]}'])
def test_a_foreign_record_is_no_action(body: bytes) -> None:
    """Whatever lies under such a key."""
    assert read_action(Record(key=f"{ACTION}x", body=body)) is None
