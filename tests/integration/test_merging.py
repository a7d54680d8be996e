"""Unique keys that let the newest arguments win, on every engine, and with a worker that is killed."""

import importlib.util
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queuekit import Queuekit, UniqueKey
from queuekit_testing.kit import unique_name
from support import calls
from support.fleet import Fleet
from support.merging_tasks import newest
from support.waiting import PATIENCE, UNHURRIED, unhurried, wait_until
from support.working import make_app, working


def rabbitmq(_folder: Path) -> Queuekit:
    """Return an app on RabbitMQ, with a backend of its own."""
    from support.rabbitmq import shared_url

    if importlib.util.find_spec("queuekit_amqp") is None:
        pytest.skip("queuekit-amqp is missing")
    url = unhurried(shared_url("auto_delete=300"), "timeout", "connect_timeout")
    return make_app(broker=url, backend=f"memory://{unique_name('m')}", send_timeout=UNHURRIED)


ENGINES: dict[str, Callable[[Path], Queuekit]] = {
    "memory": calls.memory,
    "sqlite": calls.sqlite,
    "redis": calls.redis,
    "mongo": calls.mongo,
    "aws": calls.aws,
    "rabbitmq": rabbitmq,
}


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.full] if name == "rabbitmq" else []) for name in ENGINES])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Queuekit]:
    """Return an app on one engine."""
    made = ENGINES[request.param](tmp_path)
    yield made
    made.close()


def left(app: Queuekit) -> list[str]:
    """Return the keys of the records that are left of unique keys."""
    prefixes = ("merge:", "taken:", "ended:")
    return [record.key for prefix in prefixes for record in app.runtime.need_backend("a test").walk(prefix)]


def test_the_newest_arguments_run_after_the_running_ones(app: Queuekit) -> None:
    """Ten calls during a run become one more run; a burst becomes one run with its last arguments; nothing is left."""
    begun, gate = threading.Event(), threading.Event()
    synced: list[int] = []
    rebuilt: list[int] = []

    @app.task(name="sync", unique=UniqueKey(by="page", on_conflict="latest"))
    def sync(page: str, n: int) -> int:
        synced.append(n)
        begun.set()
        assert gate.wait(PATIENCE)
        return n

    @app.task(name="rebuild", unique=UniqueKey(by="page", on_conflict="debounce", quiet=1.5, max_wait=1.5))
    def rebuild(page: str, n: int) -> int:
        rebuilt.append(n)
        return n

    burst = app.send_many([rebuild.s("a", n) for n in range(3)])
    burst.append(rebuild.send("a", 3))
    with working(app):
        first = sync.send("a", 0)
        assert begun.wait(PATIENCE)
        sent = [sync.send("a", n) for n in range(1, 4)] + app.send_many([sync.s("a", n) for n in range(4, 11)])
        gate.set()

        assert first.get(timeout=PATIENCE) == 0
        assert {one.get(timeout=PATIENCE) for one in sent} == {10}
        assert {one.get(timeout=PATIENCE) for one in burst} == {3}
        wait_until(lambda: not left(app))

    assert synced == [0, 10]
    assert rebuilt == [3]
    assert [one.merged for one in sent] == [False] + [True] * 9


def test_a_killed_worker_loses_no_newest_arguments(fleet: Fleet) -> None:
    """A hundred calls during a run whose whole worker is killed: it runs again, then one more with the last data."""
    doomed = fleet.start_ready(app="support.merging_tasks:app", concurrency=2, lease=3)
    first = newest.send(str(fleet.gate()), 0)
    fleet.reached("begin", 1)
    sent = [newest.send(str(fleet.gate()), n) for n in range(1, 101)]
    doomed.kill()
    fleet.start_ready(app="support.merging_tasks:app", concurrency=2, lease=3)
    wait_until(lambda: fleet.ledger.counts("begin")["run-0"] == 2, fleet.logs)
    fleet.gate().touch()

    assert first.get(timeout=PATIENCE) == 0
    assert {one.get(timeout=PATIENCE) for one in sent} == {100}
    assert fleet.ledger.counts("begin") == {"run-0": 2, "run-100": 1}
    wait_until(lambda: not left(fleet.app))
