"""Processes that live and hear nothing: found within seconds and replaced; only what overran is blamed (QK6, QK10)."""

import os
import signal

import pytest

from support.fault_tasks import ablock, ahold, close_all, end_thread, hog, hold, nap
from support.fleet import Fleet, freeze
from support.waiting import PATIENCE, wait_until


def test_what_holds_the_interpreter_past_its_time_is_killed(fleet: Fleet) -> None:
    """It counts as a crash; what ran beside it goes back uncounted, and runs in a new process."""
    gate = fleet.gate()
    group = fleet.start_ready(concurrency=4, lease=30)
    bystanders = [hold.send(str(gate)).id for _ in range(2)]
    wait_until(lambda: fleet.ledger.has("begin", bystanders), what="bystanders running")
    stuck = hog.options(timeout=1).send(600)
    waiting = [result.id for result in fleet.app.send_many(nap.s(0) for _ in range(20))]

    wait_until(lambda: set(fleet.dead()) == {stuck.id}, what="the hog among the dead letters")
    gate.touch()
    fleet.drained()

    assert "TaskTimeout" in fleet.dead()[stuck.id].error
    assert fleet.ledger.counts("begin")[stuck.id] == 2
    assert fleet.ledger.has("end", [*bystanders, *waiting])
    assert "sent no heartbeat" in group.read_log()
    assert stuck.id in group.read_log()
    assert {fleet.app.info(id).attempt for id in bystanders} == {0}


def test_what_waits_for_the_interpreter_is_not_to_blame(fleet: Fleet) -> None:
    """A body without a limit may hold it, beside one whose limit passes meanwhile: the process lives."""
    gate = fleet.gate()
    group = fleet.start_ready(concurrency=2, lease=30)
    workers = group.workers()
    waiting = hold.options(timeout=1).send(str(gate))
    wait_until(lambda: fleet.ledger.has("begin", [waiting.id]), what="a neighbour running")

    hogging = hog.send(8)
    hogging.get(timeout=PATIENCE)
    gate.touch()
    fleet.drained()

    assert fleet.ledger.counts("begin") == {waiting.id: 1, hogging.id: 1}
    assert group.workers() == workers


def test_what_blocks_the_event_loop_past_its_time_ends_its_process(fleet: Fleet) -> None:
    """The log names it with its stack; those that waited for it run again, uncounted."""
    gate = fleet.gate()
    group = fleet.start_ready(concurrency=4, lease=30)
    bystander = ahold.send(str(gate))
    wait_until(lambda: fleet.ledger.has("begin", [bystander.id]), what="a bystander running")
    stuck = ablock.options(timeout=1).send(600)

    wait_until(lambda: set(fleet.dead()) == {stuck.id}, what="the blocker among the dead letters")
    gate.touch()
    fleet.drained()

    log = group.read_log()
    assert f"{ablock.name} {stuck.id} has blocked the event loop" in log
    assert "time.sleep(seconds)" in log
    assert "TaskTimeout" in fleet.dead()[stuck.id].error
    assert fleet.ledger.has("end", [bystander.id])


def test_what_waits_for_a_blocked_loop_keeps_its_lease_and_its_time(fleet: Fleet) -> None:
    """A blocker without a limit is only named; its neighbour runs once, and to its end."""
    gate, start = fleet.gate(), fleet.gate("start")
    group = fleet.start_ready(concurrency=4, lease=3)
    blocker = ablock.send(9, str(start))
    wait_until(lambda: fleet.ledger.has("begin", [blocker.id]), what="a blocker running")
    neighbour = ahold.options(timeout=4).send(str(gate))
    wait_until(lambda: fleet.ledger.has("begin", [neighbour.id]), what="a neighbour running")

    start.touch()
    wait_until(lambda: fleet.ledger.has("end", [blocker.id]), what="the blocker's end")
    gate.touch()
    fleet.drained()

    assert not fleet.dead()
    assert fleet.ledger.counts("begin")[neighbour.id] == 1
    assert "has blocked the event loop" in group.read_log()


@pytest.mark.no_cover  # CPython 3.11 stalls traced threads while an exception waits for one that is blocked
@pytest.mark.parametrize("name", ["fetcher", "settler", "watchdog", "scheduler", "pipe", "watch"])
def test_a_body_that_ends_threads_of_its_worker_stops_no_work(fleet: Fleet, name: str) -> None:
    """A thread goes on, or its process is replaced; what has done it is a suspect, so that it cannot do it for ever."""
    fleet.start_ready(concurrency=2)
    first = [result.id for result in fleet.app.send_many(nap.s(0.01) for _ in range(10))]
    wait_until(lambda: fleet.ledger.has("end", first), what="threads that have begun")

    ending = end_thread.send(f"queuekit-{name}")
    wait_until(lambda: fleet.ledger.counts("begin")[ending.id], what="a thread that ends")
    rest = [result.id for result in fleet.app.send_many(nap.s(0) for _ in range(10))]
    fleet.drained()

    assert fleet.ledger.has("end", rest)
    assert not fleet.dead()


@pytest.mark.parametrize("pool", ["thread", "process"])
def test_a_process_whose_descriptors_are_gone_is_replaced(fleet: Fleet, pool: str) -> None:
    """What has closed them is to blame, ends as a crash, and keeps nobody else from running."""
    gate = fleet.gate()
    group = fleet.start_ready(concurrency=2, lease=10, pool=pool, max_deliveries=2)
    bystander = hold.send(str(gate))
    wait_until(lambda: fleet.ledger.has("begin", [bystander.id]), what="a bystander running")

    closing = close_all.send()
    wait_until(lambda: fleet.ledger.counts("begin")[closing.id], what="descriptors that are closed")
    rest = [result.id for result in fleet.app.send_many(nap.s(0) for _ in range(10))]
    wait_until(lambda: fleet.ledger.has("end", rest), what="what was sent since")
    wait_until(lambda: set(fleet.dead()) == {closing.id}, what="the body that has closed them among the dead letters")
    gate.touch()
    fleet.drained()

    assert fleet.ledger.has("end", [bystander.id])
    if pool == "thread":
        assert "has closed the file descriptors of its worker" in group.read_log()


def test_a_process_that_is_stopped_is_left_alone(fleet: Fleet) -> None:
    """Somebody looks into it; it loses its leases, and goes on when it may."""
    group = fleet.start_ready(concurrency=1, lease=2)
    workers = group.workers()
    freeze(workers[0])
    after = nap.send(0)
    os.kill(workers[0], signal.SIGCONT)

    after.get(timeout=PATIENCE)

    assert group.workers() == workers
