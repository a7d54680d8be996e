"""A body that is killed whatever it does, and what becomes of those beside it."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from queuekit import State
from support.commands import queuekit
from support.engines import AWS, ENGINES
from support.fault_tasks import LONGEST, app, hog, hold, nap, stubborn
from support.fleet import Fleet, freeze
from support.waiting import PATIENCE, wait_until


def kill(fleet: Fleet, id: str, *options: str) -> Any:
    """Run ``queuekit kill`` as ann."""
    engines = [text for name, url in fleet.urls.items() for text in (f"--{name}", url)]
    return queuekit("kill", id, "--as", "ann", "--wait", f"{PATIENCE:g}s", *engines, *options, folder=fleet.folder)


def cancellation(fleet: Fleet, id: str) -> dict[str, Any]:
    """Return what ``queuekit show`` says of who ended a message."""
    engines = [text for name, url in fleet.urls.items() for text in (f"--{name}", url)]
    told: dict[str, Any] = json.loads(queuekit("show", id, "--json", *engines, folder=fleet.folder).stdout)
    found: dict[str, Any] = told["cancellation"]
    return found


@pytest.mark.parametrize(
    "body", [pytest.param(stubborn, id="stubborn"), pytest.param(hog, id="hog", marks=pytest.mark.full)]
)
def test_kills_a_body_in_a_thread_with_its_process(fleet: Fleet, body: Any) -> None:
    """Also if it holds the interpreter. Those beside it begin anew, without a count, and without being suspects."""
    group = fleet.start_ready(concurrency=2)
    (before,) = group.workers()
    neighbour = hold.send(str(fleet.gate()))
    fleet.reached("begin", 1)
    victim = body.send(3 * PATIENCE if body is hog else str(fleet.gate("never")))
    fleet.reached("begin", 2)

    done = kill(fleet, victim.id, "--yes")
    wait_until(lambda: fleet.ledger.counts("begin")[neighbour.id] == 2, lambda: f"the neighbour\n{fleet.logs()}")
    again = fleet.leased()[neighbour.id]
    fleet.gate().touch()
    fleet.drained()

    assert (done.returncode, "with its worker process" in done.stderr) == (0, True), done.stderr
    assert again.crashes == 0
    assert neighbour.get(timeout=PATIENCE) == neighbour.id
    assert fleet.app.result(victim.id).state is State.CANCELLED
    assert fleet.ledger.counts("begin")[victim.id] == 1
    told = cancellation(fleet, victim.id)
    assert (told["by"], told["did"], bool(told["at"])) == ("ann", "killed", True)
    assert before not in group.workers()
    assert not fleet.dead()


def test_kills_a_body_in_a_process_alone(fleet: Fleet) -> None:
    """Nothing is asked, and nothing else ends."""
    group = fleet.start_ready(concurrency=2, pool="process")
    workers = group.workers()
    neighbour = hold.send(str(fleet.gate()))
    victim = hog.send(3 * PATIENCE)
    fleet.reached("begin", 2)

    done = kill(fleet, victim.id)
    fleet.gate().touch()
    fleet.drained()

    assert (done.returncode, "its body ended" in done.stderr) == (0, True), done.stderr
    assert fleet.app.result(victim.id).state is State.CANCELLED
    assert cancellation(fleet, victim.id)["did"] == "killed"
    assert fleet.ledger.counts("begin") == {neighbour.id: 1, victim.id: 1}
    assert group.workers() == workers


def test_kills_a_body_in_a_frozen_process(fleet: Fleet) -> None:
    """Its supervisor does; it asks first, as for any other thread."""
    group = fleet.start_ready(concurrency=1)
    victim = hold.send(str(fleet.gate()))
    fleet.reached("begin", 1)
    freeze(group.workers()[0])

    done = kill(fleet, victim.id, "--yes")
    fleet.drained()

    assert done.returncode == 0, done.stderr
    assert fleet.app.result(victim.id).state is State.CANCELLED


def test_a_killed_process_takes_one_of_the_bodies_that_were_sent_together(fleet: Fleet) -> None:
    """Those before it are done, those behind it run in another process while it is slow, and all run once."""
    group = fleet.start_ready(concurrency=2, pool="process")
    fleet.app.send_many(nap.s(0.0) for _ in range(100))  # the worker learns that they are quick
    fleet.drained()
    others = [*(nap.s(0.0) for _ in range(60)), nap.s(LONGEST), *(nap.s(0.0) for _ in range(60))]

    sent = [result.id for result in fleet.app.send_many(others)]
    slow = sent.pop(60)
    wait_until(lambda: fleet.ledger.has("end", sent), lambda: f"the others\n{fleet.logs()}")
    os.kill(fleet.ledger.pid_of(slow), signal.SIGKILL)
    wait_until(lambda: fleet.ledger.counts("begin")[slow] == 2, lambda: f"the slow one again\n{fleet.logs()}")

    assert fleet.leased()[slow].crashes == 1
    assert {fleet.ledger.counts("begin")[id] for id in sent} == {1}
    assert len(group.workers()) == 1


EACH_ENGINE = [pytest.param(name, marks=pytest.mark.full, id=name) for name in ENGINES | AWS]


@pytest.mark.parametrize("engine", EACH_ENGINE)
def test_a_worker_killed_in_the_middle_of_a_batch_loses_nothing(engine: str, tmp_path: Path) -> None:
    """What is settled runs once, and what the worker held twice at most; nothing is blamed, on any engine."""
    fleet = Fleet(tmp_path, app, **(ENGINES | AWS)[engine](tmp_path))
    try:
        group = fleet.start_ready(concurrency=2, pool="process", lease=5)
        settled = [result.id for result in app.send_many(nap.s(0.0) for _ in range(100))]
        wait_until(lambda: fleet.states(settled) == {State.SUCCESS: 100}, lambda: f"the first\n{fleet.logs()}")
        (worker,) = group.workers()
        calls = [nap.s(0.0) for _ in range(400)]
        calls.insert(200, hold.s(str(fleet.gate())))
        sent = [result.id for result in app.send_many(calls)]
        wait_until(lambda: fleet.ledger.counts("begin")[sent[200]], lambda: f"the middle\n{fleet.logs()}")

        os.kill(worker, signal.SIGKILL)
        fleet.gate().touch()
        wait_until(lambda: fleet.ledger.has("end", sent), lambda: f"all\n{fleet.logs()}")

        runs = fleet.ledger.counts("begin")
        assert {runs[id] for id in settled} == {1}
        assert {runs[id] for id in sent} <= {1, 2}
        assert worker not in group.workers()
        assert not fleet.dead()
    finally:
        fleet.close()
