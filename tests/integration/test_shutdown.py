"""Stopping a worker: what runs may finish, what waits goes back at once, and nothing is blamed (QK10)."""

import os
import signal
from typing import Any

import pytest

from support.fault_tasks import ahold, hog, hold, nap, stubborn
from support.fleet import Fleet
from support.waiting import PATIENCE, wait_until

CONCURRENCY = 10
WAITING = 100


@pytest.mark.parametrize(
    ("pool", "number", "all_of_them"),
    [
        pytest.param("thread", signal.SIGTERM, False, id="supervisor-thread"),
        pytest.param("process", signal.SIGTERM, True, id="group-process"),
        pytest.param("process", signal.SIGHUP, True, id="terminal-process", marks=pytest.mark.full),
        pytest.param("process", signal.SIGTERM, False, id="supervisor-process", marks=pytest.mark.full),
        pytest.param("thread", signal.SIGTERM, True, id="group-thread", marks=pytest.mark.full),
    ],
)
def test_first_signal_lets_running_tasks_finish(fleet: Fleet, pool: str, number: int, *, all_of_them: bool) -> None:
    """To the supervisor or to the group: 10 running finish, 100 waiting are ready at once, exit code 0."""
    gate = fleet.gate()
    group = fleet.start_ready(concurrency=CONCURRENCY, pool=pool, drain=60)
    running = [result.id for result in fleet.app.send_many(hold.s(str(gate)) for _ in range(CONCURRENCY))]
    wait_until(lambda: fleet.ledger.has("begin", running), what="10 running")
    waiting = [result.id for result in fleet.app.send_many(nap.s(0) for _ in range(WAITING))]

    (group.signal_all if all_of_them else group.signal)(number)
    wait_until(lambda: " is stopping " in group.read_log(), what="a worker that stops")
    wait_until(lambda: fleet.counts().ready == WAITING, what="100 ready")
    assert fleet.counts().leased == CONCURRENCY
    gate.touch()

    assert group.wait() == 0
    assert fleet.ledger.counts("end") == dict.fromkeys(running, 1)
    assert set(fleet.waiting()) == set(waiting)
    assert {stored.crashes for stored in fleet.waiting().values()} == {0}


def test_prefetched_messages_are_back_at_once(fleet: Fleet) -> None:
    """What a worker holds beyond the tasks that run is ready again while those still run."""
    group = fleet.start_ready(concurrency=2, drain=60)
    warm = [result.id for result in fleet.app.send_many(nap.s(0.001) for _ in range(200))]
    wait_until(lambda: fleet.ledger.has("end", warm), what="a worker that knows how short its tasks are")
    # What has ended is held until it is settled; from here on all that is held is of the next batch.
    fleet.drained()
    calls = [*(nap.s(3600) for _ in range(2)), *(nap.s(0) for _ in range(WAITING))]
    mixed = [result.id for result in fleet.app.send_many(calls)]
    wait_until(lambda: fleet.ledger.has("begin", mixed[:2]), what="both slots taken for long")
    wait_until(lambda: fleet.counts().leased > 2, what="messages held beyond those that run")

    group.signal(signal.SIGTERM)
    wait_until(lambda: fleet.counts().leased == 2, what="only the running ones held")
    group.signal_again(signal.SIGTERM)

    assert group.wait() == 130
    assert set(fleet.waiting()) == set(mixed)


@pytest.mark.parametrize(
    ("pool", "task"),
    [
        pytest.param("thread", ahold, id="thread-loop"),
        pytest.param("process", stubborn, id="process-thread"),
        pytest.param("thread", stubborn, id="thread-thread", marks=pytest.mark.full),
        pytest.param("process", ahold, id="process-loop", marks=pytest.mark.full),
    ],
)
def test_second_signal_stops_at_once(fleet: Fleet, pool: str, task: Any) -> None:
    """Exit code 130; what ran is ready again for others, and not suspected of anything."""
    gate = fleet.gate()
    group = fleet.start_ready(concurrency=2, pool=pool, drain=60)
    running = [task.send(str(gate)).id for _ in range(2)]
    wait_until(lambda: fleet.ledger.has("begin", running), what="both running")

    group.signal(signal.SIGTERM)
    wait_until(lambda: " is stopping " in group.read_log(), what="a worker that stops")
    group.signal_again(signal.SIGINT)

    assert group.wait() == 130
    assert set(fleet.waiting()) == set(running)
    assert {stored.crashes for stored in fleet.waiting().values()} == {0}
    assert not fleet.ledger.lines("end")


def test_signals_that_come_together_are_one(fleet: Fleet) -> None:
    """A terminal and a process manager may both pass a stop on; what runs still gets its time."""
    gate = fleet.gate()
    group = fleet.start_ready(concurrency=1, drain=60)
    running = hold.send(str(gate))
    wait_until(lambda: fleet.ledger.has("begin", [running.id]), what="the task running")

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        group.signal(number)
    wait_until(lambda: " is stopping " in group.read_log(), what="a worker that stops")
    gate.touch()

    assert group.wait() == 0
    assert fleet.ledger.counts("end") == {running.id: 1}


@pytest.mark.parametrize("pool", [pytest.param("thread", marks=pytest.mark.full), "process"])
def test_drain_time_ends(fleet: Fleet, pool: str) -> None:
    """Tasks that take longer than ``drain`` are given back uncounted, and the worker ends in peace."""
    gate = fleet.gate()
    group = fleet.start_ready(concurrency=3, pool=pool, drain=0.5)
    running = [task.send(str(gate)).id for task in (hold, stubborn, ahold)]
    wait_until(lambda: fleet.ledger.has("begin", running), what="all running")

    group.signal(signal.SIGTERM)

    assert group.wait() == 0
    assert set(fleet.waiting()) == set(running)
    assert {stored.crashes for stored in fleet.waiting().values()} == {0}
    wait_until(lambda: not group.members(), what="the end of all its processes")


def test_stop_is_not_held_up_by_a_hog(fleet: Fleet) -> None:
    """A process whose interpreter is held past the drain time is killed, and its message comes back."""
    group = fleet.start_ready(concurrency=2, drain=0.2)
    stuck = hog.send(60)
    wait_until(lambda: fleet.ledger.has("begin", [stuck.id]), what="the hog running")

    group.signal(signal.SIGTERM)
    group.signal_again(signal.SIGINT)

    assert group.wait() in {0, 130}, "0 if the drain time was over before the second signal"
    assert {id: stored.crashes for id, stored in fleet.waiting().items()} == {stuck.id: 0}


def test_stopped_worker_process_is_replaced(fleet: Fleet) -> None:
    """SIGTERM to one worker process ends it gently; its supervisor starts another."""
    group = fleet.start_ready()
    (first,) = group.workers()

    os.kill(first, signal.SIGTERM)
    wait_until(lambda: group.workers() not in ([first], []), what="another process")
    nap.send(0).get(timeout=PATIENCE)

    assert group.alive()


def test_burst_ends_when_the_queues_are_empty(fleet: Fleet) -> None:
    """All that is ready is done, by all processes; then the worker ends by itself."""
    sent = [result.id for result in fleet.app.send_many(nap.s(0.002) for _ in range(300))]
    later = nap.options(delay=3600).send(0)

    group = fleet.start("--burst", processes=2, concurrency=4)

    assert group.wait() == 0
    assert fleet.ledger.counts("end") == dict.fromkeys(sent, 1)
    assert set(fleet.waiting()) == {later.id}


def test_burst_survives_a_crash(fleet: Fleet) -> None:
    """A process killed in a burst is replaced, and what it held is done before the end."""
    gate = fleet.gate()
    sent = [result.id for result in fleet.app.send_many(hold.s(str(gate)) for _ in range(8))]
    group = fleet.start("--burst", concurrency=4)
    wait_until(lambda: len(fleet.ledger.counts("begin")) >= 4, what="some running")

    os.kill(group.workers()[0], signal.SIGKILL)
    gate.touch()

    assert group.wait() == 0
    assert fleet.ledger.counts("end") == dict.fromkeys(sent, 1)
