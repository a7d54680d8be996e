"""Real workers on RabbitMQ: killed, cut off, and with tasks that kill them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from queuekit import chord
from support import chord_tasks
from support.fault_tasks import app, kill_self, nap
from support.fleet import Fleet
from support.memcached import Memcached
from support.rabbitmq import need_plugin, shared_url
from support.waiting import PATIENCE, unhurried, wait_until

need_plugin()

CHORDS, SIZE, KILLS = 60, 10, 8
WORKER: dict[str, Any] = {"app": "support.chord_tasks:app", "concurrency": 8, "max_deliveries": 100}
KILLED: dict[str, Any] = {"concurrency": 4, "max_deliveries": 100}
"""The kills come from outside: nobody is to be blamed for being in the way of three of them."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Workers on RabbitMQ, with their results in a file."""
    backend = f"sqlite:///{tmp_path}/results.db?busy_timeout=60"
    made = Fleet(tmp_path, app, broker=shared_url("auto_delete=600"), backend=backend)
    yield made
    made.close()
    print(made.logs())  # noqa: T201 - pytest shows it where a test has failed


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("count", "times"),
    [
        pytest.param(60, 2, id="small", marks=pytest.mark.full),
        pytest.param(2_000, 8, id="full-size", marks=pytest.mark.torture),
    ],
)
def test_kills_of_the_whole_group_lose_nothing(fleet: Fleet, queue: str, count: int, times: int) -> None:
    """Killing worker and supervisor again and again loses no message, and each has its result."""
    sent = [result.id for result in fleet.app.send_many(nap.options(queue=queue).s(0.02) for _ in range(count))]

    for kill in range(times):
        workers = fleet.start("--queues", queue, **KILLED)
        fleet.reached("end", (kill + 1) * count // (times + 2))
        workers.kill()
    fleet.start("--queues", queue, **KILLED)
    wait_until(lambda: fleet.ledger.has("end", sent), what="all tasks done")
    wait_until(lambda: fleet.states(sent) == {"SUCCESS": count}, what="all results there")

    assert not fleet.dead(queue)


@pytest.mark.full
@pytest.mark.timeout(300)
def test_a_task_that_kills_its_worker_becomes_a_dead_letter(fleet: Fleet, queue: str) -> None:
    """It is delivered as often as ``max_deliveries`` says; the messages beside it are done, and none is dead."""
    poison = kill_self.options(queue=queue).send()
    others = [result.id for result in fleet.app.send_many(nap.options(queue=queue).s(0.01) for _ in range(10))]

    fleet.start("--queues", queue, concurrency=2, max_deliveries=3)
    wait_until(lambda: poison.id in fleet.dead(queue), what="the poison dead")
    wait_until(lambda: fleet.states(others) == {"SUCCESS": 10}, what="the others done")

    dead = fleet.dead(queue)
    assert set(dead) == {poison.id}
    assert dead[poison.id].reason == "crashed"
    assert len(fleet.ledger.counts("begin")) >= 1


@pytest.fixture(params=["sqlite", "memcached"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield the URL of a result backend of the test's own: a file, or three servers of Memcached."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/results.db?busy_timeout=60"
        return
    with ExitStack() as stack:
        ports = []
        for number in range(3):
            folder = tmp_path / f"memcached-{number}"
            folder.mkdir()
            server = Memcached(folder)
            stack.callback(server.stop)
            ports.append(server.start().port)
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        yield unhurried(f"memcache://{hosts}", "timeout", "connect_timeout")


@pytest.mark.torture
@pytest.mark.timeout(600)
def test_chords_survive_kills(queue: str, backend: str, tmp_path: Path) -> None:
    """No chord is lost, none gives a wrong sum, and a callback runs again only where a kill came into its run."""
    fleet = Fleet(tmp_path, chord_tasks.app, broker=shared_url("auto_delete=600"), backend=backend)
    member, total = chord_tasks.member.options(queue=queue), chord_tasks.total.options(queue=queue)
    try:
        results = [chord([member.s(i + j) for j in range(SIZE)], total.s()).send() for i in range(CHORDS)]
        for kill in range(KILLS):
            workers = fleet.start_ready("--queues", queue, **WORKER)
            fleet.reached("end", (kill + 1) * CHORDS // (KILLS + 2))
            workers.kill()
        fleet.start("--queues", queue, **WORKER)

        sums = [result.get(timeout=5 * PATIENCE) for result in results]

        ends = fleet.ledger.counts("end")
        assert sums == [SIZE * i + sum(range(SIZE)) for i in range(CHORDS)]
        assert set(ends) == {result.id for result in results}
        assert sum(ends.values()) - CHORDS <= KILLS * WORKER["concurrency"]
    finally:
        fleet.close()
        print(fleet.logs())  # noqa: T201 - pytest shows it where a test has failed
