"""Processes that stand still: who keeps a lease, who loses it, and that one outcome is recorded (QK3, QK4, QK5)."""

import os
import signal
from typing import Any

import pytest

from support.fault_tasks import ahold, hog, hold, nap
from support.fleet import Fleet, freeze
from support.waiting import PATIENCE, wait_until

LEASE = 1.0
"""Seconds; short, so that a test need not wait."""
KEPT = 2.0
"""Seconds of one that must not end, on a busy machine either."""


def test_task_that_holds_the_interpreter_keeps_its_lease(fleet: Fleet) -> None:
    """Two leases without a moment for any other thread: it runs once, and so does what waits behind it."""
    fleet.start_ready(concurrency=2, lease=KEPT)
    hogs = [hog.send(2 * KEPT)]
    wait_until(lambda: fleet.ledger.has("begin", [hogs[0].id]), what="the hog running")
    fleet.start_ready(concurrency=2, lease=KEPT)
    others = [result.id for result in fleet.app.send_many(nap.s(0) for _ in range(20))]

    fleet.drained()

    assert hogs[0].get(timeout=PATIENCE) == hogs[0].id
    assert fleet.ledger.counts("begin") == dict.fromkeys([hogs[0].id, *others], 1)
    assert "leases lost" not in fleet.logs()


def test_prefetched_messages_keep_their_leases_behind_a_hog(fleet: Fleet) -> None:
    """Messages held ready in a process whose interpreter is held are neither lost nor run twice (QK10)."""
    group = fleet.start_ready(concurrency=1, lease=KEPT)
    warm = [result.id for result in fleet.app.send_many(nap.s(0.001) for _ in range(100))]
    wait_until(lambda: fleet.ledger.has("end", warm), what="a worker that knows how short its tasks are")
    fleet.drained()  # a hog that begins in the middle of a write would keep the file of SQLite locked for as long
    calls = [hog.s(2 * KEPT)] + [nap.s(0.001) for _ in range(20)]
    ids = [result.id for result in fleet.app.send_many(calls)]

    fleet.drained()

    assert {id: fleet.ledger.counts("begin")[id] for id in ids} == dict.fromkeys(ids, 1)
    assert group.alive()


@pytest.mark.parametrize(
    "task", [pytest.param(hold, id="thread", marks=pytest.mark.full), pytest.param(ahold, id="loop")]
)
def test_frozen_process_loses_its_lease(fleet: Fleet, task: Any) -> None:
    """Another worker takes over; when the frozen one goes on, its task is told and its outcome is refused."""
    gate = fleet.gate()
    frozen = fleet.start_ready(concurrency=1, lease=LEASE)
    result = task.send(str(gate))
    wait_until(lambda: fleet.ledger.has("begin", [result.id]), what="the task running")
    (pid,) = frozen.workers()
    freeze(pid)

    fleet.start_ready(concurrency=1, lease=LEASE)
    wait_until(lambda: fleet.ledger.counts("begin")[result.id] == 2, what="the task in another process")
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: "leases lost" in frozen.read_log(), what="the loss noticed")
    wait_until(lambda: fleet.ledger.lines("told", result.id), what="the frozen task told")
    assert not fleet.app.info(result.id).done
    gate.touch()
    result.get(timeout=PATIENCE)
    frozen.signal(signal.SIGTERM)

    assert frozen.wait() == 0
    assert "1 lost" in frozen.read_log()
    assert [line.pid == pid for line in fleet.ledger.lines("end", result.id)] == [False]
    assert fleet.left() == 0
    assert not fleet.dead()


def test_late_outcome_is_refused(fleet: Fleet) -> None:
    """A process that is stopped at the very end of its task cannot overwrite what another has recorded."""
    gate = fleet.gate()
    frozen = fleet.start_ready(concurrency=1, lease=LEASE)
    result = hold.send(str(gate))
    wait_until(lambda: fleet.ledger.has("begin", [result.id]), what="the task running")
    (pid,) = frozen.workers()
    freeze(pid)
    gate.touch()

    fleet.start_ready(concurrency=1, lease=LEASE)
    result.get(timeout=PATIENCE)
    finished = fleet.app.info(result.id).finished
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: "leases lost" in frozen.read_log(), what="the refusal")
    frozen.signal(signal.SIGTERM)

    assert frozen.wait() == 0
    assert fleet.app.info(result.id).finished == finished
    assert fleet.left() == 0


def test_frozen_group_comes_back_to_work(fleet: Fleet) -> None:
    """A machine that slept for three leases goes on: nothing is lost, and all is done."""
    group = fleet.start_ready(concurrency=4, lease=LEASE)
    ids = [result.id for result in fleet.app.send_many(nap.s(0.02) for _ in range(300))]
    wait_until(lambda: len(fleet.ledger.counts("end")) > 20, what="some done")
    group.signal_all(signal.SIGSTOP)
    wait_until(lambda: fleet.overdue() > 2 * LEASE, what="leases that are long over")

    group.signal_all(signal.SIGCONT)
    fleet.drained()

    assert fleet.ledger.has("end", ids)
    assert not fleet.dead()
