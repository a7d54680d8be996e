"""Processes that bodies fork: they are no part of the worker, and nothing of a worker outlives it (QK6)."""

import os
import signal
from pathlib import Path

import pytest

from support.fault_tasks import (
    afork_and_end,
    afork_in_part,
    ahold,
    fork_and_end,
    fork_and_signal,
    hog,
    hold,
    kill_self,
    leave_a_child_behind,
    leave_a_process_behind,
    nap,
)
from support.fleet import Fleet
from support.waiting import PATIENCE, wait_until

POOLS = pytest.mark.parametrize("pool", ["thread", "process"])


ENDS = pytest.mark.parametrize(
    ("pool", "number"),
    [
        pytest.param("process", signal.SIGTERM, id="term-process"),
        pytest.param("thread", signal.SIGKILL, id="kill-thread"),
        pytest.param("thread", signal.SIGTERM, id="term-thread", marks=pytest.mark.full),
        pytest.param("process", signal.SIGKILL, id="kill-process", marks=pytest.mark.full),
    ],
)
"""Ends of a worker, each with one pool; the other one in `tox -e full`."""


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which all that is started here puts its temporary files."""
    found = tmp_path / "temporary"
    found.mkdir()
    monkeypatch.setenv("TMPDIR", str(found))
    return found


@POOLS
def test_only_the_process_of_a_body_answers_for_it(fleet: Fleet, pool: str) -> None:
    """A forked child that comes back out of the body ends as a program would; the parent's outcome counts, once."""
    fleet.start(pool=pool, concurrency=1)

    for task in (fork_and_end, afork_and_end):
        for way, code in (("exit", 7), ("raise", 1), ("return", 0)):
            assert task.send(way).get(timeout=PATIENCE) == f"{way} {code}"
            assert [nap.send(0).get(timeout=PATIENCE) is not None for _ in range(3)] == [True] * 3
    assert set(fleet.ledger.counts("end").values()) == {1}


@POOLS
def test_child_of_a_coroutine_runs_nothing_else(fleet: Fleet, pool: str) -> None:
    """A child that a coroutine of the body has forked ends with that, and leaves the others on the loop alone."""
    gate = fleet.gate()
    fleet.start(pool=pool, concurrency=2)
    other = ahold.send(str(gate))
    wait_until(lambda: fleet.ledger.has("begin", [other.id]), what="another on the loop")

    assert afork_in_part.send("exit").get(timeout=PATIENCE) == "exit 7"
    gate.touch()

    assert other.get(timeout=PATIENCE) == other.id
    assert set(fleet.ledger.counts("end").values()) == {1}


@pytest.mark.no_cover  # it puts a handler of its own for SIGTERM into each child
@POOLS
def test_children_of_bodies_obey_signals(fleet: Fleet, pool: str) -> None:
    """A child that a body has started can be ended with a signal, as from any other program."""
    fleet.start(pool=pool, concurrency=1)

    for method in ("fork", "spawn"):
        ended = fork_and_signal.send(int(signal.SIGTERM), method).get(timeout=PATIENCE)
        assert ended == -signal.SIGTERM, method


@ENDS
def test_nothing_outlives_a_worker(fleet: Fleet, folders: Path, pool: str, number: int) -> None:
    """Whatever bodies have forked: with the worker end its fork server, all children, and its temporary folders."""
    group = fleet.start_ready(pool=pool, concurrency=2)
    kill_self.send()
    wait_until(fleet.dead, what="a process for suspects")
    leave_a_child_behind.send().get(timeout=PATIENCE)

    group.signal(number)
    group.wait()

    wait_until(lambda: not group.members(), lambda: f"still there: {group.members()}")
    assert list(folders.iterdir()) == []


@ENDS
def test_worker_waits_for_no_process_of_a_body(fleet: Fleet, folders: Path, pool: str, number: int) -> None:
    """Those that a body has started by ``multiprocessing``, and not joined, end with the worker as well."""
    group = fleet.start_ready(pool=pool, concurrency=1, drain=3600)
    for method in ("fork", "spawn"):
        leave_a_process_behind.send(method).get(timeout=PATIENCE)

    group.signal(number)
    group.wait()

    wait_until(lambda: not group.members(), lambda: f"still there: {group.members()}")
    assert list(folders.iterdir()) == []


def test_killed_worker_process_takes_all_along(fleet: Fleet, folders: Path) -> None:
    """Also bodies in processes of their own that cannot hear of it, since they hold the interpreter."""
    group = fleet.start_ready(pool="process", concurrency=2)
    stuck = hog.send(3600)
    wait_until(lambda: fleet.ledger.has("begin", [stuck.id]), what="the hog running")
    (worker,) = group.workers()
    before = group.members().keys() - {group.pid}
    assert len(before) >= 3, "the worker process, its fork server, the hog"

    os.kill(worker, signal.SIGKILL)

    wait_until(lambda: not before & group.members().keys(), what="the end of all that the process had")
    assert list(folders.iterdir()) == []


def test_fork_server_is_replaced(fleet: Fleet) -> None:
    """A fork server that was killed, by the system that was out of memory, costs no more than a crash."""
    gate = fleet.gate()
    group = fleet.start_ready(pool="process", concurrency=1)
    nap.send(0).get(timeout=PATIENCE)
    (server,) = [pid for pid, command in group.members().items() if "queuekit.worker.forkserver" in command][:1]

    os.kill(server, signal.SIGKILL)
    held = hold.send(str(gate))
    gate.touch()

    assert held.get(timeout=PATIENCE) == held.id
    assert group.alive()
