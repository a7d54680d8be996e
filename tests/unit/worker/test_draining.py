"""A worker that drains takes nothing more, finishes what it runs, and ends."""

import threading
import time
from collections.abc import Iterator

import pytest

from queuekit import Queuekit
from queuekit.operations.admin import Admin
from queuekit.operations.pauses import drain, drained
from queuekit.wire.pauses import Drain, drain_key, drain_record
from queuekit.worker.draining import Draining
from support.waiting import PATIENCE, wait_until
from support.working import counts, make_app, working


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """Return an app."""
    made = make_app()
    yield made
    made.close()


class Steps:
    """A worker that writes down what it is told."""

    def __init__(self, app: Queuekit) -> None:
        self.told: list[str] = []
        self.is_idle = False
        self.draining = Draining(
            app.runtime,
            worker="w-1",
            close=lambda reason: self.told.append(f"close {reason}"),
            idle=lambda: self.is_idle,
            stop=lambda reason: self.told.append(f"stop {reason}"),
        )


def test_closes_at_once_and_stops_when_it_has_finished(app: Queuekit) -> None:
    """Even if the record has expired meanwhile."""
    steps = Steps(app)
    steps.draining.read(None)
    steps.draining.read(drain_record("w-1", Drain(by="ann")))
    steps.draining.read(None)
    assert steps.told == ["close drained by ann"]

    steps.is_idle = True
    steps.draining.read(None)

    assert steps.told[1:] == ["stop drained by ann"]


def test_a_request_to_its_predecessor_is_forgotten(app: Queuekit) -> None:
    """In containers, names and process ids come again."""
    backend, old = app.runtime.need_backend("a test"), drain_record("w-1", Drain(by="ann"))
    backend.put([old])
    steps = Steps(app)

    steps.draining.read(old)

    assert (steps.told, steps.draining.reason, backend.get([drain_key("w-1")])) == ([], "", {})


def test_finishes_what_it_runs_and_ends_well(app: Queuekit) -> None:
    """However long that takes; what is sent meanwhile stays for others."""
    begun, go = threading.Event(), threading.Event()

    def body() -> None:
        begun.set()
        go.wait(PATIENCE)

    app.task(name="body")(body)
    app.task(name="other")(print)
    running = app.tasks["body"].send()
    told: list[str] = []
    with working(app, on_drain=lambda: told.append("drains")) as worker:
        worker._watchdog._nap = 0.1
        assert begun.wait(PATIENCE)
        admin = Admin(app)
        wait_until(admin.fleet, "its presence")
        assert drain(admin, worker.name, by="ann").name == worker.name
        found = drained(admin, worker.name, until_ended=False, patience=PATIENCE, sleep=time.sleep)
        assert found is not None
        assert found.draining
        app.tasks["other"].send()
        go.set()
        assert drained(admin, worker.name, until_ended=True, patience=PATIENCE, sleep=time.sleep) is None
    assert (worker.drained, told) == (True, ["drains"])
    assert running.get(timeout=PATIENCE) is None
    assert counts(app) == {"ready": 1}
