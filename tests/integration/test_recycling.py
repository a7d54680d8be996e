"""Processes that are replaced at their bounds, between two bodies."""

from collections import Counter

from queuekit.operations.admin import Admin
from support.fault_tasks import hold, nap
from support.fleet import Fleet
from support.waiting import wait_until


def test_a_worker_process_is_replaced_while_it_finishes(fleet: Fleet) -> None:
    """Its replacement takes messages before it stops; it runs its body to the end, and is neither drained nor dead."""
    group = fleet.start_ready(concurrency=2, max_tasks=3)
    (old,) = group.workers()
    held = hold.send(str(fleet.gate()))
    fleet.reached("begin", 1)
    first = [nap.send(0).id for _ in range(3)]

    wait_until(lambda: "has taken its place" in group.read_log(), what="the replacement")
    wait_until(lambda: states(fleet) == {old: "recycling"}, what="a record of it that says so")
    later = nap.send(0).id
    wait_until(lambda: fleet.ledger.has("end", [*first, later]), what="the end of the short ones")
    assert fleet.ledger.pid_of(later) != old
    fleet.gate().touch()
    wait_until(lambda: old not in group.workers(), what="the end of the old process")

    assert fleet.ledger.counts("end") == dict.fromkeys([held.id, *first, later], 1)
    log = group.read_log()
    assert ("is recycled: it has run 3 tasks" in log, "stopping (recycled: tasks)" in log) == (True, True)
    assert not any(word in log for word in ("drained by", "a new process", "killed"))


def states(fleet: Fleet) -> dict[int | None, str]:
    """Return how the workers that end do so, by process id."""
    return {worker.pid: worker.leaving for worker in Admin(fleet.app).fleet() if worker.leaving}


def test_a_child_process_is_replaced_after_its_tasks(fleet: Fleet) -> None:
    """None runs more than it may; the worker process stays, and no message is delivered twice."""
    group = fleet.start_ready(concurrency=2, pool="process", max_tasks=3)
    workers = group.workers()
    sent = [result.id for result in fleet.app.send_many(nap.s(0) for _ in range(12))]

    fleet.drained()

    assert fleet.ledger.counts("begin") == dict.fromkeys(sent, 1)
    assert max(Counter(line.pid for line in fleet.ledger.lines("begin")).values()) == 3
    assert group.workers() == workers
