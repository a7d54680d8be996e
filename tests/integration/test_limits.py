"""Limits that a body cannot ignore, and tasks that choose the pool they run in."""

import pytest

from queuekit import TaskFailed
from support.fault_tasks import aclear_up, clear_up, hog_apart, hold, kill_self_when, unending
from support.fleet import Fleet
from support.waiting import PATIENCE, wait_until


def test_ends_a_body_in_a_thread_with_its_process(fleet: Fleet) -> None:
    """Past its hard limit, after it has ignored its timeout; the one beside it begins anew, uncounted."""
    group = fleet.start_ready(concurrency=2)
    (before,) = group.workers()
    neighbour = hold.send(str(fleet.gate()))
    fleet.reached("begin", 1)
    late = unending.send(str(fleet.gate("never")))

    with pytest.raises(TaskFailed, match="TaskTimeout"):
        late.get(timeout=PATIENCE)
    wait_until(lambda: fleet.ledger.counts("begin")[neighbour.id] == 2, lambda: f"the neighbour\n{fleet.logs()}")
    again = fleet.leased()[neighbour.id]
    fleet.gate().touch()
    fleet.drained()

    assert again.crashes == 0
    assert neighbour.get(timeout=PATIENCE) == neighbour.id
    assert fleet.ledger.counts("begin")[late.id] == 1
    assert before not in group.workers()
    assert "ran longer than its time limit of 1 s" in group.read_log()


def test_ends_a_body_in_a_process_of_its_own_alone(fleet: Fleet) -> None:
    """Also if it holds the interpreter there. One that hears its timeout may clear up, in a thread or on a loop."""
    group = fleet.start_ready(concurrency=4)
    (before,) = group.workers()
    neighbour = hold.send(str(fleet.gate()))
    late = hog_apart.send(3 * PATIENCE)
    clearing = [task.send() for task in (clear_up, aclear_up)]

    with pytest.raises(TaskFailed, match="ran longer than 1 s and was killed"):
        late.get(timeout=PATIENCE)
    pids = [each.get(timeout=PATIENCE) for each in clearing]
    fleet.gate().touch()
    fleet.drained()

    assert not {0, before} & set(pids)
    assert set(fleet.ledger.counts("begin").values()) == {1}
    assert neighbour.get(timeout=PATIENCE) == neighbour.id
    assert group.workers() == [before]


def test_says_how_a_process_of_a_body_ended(fleet: Fleet) -> None:
    """It takes one task with it, which runs again."""
    group = fleet.start_ready(concurrency=1, pool="process")
    result = kill_self_when.send(str(fleet.gate()))

    fleet.reached("begin", 1)
    fleet.gate().touch()
    wait_until(lambda: "killed by SIGKILL" in group.read_log(), fleet.logs)

    assert f"{kill_self_when.name} {result.id} was killed by SIGKILL" in group.read_log()
