"""Workers on a broker whose leases belong to the process that claimed: nobody else renews, settles or hands back."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.claimer_tasks import app, hog_once, nap
from support.fleet import Fleet
from support.of_the_claimer import INTRUDERS, intruders
from support.waiting import PATIENCE, unhurried, wait_until

APP = "support.claimer_tasks:app"
LEASE = 2.0
"""Seconds; short, so that a test need not wait."""
KEPT = 6.0
"""Seconds of one that must not end, on a busy machine either."""


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """Workers that are all gone when the test is over; none has shown a lease that it has not claimed."""
    monkeypatch.setenv(INTRUDERS, str(tmp_path / "intruders"))
    queue = unhurried(f"claimer:///{tmp_path}/queue.db", "busy_timeout")
    backend = unhurried(f"sqlite:///{tmp_path}/results.db", "busy_timeout")
    made = Fleet(tmp_path, app, broker=queue, backend=backend)
    yield made
    made.close()
    print(made.logs())  # noqa: T201 - pytest shows it where a test has failed
    assert intruders() == []


def test_worker_renews_what_it_runs(fleet: Fleet) -> None:
    """A task that outlasts its lease runs once, though the supervisor may not renew."""
    fleet.start(app=APP, concurrency=1, lease=KEPT)
    result = nap.send(1.5 * KEPT)

    result.get(timeout=PATIENCE)

    assert fleet.ledger.counts("begin") == {result.id: 1}
    assert "leases lost" not in fleet.logs()


def test_messages_of_a_dead_process_come_back_by_themselves(fleet: Fleet) -> None:
    """The supervisor starts another process, and leaves the leases to end."""
    group = fleet.start(app=APP, concurrency=1, lease=LEASE)
    result = nap.send(3 * LEASE)
    wait_until(lambda: fleet.ledger.has("begin", [result.id]), what="the task running")
    (pid,) = group.workers()
    os.kill(pid, signal.SIGKILL)

    result.get(timeout=PATIENCE)

    assert fleet.ledger.counts("begin") == {result.id: 2}


def test_process_that_cannot_renew_is_ended(fleet: Fleet) -> None:
    """A task that holds the interpreter for longer than a lease has lost it: its process ends, and it runs again."""
    group = fleet.start(app=APP, concurrency=1, lease=LEASE)
    result = hog_once.send(10 * PATIENCE)

    result.get(timeout=PATIENCE)

    assert fleet.ledger.counts("begin") == {result.id: 2}
    assert f"while {result.id} held the interpreter for longer than its lease, and was killed" in group.read_log()
