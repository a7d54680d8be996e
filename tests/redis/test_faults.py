"""Workers, and a server that is cut off, restarted, paused or replaced under them: nothing is lost, none goes deaf."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queuekit.errors import UnavailableError
from support.fault_tasks import app, nap
from support.fleet import Fleet
from support.redis_fleets import RedisCluster, RedisPair
from support.redis_servers import RedisServer
from support.waiting import PATIENCE, wait_until

CONCURRENCY, PREFETCH, LEASE = 10, 20, 2.0
COUNT = 400
"""Tasks of 20 ms: two seconds of work."""


@pytest.fixture
def staffed(tmp_path: Path) -> Iterator[Callable[[str], Fleet]]:
    """Return what gives a fleet on a URL; its workers are gone when the test is over."""
    fleets: list[Fleet] = []

    def make(url: str) -> Fleet:
        fleets.append(Fleet(tmp_path, app, broker=url))
        return fleets[-1]

    yield make
    for fleet in fleets:
        print(fleet.logs())  # noqa: T201 - pytest shows it where a test has failed
        fleet.close()


def work(fleet: Fleet, count: int = COUNT) -> list[str]:
    """Start a worker, send *count* tasks, and return their ids when a fifth of them is done."""
    fleet.start_ready(lease=LEASE, concurrency=CONCURRENCY, prefetch=PREFETCH)
    ids = [result.id for result in fleet.app.send_many(nap.s(0.02) for _ in range(count))]
    done(fleet, count // 5)
    return ids


def done(fleet: Fleet, count: int) -> None:
    """Wait until *count* tasks are done."""
    wait_until(lambda: len(fleet.ledger.counts("end")) >= count, what=f"{count} tasks done")


def extra_runs(fleet: Fleet, ids: list[str]) -> int:
    """Return how many runs there were beyond one of each task."""
    return sum(fleet.ledger.counts("begin").values()) - len(ids)


def drained(fleet: Fleet) -> None:
    """Wait until no message is left, on a server that may not answer yet."""

    def is_empty() -> bool:
        try:
            return fleet.left() == 0
        except UnavailableError:
            return False

    wait_until(is_empty, what="an empty queue")


def test_worker_outlives_a_killed_server(redis_server: RedisServer, staffed: Callable[[str], Fleet]) -> None:
    """Killed in mid-run and started again from its append-only file, the server has lost nothing, and work goes on."""
    fleet = staffed(redis_server.url)
    ids = work(fleet)

    redis_server.kill()
    redis_server.start()
    drained(fleet)

    assert set(fleet.ledger.counts("end")) == set(ids)
    assert extra_runs(fleet, ids) <= CONCURRENCY + PREFETCH
    assert fleet.groups[0].alive()
    assert not fleet.dead()


def test_worker_outlives_cut_connections(redis_server: RedisServer, staffed: Callable[[str], Fleet]) -> None:
    """All connections are cut again and again while tasks run; each of them is done."""
    fleet = staffed(redis_server.url)
    ids = work(fleet)

    for part in (2, 3, 4):
        redis_server.say("CLIENT", "KILL", "TYPE", "normal")
        done(fleet, COUNT * part // 5)
    drained(fleet)

    assert set(fleet.ledger.counts("end")) == set(ids)
    assert extra_runs(fleet, ids) <= 3 * (CONCURRENCY + PREFETCH)
    assert fleet.groups[0].alive()


@pytest.mark.torture
@pytest.mark.timeout(180)
def test_worker_outlives_connections_cut_every_second(
    redis_server: RedisServer, staffed: Callable[[str], Fleet]
) -> None:
    """For twenty seconds no connection lives longer than one: each task is done, and the worker is not deaf then."""
    fleet = staffed(redis_server.url)
    ids = work(fleet, 30 * COUNT)

    for cut in range(20):
        redis_server.say("CLIENT", "KILL", "TYPE", "normal")
        time.sleep(1)
        assert fleet.groups[0].alive(), f"dead after {cut + 1} cuts"
    drained(fleet)

    assert set(fleet.ledger.counts("end")) == set(ids)
    extra = extra_runs(fleet, ids)
    assert extra <= 20 * (CONCURRENCY + PREFETCH)
    print(f"{len(ids)} tasks, 20 cuts, {extra} runs repeated")  # noqa: T201 - the figure is the point


@pytest.mark.parametrize("seconds", [1.5 * LEASE, pytest.param(10.0, marks=pytest.mark.torture)])
def test_worker_outlives_a_pause(redis_server: RedisServer, staffed: Callable[[str], Fleet], seconds: float) -> None:
    """A server that answers nobody for longer than a lease costs time, and no task."""
    fleet = staffed(redis_server.url)
    ids = work(fleet)

    redis_server.say("CLIENT", "PAUSE", int(1000 * seconds))
    drained(fleet)

    assert set(fleet.ledger.counts("end")) == set(ids)
    assert extra_runs(fleet, ids) <= CONCURRENCY + PREFETCH


@pytest.mark.full
def test_worker_follows_a_failover(tmp_path_factory: pytest.TempPathFactory, staffed: Callable[[str], Fleet]) -> None:
    """When the primary is killed under load, the worker goes on with the replica, and does all that this has."""
    pair = RedisPair(tmp_path_factory.mktemp("pair"))
    try:
        fleet = staffed(pair.start().url)
        ids = work(fleet)
        wait_until(pair.is_even, what="a replica that has it all")

        pair.first.kill()
        wait_until(pair.is_failed_over, what="a new primary")
        drained(fleet)

        assert set(fleet.ledger.counts("end")) == set(ids)
        assert fleet.groups[0].alive()
        late = nap.send(0)
        wait_until(lambda: fleet.ledger.has("end", [late.id]), what="a task sent to the new primary")
    finally:
        pair.stop()


def test_worker_follows_a_slot_that_moves(
    tmp_path_factory: pytest.TempPathFactory, staffed: Callable[[str], Fleet]
) -> None:
    """The slot of the queue moves from node to node while tasks run: each of them is done, and none of them twice."""
    cluster = RedisCluster(tmp_path_factory.mktemp("cluster"))
    try:
        fleet = staffed(cluster.start().url)
        fleet.start_ready(lease=60, concurrency=CONCURRENCY, prefetch=PREFETCH)
        ids = [result.id for result in fleet.app.send_many(nap.s(0.02) for _ in range(COUNT))]

        for part in (1, 2, 3):
            done(fleet, COUNT * part // 5)
            assert cluster.move("default") > 1
        late = nap.send(0)
        drained(fleet)

        assert set(fleet.ledger.counts("end")) == {*ids, late.id}
        assert extra_runs(fleet, [*ids, late.id]) == 0
        assert not fleet.dead()
    finally:
        cluster.stop()


def test_idle_worker_hears_of_a_send_after_a_restart(
    redis_server: RedisServer, staffed: Callable[[str], Fleet]
) -> None:
    """A worker that waited while the server restarted is not deaf."""
    fleet = staffed(redis_server.url)
    fleet.start_ready(lease=LEASE, concurrency=CONCURRENCY)

    redis_server.kill()
    redis_server.start()
    result = nap.send(0)

    assert result.get(timeout=PATIENCE) == result.id
