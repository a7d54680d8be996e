"""Tasks that take their process down, and errors that are hard to handle: only the guilty one pays (QK6, QK8)."""

import os
import signal
from pathlib import Path

import pytest

from queuekit import chain
from support.fault_tasks import (
    aleave,
    anap,
    fork_out,
    hog,
    hold,
    kill_group,
    kill_self,
    kill_self_later,
    kill_self_leaving_a_child,
    kill_self_when,
    leave,
    nap,
    progress,
    spite,
    take_uncopied,
    uncopied,
    unwritable,
    wait_and_see,
)
from support.fleet import Fleet, Group
from support.waiting import PATIENCE, wait_until

FORKS = "queuekit.worker.forkserver"
DELIVERIES = 3
"""The default of ``max_deliveries``."""


@pytest.mark.parametrize("pool", ["thread", "process"])
def test_poison_is_dead_after_three_runs(fleet: Fleet, pool: str) -> None:
    """A task that kills its process runs exactly max_deliveries times; all others are done, none of them is blamed."""
    fleet.start(pool=pool, concurrency=4)
    poison = kill_self.send()
    others = [result.id for result in fleet.app.send_many(nap.s(0.05) for _ in range(40))]

    fleet.drained()

    letters = fleet.dead()
    assert set(letters) == {poison.id}
    assert letters[poison.id].reason == "crashed"
    assert fleet.ledger.counts("begin")[poison.id] == DELIVERIES
    assert fleet.ledger.has("end", others)
    assert fleet.states([poison.id, *others]) == {"DEAD": 1, "SUCCESS": len(others)}


def test_several_poisons_blame_no_bystander(fleet: Fleet) -> None:
    """Long tasks that share a process with poison again and again are done in the end."""
    fleet.start(concurrency=6)
    gate = fleet.gate()
    others = [result.id for result in fleet.app.send_many(hold.s(str(gate)) for _ in range(3))]
    wait_until(lambda: fleet.ledger.has("begin", others), what="bystanders running")

    # They share their first process: none ends it before all have begun, or a crash would count of a body that has not.
    spill = fleet.gate("spill")
    poisons = [result.id for result in fleet.app.send_many(kill_self_when.s(str(spill)) for _ in range(3))]
    wait_until(lambda: fleet.ledger.has("begin", poisons), what="all poison running")
    spill.touch()
    wait_until(lambda: len(fleet.dead()) == len(poisons), what="all poison in the dead letters")
    gate.touch()
    fleet.drained()

    assert set(fleet.dead()) == set(poisons)
    assert fleet.ledger.has("end", others)
    assert {fleet.ledger.counts("begin")[id] for id in poisons} == {DELIVERIES}


def test_poison_for_the_whole_group_is_dead_in_the_end(fleet: Fleet) -> None:
    """With the supervisor gone too, nobody saw which task began; it is dead after one run more at most."""
    poison = kill_group.send()
    others = [result.id for result in fleet.app.send_many(nap.s(0.01) for _ in range(40))]

    while not fleet.dead():
        assert len(fleet.groups) <= DELIVERIES + 1
        _until_dead(fleet, fleet.start(lease=1, concurrency=4))
    fleet.drained()

    assert {id: queued.reason for id, queued in fleet.dead().items()} == {poison.id: "crashed"}
    assert fleet.ledger.counts("begin")[poison.id] in (DELIVERIES, DELIVERIES + 1)
    assert fleet.ledger.has("end", others)


def _until_dead(fleet: Fleet, group: Group) -> None:
    wait_until(lambda: not group.alive() or fleet.dead(), what="a dead group, or a dead letter")


def test_poison_of_a_later_attempt_is_dead_after_three_runs(fleet: Fleet) -> None:
    """Crashes are counted apart from retries: three in one attempt are one too many, whichever attempt it is."""
    fleet.start(concurrency=2)
    poison = kill_self_later.send()

    fleet.drained()

    assert fleet.dead()[poison.id].reason == "crashed"
    assert fleet.ledger.counts("begin")[poison.id] == 1 + DELIVERIES


def test_suspect_that_is_put_off_is_not_blamed(fleet: Fleet) -> None:
    """A task that once shared a process with poison may ask to come again, as often as it likes."""
    gate, answer = fleet.gate(), fleet.gate("answer")
    group = fleet.start_ready(concurrency=2)
    asking = wait_and_see.send(str(gate), str(answer))
    wait_until(lambda: fleet.ledger.has("begin", [asking.id]), what="a bystander running")

    os.kill(group.workers()[0], signal.SIGKILL)
    gate.touch()
    wait_until(lambda: fleet.ledger.counts("begin")[asking.id] > 2 * DELIVERIES, what="many questions")
    answer.touch()

    assert asking.get(timeout=PATIENCE) == asking.id


@pytest.mark.parametrize("pool", [pytest.param("thread", marks=pytest.mark.full), "process"])
def test_poison_that_leaves_a_child_behind_is_dead(fleet: Fleet, pool: str) -> None:
    """A process that holds copies of the dead one's pipes does not hide its death."""
    gate = fleet.gate()
    fleet.start(concurrency=2, pool=pool)
    poison = kill_self_leaving_a_child.send(str(gate))

    wait_until(fleet.dead, what="the poison in the dead letters")
    gate.touch()

    assert fleet.dead()[poison.id].reason == "crashed"
    assert fleet.ledger.counts("begin")[poison.id] == DELIVERIES


@pytest.mark.parametrize("pool", ["thread", "process"])
def test_errors_that_are_hard_to_handle_fail_their_task_alone(fleet: Fleet, pool: str) -> None:
    """``sys.exit``, an error without text and a result that cannot be written are failures like any other."""
    group = fleet.start_ready(concurrency=2, pool=pool)
    workers = group.workers()
    bad = [task.send().id for task in (leave, aleave, spite, unwritable) for _ in range(3)]
    good = [task.send(0.0).id for task in (nap, anap) for _ in range(10)]

    fleet.drained()

    assert {queued.reason for queued in fleet.dead().values()} == {"failed"}
    assert set(fleet.dead()) == set(bad)
    assert fleet.ledger.has("end", good)
    assert group.workers()[:1] == workers[:1]


def test_a_value_that_cannot_be_copied_is_a_failure_where_it_must_be(fleet: Fleet) -> None:
    """What cannot cross from a process of its own to the worker has failed; it has not crashed, and ends no thread."""
    group = fleet.start_ready(concurrency=1, pool="process")
    workers = group.workers()

    first = uncopied.send()
    failed = chain(uncopied.s(), take_uncopied.s()).send()
    wait_until(lambda: failed.links[0].id in fleet.dead(), what="a dead letter")

    assert first.get(timeout=PATIENCE).text == "x"
    assert fleet.dead()[failed.links[0].id].reason == "failed"
    assert "cannot be sent to its worker: SystemExit" in fleet.dead()[failed.links[0].id].error
    assert group.workers() == workers


def test_suspects_may_have_children_of_their_own(fleet: Fleet) -> None:
    """A task that uses ``multiprocessing`` may do so in a process of its own, too."""
    fleet.start(pool="process")

    assert fork_out.send().get(timeout=PATIENCE) == 0


def test_progress_is_seen_from_another_process(fleet: Fleet) -> None:
    """What a task reports arrives, wherever it runs."""
    fleet.start(pool="process")

    result = progress.send()
    result.get(timeout=PATIENCE)

    assert result.progress == (1, 2, "half")


def test_time_limit_kills_a_hog(fleet: Fleet) -> None:
    """In the process pool a task that cannot be interrupted is killed at its limit, and its slot is free again."""
    group = fleet.start_ready(pool="process", concurrency=1)
    stuck = hog.options(timeout=0.5).send(60)
    after = nap.send(0)

    after.get(timeout=PATIENCE)

    assert fleet.dead()[stuck.id].reason == "failed"
    assert "ran longer than 0.5 s" in fleet.dead()[stuck.id].error
    assert not fleet.ledger.lines("end", stuck.id)
    group.signal(signal.SIGTERM)
    assert group.wait() == 0


def test_a_process_gets_ready_for_the_suspects_of_another(fleet: Fleet) -> None:
    """Its server starts while the messages of the dead one go back and wait for a slot."""
    # Where a task has pool="process", all processes have that server.
    source = "from queuekit import Queuekit\nfrom support.fault_tasks import hold\n\napp = Queuekit()\n"
    (fleet.folder / "only_hold.py").write_text(f"{source}app.task(name=hold.name)(hold.function)\n")
    group = fleet.start_ready(app="only_hold:app", folder=fleet.folder, processes=2, concurrency=1, prefetch=0)
    gate = fleet.gate()
    fleet.app.send_many(hold.s(str(gate)) for _ in range(2))
    fleet.reached("begin", 2)
    dead, other = group.workers()
    os.kill(dead, signal.SIGKILL)

    def servers() -> list[str]:
        children = Path(f"/proc/{other}/task").glob("*/children")
        members = group.members()
        return [pid for each in children for pid in each.read_text().split() if FORKS in members.get(int(pid), [])]

    wait_until(servers, what="a server of the other process, whose slot is taken")
    gate.touch()
    fleet.drained()

    assert len(fleet.ledger.lines("end")) == 2


def test_others_run_while_the_process_for_a_suspect_is_being_made(fleet: Fleet) -> None:
    """However long the import of the app takes there: suspects hold no thread meanwhile, even as many as there are."""
    gate = fleet.gate()
    waits = f"while 'queuekit.worker.forkserver' in ' '.join(sys.orig_argv) and not os.path.exists({str(gate)!r}):"
    source = f"import os, sys, time\n\n{waits}\n    time.sleep(0.02)\n\nfrom support.fault_tasks import app\n"
    (fleet.folder / "slow_elsewhere.py").write_text(source)
    fleet.start(app="slow_elsewhere:app", folder=fleet.folder, concurrency=1)
    poison = kill_self.send()
    wait_until(lambda: fleet.ledger.has("begin", [poison.id]), what="poison at work")

    others = [result.id for result in fleet.app.send_many(nap.s(0) for _ in range(5))]
    wait_until(lambda: fleet.ledger.has("end", others), what="the others done")
    runs = fleet.ledger.counts("begin")[poison.id]
    gate.touch()
    fleet.drained()

    assert runs == 1
    assert set(fleet.dead()) == {poison.id}
    assert "could not fork" not in fleet.logs()
