"""Processes that are killed: nothing is lost, and only what was in flight runs again (QK1, QK6, QK7, QK12)."""

import os
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from queuekit.ids import derived_id
from support.fault_tasks import app, child_of, fail_at_first, hold, nap
from support.fleet import Fleet
from support.waiting import PATIENCE, wait_until

LEASE = 2.0
"""Seconds; short, so that a test need not wait."""
LONG_LEASE = 90.0
"""Seconds; long, so that a test shows who did not wait. What is killed between a claim and its note waits for it."""
CONCURRENCY = 10
PREFETCH = 20


def test_kills_of_the_whole_group_lose_nothing(fleet: Fleet) -> None:
    """Killing worker and supervisor again and again loses no message; only those in flight at a kill run twice."""
    sent = [result.id for result in fleet.app.send_many(nap.s(0.02) for _ in range(600))]
    kills = 3
    for kill in range(kills):
        group = fleet.start(lease=LEASE, concurrency=CONCURRENCY, prefetch=PREFETCH)
        fleet.reached("end", 100 * (kill + 1))
        group.kill()

    fleet.start(lease=LEASE, concurrency=CONCURRENCY, prefetch=PREFETCH)
    fleet.drained()

    runs = fleet.ledger.counts("begin")
    assert set(fleet.ledger.counts("end")) == set(sent)
    assert not fleet.dead()
    assert sum(runs.values()) - len(sent) <= kills * (CONCURRENCY + PREFETCH)


def test_killed_process_hands_its_messages_back_at_once(fleet: Fleet) -> None:
    """The supervisor notices the death of a worker process: nobody waits for the lease, and nobody is blamed."""
    gate = fleet.gate()
    group = fleet.start_ready(concurrency=4, lease=LONG_LEASE)
    ids = [result.id for result in fleet.app.send_many(hold.s(str(gate)) for _ in range(4))]
    wait_until(lambda: fleet.ledger.has("begin", ids), what="all running")
    waiting = [result.id for result in fleet.app.send_many(nap.s(0) for _ in range(40))]
    (killed,) = group.workers()

    os.kill(killed, signal.SIGKILL)
    moment = time.monotonic()
    wait_until(lambda: min(fleet.ledger.counts("begin")[id] for id in ids) == 2, what="the same tasks in a new process")
    gate.touch()
    fleet.drained()

    again = [line.at - moment for line in fleet.ledger.lines("begin") if line.id in ids and line.pid != killed]
    assert len(again) == len(ids)
    assert max(again) < LONG_LEASE / 2
    assert fleet.ledger.has("end", ids + waiting)
    assert not fleet.dead()
    assert {fleet.ledger.counts("begin")[id] for id in waiting} == {1}
    assert group.alive()


def test_dead_processes_leave_nothing_open(fleet: Fleet) -> None:
    """What a supervisor shared with a process is given back when that is dead."""
    group = fleet.start_ready(concurrency=1)
    for _ in range(4):
        (pid,) = group.workers()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: group.workers() not in ([], [pid]), what="a new process")
        nap.send(0).get(timeout=PATIENCE)

    maps = Path(f"/proc/{group.pid}/maps")
    wait_until(lambda: maps.read_text().count("memfd:queuekit") == 2, what="the memory of one process alone")
    assert group.alive()


def test_kill_of_one_process_spares_its_neighbour(fleet: Fleet) -> None:
    """What runs in another process of the same supervisor runs once, and to its end."""
    gate = fleet.gate()
    fleet.start_ready(concurrency=1, processes=2, lease=3600)
    ids = [hold.send(str(gate)).id, hold.send(str(gate)).id]
    wait_until(lambda: fleet.ledger.has("begin", ids), what="both running")

    os.kill(fleet.ledger.pid_of(ids[0]), signal.SIGKILL)
    wait_until(lambda: fleet.ledger.counts("begin")[ids[0]] == 2, what="the killed one again")
    gate.touch()
    fleet.drained()

    assert fleet.ledger.counts("begin")[ids[1]] == 1
    assert fleet.ledger.counts("end") == {ids[0]: 1, ids[1]: 1}


def test_kill_of_the_supervisor_stops_its_processes(fleet: Fleet) -> None:
    """Without a supervisor a worker process finishes what it runs, keeps the leases of that meanwhile, and ends."""
    gate, lease = fleet.gate(), 1.5 * LEASE  # of which a busy machine may need half to notice
    group = fleet.start_ready(concurrency=2, lease=lease, drain=300)
    running = [result.id for result in fleet.app.send_many(hold.s(str(gate)) for _ in range(2))]
    wait_until(lambda: fleet.ledger.has("begin", running), what="both running")
    os.kill(group.pid, signal.SIGKILL)
    waiting = [result.id for result in fleet.app.send_many(nap.s(0) for _ in range(10))]

    fleet.start_ready(concurrency=2, lease=lease)
    wait_until(lambda: fleet.ledger.has("end", waiting), what="the waiting ones done by another worker")
    begun = fleet.ledger.lines("begin")[0].at
    left = begun + 2 * lease - fleet.ledger.lines("begin")[-1].at
    late = [nap.options(delay=max(0.0, left)).send(0).id]
    wait_until(lambda: fleet.ledger.has("end", late), what="two leases later")
    gate.touch()
    fleet.drained()
    wait_until(lambda: group.members().keys() <= {group.pid}, what="the end of the orphans")

    assert all(fleet.ledger.counts("begin")[id] == 1 for id in running)
    assert all(fleet.app.result(id).get(timeout=PATIENCE) == id for id in running)


def follow_under_kills(fleet: Fleet) -> None:
    """Kill workers while parents and their callbacks run; each parent's callback must have one outcome."""
    calls = [nap.options(on_success=[child_of.s()], id=f"parent-{number}").s(0.02) for number in range(150)]
    parents = [result.id for result in fleet.app.send_many(calls)]
    for part in (1, 2):
        group = fleet.start(lease=LEASE, concurrency=CONCURRENCY, prefetch=PREFETCH)
        fleet.reached("child", 30 * part)
        group.kill()

    fleet.start(lease=LEASE, concurrency=CONCURRENCY)
    fleet.drained()

    callbacks = [derived_id(parent, "success") for parent in parents]
    assert set(fleet.ledger.counts("child")) == set(parents)
    assert fleet.states([*parents, *callbacks]) == {"SUCCESS": 2 * len(parents)}
    # Each run of a callback is of the one message; only what was in flight at a kill runs again.
    runs = sum(fleet.ledger.counts("child").values())
    assert runs - len(parents) <= 2 * (CONCURRENCY + PREFETCH)
    assert not fleet.dead()


@pytest.mark.full
def test_follow_ups_of_killed_parents_run_once(fleet: Fleet) -> None:
    """A parent that runs again after a kill does not double its callback (QK12)."""
    follow_under_kills(fleet)


def test_follow_ups_run_once_with_results_elsewhere(tmp_path: Path) -> None:
    """The same where broker and backend are two engines, and nothing can be done in one step."""
    urls = {"broker": f"sqlite:///{tmp_path}/queue.db", "backend": f"sqlite:///{tmp_path}/results.db"}
    with closing(Fleet(tmp_path, app, **urls)) as fleet:
        follow_under_kills(fleet)


@pytest.mark.full
def test_retries_survive_kills(fleet: Fleet) -> None:
    """Each message makes all its attempts, however often its worker is killed in between."""
    ids = [result.id for result in fleet.app.send_many(fail_at_first.s(2) for _ in range(60))]
    for part in (1, 2):
        group = fleet.start(lease=LEASE, concurrency=CONCURRENCY)
        fleet.reached("end", 15 * part)
        group.kill()

    fleet.start(lease=LEASE, concurrency=CONCURRENCY)
    fleet.drained()

    assert [fleet.app.result(id).get(timeout=PATIENCE) for id in ids] == [2] * 60
    assert not fleet.dead()
