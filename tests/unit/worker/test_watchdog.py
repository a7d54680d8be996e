"""Time limits, cancel marks and the worker's presence."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from queuekit import Queuekit, Signature, TaskTimeout
from queuekit.backend import Record
from queuekit.clock import VirtualClock
from queuekit.execution.outcome import Outcome, Run
from queuekit.execution.time_limit import Guard
from queuekit.wire.records import cancel_mark, read_info, worker_key
from queuekit.worker.watchdog import Watchdog
from support.waiting import wait_until
from support.working import backend_of, executor_of, flaky_app, make_app, prepared


class Ward:
    """A watchdog, and what it looks after."""

    def __init__(self, app: Queuekit) -> None:
        self.app = app
        self.hand: list[Run] = []
        self.threads: list[tuple[int, Run]] = []
        self.given_up: set[int] = set()
        self.cancelled: list[Run] = []
        self.outcomes: list[Outcome] = []
        self.replaced: list[str] = []
        self.watchdog = Watchdog(
            app.runtime,
            executor_of(app),
            in_flight=lambda: list(self.hand),
            in_threads=lambda: list(self.threads),
            give_up=lambda row, _: self.given_up.add(row),
            thread_of=lambda _: 0,
            is_apart=lambda _: False,
            cancel=self.cancel,
            deliver=self.outcomes.append,
            about={"name": "w-1", "queues": ["default"]},
            bodies=lambda: [run for _, run in self.threads],
            replace=self.replaced.append,
        )

    def cancel(self, run: Run) -> bool:
        """Note a run that is in no loop."""
        self.cancelled.append(run)
        return False

    def presence(self) -> Record | None:
        """Return the worker's own record."""
        return self.app.runtime.need_backend("test").get([worker_key("w-1")]).get(worker_key("w-1"))


def ward(function: Callable[..., Any] = print, *, clock: Any = None, **options: Any) -> tuple[Ward, Run]:
    """Return a watchdog and one run in its worker's hands."""
    app = make_app(clock=clock)
    app.task(name="t", **options)(function)
    app.send(Signature("t", id="id-1"))
    found = Ward(app)
    found.hand = [prepared(app)]
    return found, found.hand[0]


def test_ends_the_process_of_a_body_past_its_hard_limit() -> None:
    """Its outcome is decided first; who writes that ends the process."""
    found, run = ward(time_limit=5)
    found.threads, run.started = [(0, run)], 10.0

    assert found.watchdog.enforce(14.5) == 15.0
    found.watchdog.enforce(15.0)
    found.watchdog.enforce(16.0)

    (outcome,) = found.outcomes
    assert (outcome.status, found.replaced) == ("failed", [])
    assert run.ends_process == "t id-1 ran longer than its time limit of 5 s"


def test_ends_the_process_of_a_body_that_was_given_up() -> None:
    """Its outcome was decided at its timeout, and the thread is lost until then."""
    found, run = ward(timeout=1, time_limit=5)
    found.threads, run.started, run.guard = [(0, run)], 10.0, Guard(0)
    found.watchdog.enforce(12.5)
    assert (len(found.outcomes), found.replaced) == (1, [])

    found.watchdog.enforce(15.0)
    found.watchdog.enforce(16.0)

    assert found.replaced == ["t id-1 ran longer than its time limit of 5 s"]
    assert len(found.outcomes) == 1


def test_tells_that_the_worker_is_there() -> None:
    """Name, queues and load, in a record that ends with the worker."""
    found, _ = ward()

    found.watchdog.start()
    record = wait_until(found.presence)
    found.watchdog.stop()

    assert json.loads(record.body) == {"name": "w-1", "queues": ["default"], "running": 1}
    assert found.presence() is None


def test_tells_it_again_before_it_is_forgotten() -> None:
    """Many times in the life of the record."""
    clock = VirtualClock()
    found, _ = ward(clock=clock)

    found.watchdog.start()
    first = wait_until(found.presence)
    clock.advance(11)
    second = wait_until(lambda: (now := found.presence()) and now.version > first.version)
    found.watchdog.stop()

    assert second
    assert first.ttl == 120


def test_finds_what_was_cancelled() -> None:
    """In one look for all that is in hand; whoever was told is not told again."""
    clock = VirtualClock()
    found, run = ward(clock=clock)
    found.app.runtime.need_backend("test").put([cancel_mark("id-1", ttl=100_000)])

    def told() -> bool:
        clock.advance(1)
        return bool(found.cancelled)

    found.watchdog.start()
    wait_until(told)
    clock.advance(1)
    clock.advance(1)
    found.watchdog.stop()

    assert found.cancelled == [run]


def test_wakes_when_there_is_something_to_look_after() -> None:
    """An idle one sleeps; the first run wakes it."""
    found, run = ward()
    found.hand = []
    found.app.runtime.need_backend("test").put([cancel_mark("id-1", ttl=60)])

    found.watchdog.start()
    wait_until(found.presence)
    found.hand = [run]
    found.watchdog.wake()
    found.watchdog.wake()
    wait_until(lambda: found.cancelled)
    found.watchdog.stop()

    assert found.cancelled == [run]


def test_lives_without_backend() -> None:
    """There are no marks then, and nobody asks who is there."""
    app = make_app(backend="none")
    app.send(Signature("t"))
    app.task(name="t")(print)
    found = Ward(app)
    found.hand = [prepared(app)]

    found.watchdog.start()
    found.watchdog.stop()

    assert found.cancelled == []


def test_outlives_a_backend_that_is_down(caplog: pytest.LogCaptureFixture) -> None:
    """It looks again in the next round; an error that nobody knows is logged."""
    app = flaky_app()
    app.task(name="t")(print)
    app.send(Signature("t", id="id-1"))
    found = Ward(app)
    found.hand = [prepared(app)]
    wire = backend_of(app).wire
    wire.answers["put"] = lambda: wire.calls.index("never called")
    wire.cut = {"get"}

    found.watchdog.start()
    wait_until(lambda: "get" in wire.calls)
    wire.cut = set()
    app.runtime.need_backend("test").put([cancel_mark("id-1", ttl=60)])
    wait_until(lambda: found.cancelled)
    found.watchdog.stop()

    assert "unexpected error in the watchdog" in caplog.text


def in_thread(found: Ward, run: Run, *, started: float) -> Guard:
    """Let *run* be in a thread since *started*, under a guard that belongs to no thread that runs Python code."""
    run.started = started
    run.guard = Guard()
    run.guard._open = False  # nothing is to be raised here
    found.threads = [(0, run)]
    return run.guard


@pytest.mark.parametrize(
    ("now", "nearest"),
    [pytest.param(100.5, 101.5, id="far"), pytest.param(104.2, 105.0, id="near")],
)
def test_says_when_to_look_again(now: float, nearest: float) -> None:
    """At the next limit, or in a second."""
    found, run = ward(timeout=5)
    in_thread(found, run, started=100)

    assert found.watchdog.enforce(now) == nearest


def test_looks_often_while_a_limited_run_may_begin() -> None:
    """Its limit begins with its body, which tells nobody."""
    found, _ = ward(timeout=5)

    assert found.watchdog.enforce(100) == pytest.approx(100.1)


def test_leaves_runs_without_limit_alone() -> None:
    """However long they take."""
    found, run = ward()
    found.threads = [(0, run)]
    run.started = 0

    assert found.watchdog.enforce(1e6) == 1e6 + 1.0
    assert not run.context.cancelled


def test_tells_a_body_past_its_time() -> None:
    """Its context is cancelled and its exception raised, in its own thread."""
    begun, fired = threading.Event(), threading.Event()

    def body() -> None:
        try:
            begun.set()
            while True:
                pass
        except TaskTimeout:
            fired.set()
            raise

    for timeout in (0.01, 2.0, 20.0):  # in the first, a busy machine may not even begin
        found, run = ward(body, timeout=timeout)
        found.threads = [(0, run)]
        found.watchdog.start()
        threading.Thread(
            target=lambda found=found, run=run: found.outcomes.append(executor_of(found.app).call(run))
        ).start()
        wait_until(lambda found=found: found.outcomes)
        found.watchdog.stop()
        if begun.is_set():
            break
    else:
        pytest.fail("its body never begins")

    assert (fired.is_set(), run.context.cancelled, found.given_up) == (True, True, set())
    assert found.outcomes[0].records[0].error == f"TaskTimeout: ran longer than {timeout:g} s"


def test_gives_a_body_up_that_does_not_stop() -> None:
    """A second after it was told: its outcome is decided without it, and its thread counted as lost."""
    found, run = ward(timeout=5)
    guard = in_thread(found, run, started=100)
    guard.again = 106.0  # it was told at 105

    found.watchdog.enforce(105.9)
    patient = set(found.given_up)
    found.watchdog.enforce(106)
    found.watchdog.enforce(107)

    assert (patient, found.given_up, run.decided) == (set(), {0}, True)
    (outcome,) = found.outcomes
    assert "does not stop" in read_info("id-1", outcome.records[0]).error
    assert outcome.run is run


def test_gives_up_the_thread_of_a_body_whose_outcome_was_decided_elsewhere() -> None:
    """As when its lease was lost: there is nothing left to decide, and its thread is lost all the same."""
    found, run = ward(timeout=5)
    in_thread(found, run, started=100)
    run.claim()

    found.watchdog.enforce(106)

    assert (found.given_up, found.outcomes) == ({0}, [])
