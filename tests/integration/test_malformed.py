"""Messages of any bytes, in any field: they are set aside intact, and the rest is worked off (QK8, QK9)."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from queuekit import State
from queuekit.envelope import Envelope
from queuekit.states import MAX_COUNT
from support.fault_tasks import hold, nap
from support.fleet import Fleet
from support.malformed import WRONG, make
from support.waiting import wait_until

SOME = 300


def test_malformed_messages_are_set_aside(fleet: Fleet) -> None:
    """Among good messages each bad one ends in the dead letters, or is held as unknown; the worker lives on."""
    bad = {envelope.id: envelope.body for envelope in make(SOME, large=3, seed=7)}
    malformed = {id for id in bad if not id.startswith("unknown")}
    group = fleet.start_ready(concurrency=4)
    before = group.workers()

    good = []
    for id, body in bad.items():
        fleet.app.runtime.broker.send([Envelope(id=id, queue="default", body=body)])
        good.append(nap.send(0).id)
    wait_until(lambda: fleet.ledger.has("end", good), what="all good ones done")
    wait_until(lambda: malformed <= fleet.dead().keys(), what="all bad ones set aside")
    wait_until(lambda: bad.keys() - malformed <= fleet.waiting().keys(), what="all unknown ones held")

    letters = fleet.dead()
    assert {id: queued.envelope.body for id, queued in letters.items()} == {id: bad[id] for id in malformed}
    assert {queued.reason for queued in letters.values()} == {"malformed"}
    assert all(queued.error for queued in letters.values())
    assert group.workers() == before


def test_every_wrong_type_is_found(fleet: Fleet) -> None:
    """One of each kind of wrong header and payload; a worker that met them all still limits and cancels tasks."""
    group = fleet.start_ready(concurrency=2)
    before = group.workers()
    bodies = {f"wrong-{number}": make_body(f"wrong-{number}") for number, make_body in enumerate(WRONG)}

    fleet.app.runtime.broker.send([Envelope(id=id, queue="default", body=body) for id, body in bodies.items()])
    wait_until(lambda: bodies.keys() <= fleet.dead().keys(), what="all set aside")
    limited = hold.options(timeout=0.2).send(str(fleet.gate()))
    cancelled = hold.send(str(fleet.gate()))
    wait_until(lambda: fleet.ledger.has("begin", [cancelled.id]), what="a task running")
    cancelled.cancel()
    fleet.drained()

    assert {queued.reason for id, queued in fleet.dead().items() if id in bodies} == {"malformed"}
    assert fleet.app.info(limited.id).error_type == "TaskTimeout"
    assert fleet.app.info(cancelled.id).state is State.CANCELLED
    assert group.workers() == before


COUNTS: dict[str, dict[str, Any]] = {
    f"{field}-{value}": {field: value}
    for field in ("generation", "attempt", "hop")
    for value in (MAX_COUNT + 1, 2**32 - 1)
}
"""Numbers that a broker stores, and queuekit never writes."""


def test_huge_counts_are_set_aside(fleet: Fleet) -> None:
    """Each such message is dead at once, with a result that says so; one that is replayed breaks nothing."""
    fleet.start_ready(concurrency=2)
    for id, counts in COUNTS.items():
        body = json.dumps({"v": 1, "id": id, "task": nap.name, "ct": "json"}).encode() + b'\n{"args":[0]}'
        fleet.app.runtime.broker.send([Envelope(id=id, queue="default", body=body, **counts)])

    wait_until(lambda: COUNTS.keys() <= fleet.dead().keys(), what="all set aside")

    assert {fleet.app.info(id).state for id in COUNTS} == {State.DEAD}
    fleet.app.runtime.broker.requeue("default", list(COUNTS))
    last = nap.send(0).id
    wait_until(lambda: fleet.ledger.has("end", [last]), what="others done")


ROWS: dict[str, dict[str, object]] = {
    "text-body": {"body": "text, not bytes"},
    "wide-text-body": {"body": "\u20ac" * 50},
    "number-body": {"body": 7},
    "no-id": {"id": ""},
    "odd-id": {"id": "../../\x00\n"},
    "long-id": {"id": "x" * 100_000},
    "text-priority": {"priority": "high"},
    "huge-priority": {"priority": 2**62},
    "bytes-id": {"id": b"\xff\xfe"},
    "text-attempt": {"attempt": "second"},
    "text-expires": {"expires": "never"},
    "text-not-before": {"not_before": "later"},
    "odd-unique": {"unique_key": b"\xff", "unique_until": "christmas", "unique_ttl": "long"},
    "infinite-due": {"due": float("-inf")},
    "text-due": {"due": "now"},
    "text-sent": {"sent_at": "yesterday"},
    "huge-generation": {"generation": 2**40},
    "largest-generation": {"generation": 2**63 - 1},
    "largest-attempt": {"attempt": 2**63 - 1},
    "largest-hop": {"hop": 2**63 - 1},
    "negative-hop": {"hop": -1},
    "largest-number": {"number": 2**63 - 1},
    "largest-crashes": {"crashes": 2**63 - 1},
    "text-number": {"number": "many"},
    "text-crashes": {"crashes": "some"},
}
"""Name to columns that nobody of ours writes so."""


@pytest.mark.parametrize("fleet", ["sqlite"], indirect=True)
def test_rows_that_nobody_of_ours_wrote(tmp_path: Path, fleet: Fleet) -> None:
    """Whatever somebody else writes into the table, good messages beside it are done and the worker lives on."""
    path = tmp_path / "queue.db"
    group = fleet.start_ready(concurrency=2)
    before = group.workers()
    first = [nap.send(0).id for _ in range(5)]
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        for number, (name, odd) in enumerate(ROWS.items()):
            row = {
                "id": f"row-{name}",
                "queue": "default",
                "state": 0,
                "priority": 4,
                "due": number,
                "body": b"x",
                "generation": 0,
                "attempt": 0,
                "hop": 0,
                "sent_at": 0.0,
                **odd,
            }
            columns, marks = ", ".join(row), ", ".join("?" * len(row))
            sql = f"INSERT INTO messages({columns}) VALUES ({marks})"  # noqa: S608 - names of columns, from above
            connection.execute(sql, tuple(row.values()))
        connection.execute("UPDATE messages SET id = CAST(x'ff' AS TEXT) WHERE id = 'row-text-due'")
        connection.commit()

    good = [*first, *(nap.send(0).id for _ in range(40))]
    wait_until(lambda: fleet.ledger.has("end", good), what="all good ones done")

    wait_until(lambda: fleet.left() == 0, what="nothing left")
    assert len(fleet.dead()) == len(ROWS)
    assert {queued.reason for queued in fleet.dead().values()} == {"malformed"}
    assert group.workers() == before
