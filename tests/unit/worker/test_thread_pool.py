"""The threads that run ``def`` tasks."""

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest

from queuekit import Queuekit, Signature
from queuekit.events import Event, TaskStarted
from queuekit.execution.executor import Executor
from queuekit.execution.outcome import Outcome, Run
from queuekit.worker.run_table import RunTable
from queuekit.worker.thread_pool import ThreadPool
from support.waiting import PATIENCE, wait_until
from support.working import executor_of, make_app, prepared, seen


class Pool:
    """A pool, and what it delivers."""

    def __init__(self, app: Queuekit, size: int = 2) -> None:
        self.outcomes: list[Outcome] = []
        self.run_table = RunTable(size)
        self.pool = ThreadPool(
            executor_of(app), size=size, run_table=self.run_table, isolation=None, deliver=self.outcomes.append
        )

    def end(self) -> list[Run]:
        """Take back what has not begun, and wait until the threads have ended."""
        waiting = self.pool.take_waiting()
        for thread in self.pool.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        return waiting


def app_with(function: Callable[..., Any]) -> Queuekit:
    """Return an app whose one task is *function*."""
    app = make_app()
    app.task(name="t")(function)
    return app


def runs(app: Queuekit, count: int) -> list[Run]:
    """Return *count* runs, numbered from 1."""
    app.send_many([Signature("t") for _ in range(count)])
    found = [prepared(app) for _ in range(count)]
    for serial, run in enumerate(found, 1):
        run.serial = serial
    return found


def test_runs_all() -> None:
    """With no more threads than its size, and no more than there is work."""
    app = app_with(lambda: None)
    pool = Pool(app)

    pool.pool.submit(runs(app, 5))
    wait_until(lambda: len(pool.outcomes) == 5)
    pool.end()

    assert {outcome.status for outcome in pool.outcomes} == {"done"}
    assert len(pool.pool.threads) == 2


@pytest.mark.parametrize("allowed", [0, 1])
def test_no_run_waits_for_a_thread_that_cannot_start(allowed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer threads than its size it goes on; without any it puts the runs back. Later batches try again."""
    start, started = threading.Thread.start, 0

    def limited(thread: threading.Thread) -> None:
        nonlocal started
        if started >= allowed and thread.name.startswith("queuekit-run-"):
            raise RuntimeError("can't start new thread")
        started += 1
        start(thread)

    app = app_with(lambda: None)
    pool, batch = Pool(app), runs(app, 6)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", limited)
        pool.pool.submit(batch[:3])
        wait_until(lambda: len(pool.outcomes) == 3)
    had = len(pool.pool.threads)
    pool.pool.submit(batch[3:])
    wait_until(lambda: len(pool.outcomes) == 6)
    waiting = pool.end()

    assert (had, len(pool.pool.threads), waiting) == (allowed, 2, [])
    assert [outcome.status for outcome in pool.outcomes[:3]] == ["done" if allowed else "returned"] * 3
    assert {outcome.status for outcome in pool.outcomes[3:]} == {"done"}


def test_says_what_runs() -> None:
    """To whoever looks after time limits, and in the table that outlives the process."""
    go = threading.Event()
    app = app_with(lambda: go.wait(PATIENCE))
    pool = Pool(app)

    pool.pool.submit(runs(app, 2))
    wait_until(lambda: len(pool.run_table.entered()) == 2)
    serials, running = set(pool.run_table.entered()), len(pool.pool.running)
    go.set()
    pool.end()

    assert (serials, running) == ({1, 2}, 2)
    assert (pool.run_table.entered(), pool.pool.running) == ({}, {})


def test_takes_back_what_has_not_begun() -> None:
    """Running ones go on to their end."""
    go, begun = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait(PATIENCE)

    app = app_with(work)
    pool = Pool(app, size=1)
    found = runs(app, 3)

    pool.pool.submit(found)
    begun.wait(PATIENCE)
    waiting = pool.pool.take_waiting()
    go.set()
    wait_until(lambda: pool.outcomes)
    pool.end()

    assert waiting == found[1:]
    assert [outcome.run for outcome in pool.outcomes] == found[:1]


def test_takes_back_all_but_the_first() -> None:
    """They stay in their order, and a pool that ends has nothing to give."""
    go, begun = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait(60)

    app = app_with(work)
    pool = Pool(app, size=1)
    found = runs(app, 4)

    pool.pool.submit(found)
    begun.wait(60)
    taken, kept = pool.pool.take_back(1), pool.pool.waiting
    waiting = pool.pool.take_waiting()
    nothing = pool.pool.take_back(0)
    go.set()
    pool.end()

    assert (taken, kept, waiting, nothing) == (found[2:], 1, [found[1]], [])


def test_no_run_waits_for_the_thread_that_began_its_batch() -> None:
    """Runs of a batch belong to no thread: another one takes them while the first is busy."""
    go, begun, ended = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)
    first = threading.Lock()

    def work() -> None:
        if first.acquire(blocking=False):
            begun.release()
            go.wait(PATIENCE)
        ended.release()

    pool = Pool(app := app_with(work), size=2)
    pool.pool.submit(runs(app, 1))
    begun.acquire(timeout=PATIENCE)
    pool.pool.submit(runs(app, 5))
    others = [ended.acquire(timeout=PATIENCE) for _ in range(5)]
    go.set()
    wait_until(lambda: len(pool.outcomes) == 6)
    pool.end()

    assert all(others)


def test_each_batch_finds_its_threads() -> None:
    """As many bodies run at once as there are threads, whatever calls earlier batches left unanswered."""
    app = app_with(lambda: None)
    pool = Pool(app, size=3)
    for size in (1, 7, 2, 3):
        before = len(pool.outcomes) + size
        pool.pool.submit(runs(app, size))
        wait_until(lambda before=before: len(pool.outcomes) == before)
    together = threading.Barrier(3)
    app = app_with(lambda: together.wait(PATIENCE))

    pool.pool._executor = executor_of(app)
    pool.pool.submit(runs(app, 3))
    wait_until(lambda: len(pool.outcomes) == 16)
    pool.end()

    assert [outcome.status for outcome in pool.outcomes] == ["done"] * 16


def test_what_comes_after_the_end_goes_back() -> None:
    """No thread would take it, so it would be held until the worker gives up on what runs."""
    ran: list[int] = []
    pool = Pool(app := app_with(lambda: ran.append(1)))
    pool.end()

    pool.pool.submit(runs(app, 2))

    assert ([outcome.status for outcome in pool.outcomes], ran, pool.pool.waiting) == (["returned"] * 2, [], 0)


def test_does_not_begin_what_was_lost() -> None:
    """Somebody else has it."""
    ran = threading.Event()
    app = app_with(ran.set)
    pool = Pool(app)
    lost, other = runs(app, 2)
    lost.context.lost = True

    pool.pool.submit([lost, other])
    wait_until(lambda: pool.outcomes)
    pool.end()

    assert [outcome.run for outcome in pool.outcomes] == [other]


def test_does_not_begin_what_was_cancelled() -> None:
    """Its outcome names its run, so that its place becomes free."""
    app = app_with(lambda: None)
    pool = Pool(app)
    (run,) = runs(app, 1)
    run.context.cancel()

    pool.pool.submit([run])
    wait_until(lambda: pool.outcomes)
    pool.end()

    assert [(outcome.status, outcome.run) for outcome in pool.outcomes] == [("cancelled", run)]


def test_an_outcome_that_was_decided_elsewhere_is_not_delivered() -> None:
    """Whoever gave up on the body has decided."""
    go = threading.Event()
    app = app_with(lambda: go.wait(PATIENCE))
    pool = Pool(app)
    (run,) = runs(app, 1)

    pool.pool.submit([run])
    wait_until(lambda: pool.pool.running)
    pool.pool.give_up(0, run)
    run.claim()
    go.set()
    pool.end()

    assert (pool.outcomes, pool.pool.lost) == ([], set())


def test_a_run_that_is_given_up_as_it_ends_costs_no_place() -> None:
    """Whoever gives it up may look at it a moment too late: its thread is free again."""
    app = app_with(lambda: None)
    pool = Pool(app)
    (run,) = runs(app, 1)

    pool.pool.submit([run])
    wait_until(lambda: pool.outcomes)
    pool.pool.give_up(0, run)
    pool.end()

    assert pool.pool.lost == set()


def test_a_run_that_is_decided_while_it_begins_never_runs() -> None:
    """As when its lease is lost while what it begins with takes its time."""
    ran: list[bool] = []
    app = app_with(lambda: ran.append(True))
    begun: list[TaskStarted] = []
    (run, other) = runs(app, 2)

    def decide_the_first(event: Event) -> None:
        if isinstance(event, TaskStarted):
            begun.append(event)
            if len(begun) == 1:
                run.claim()

    app.events.subscribe(decide_the_first)
    pool = Pool(app, size=1)
    pool.pool.submit([run, other])
    wait_until(lambda: pool.outcomes)
    pool.end()

    assert (len(ran), [outcome.run for outcome in pool.outcomes]) == (1, [other])


class BrokenIsolation:
    """What would run bodies elsewhere, and cannot."""

    def wants(self, run: Run) -> bool:
        """Take all."""
        return run.started is None

    waiting = 0

    def may_begin(self, run: Run) -> bool:
        """Let it try."""
        return True

    def take_waiting(self) -> list[Run]:
        """Return none."""
        return []

    def shares(self, run: Run) -> bool:
        """Refuse."""
        return False

    def call(self, row: int, runs: list[Run]) -> Iterator[tuple[Run, Outcome | None]]:
        """Fail."""
        raise OSError("no more processes")


def test_a_run_that_cannot_begin_ends_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    """Its message comes again, and the thread takes the next."""
    app = app_with(lambda: None)
    pool = Pool(app, size=1)
    pool.pool._isolation = BrokenIsolation()  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]

    pool.pool.submit(runs(app, 2))
    wait_until(lambda: len(pool.outcomes) == 2)
    pool.end()

    assert [outcome.status for outcome in pool.outcomes] == ["returned", "returned"]
    assert "no more processes" in caplog.text
    assert pool.pool.running == {}


class SlowIsolation:
    """What has no process for a suspect yet."""

    def wants(self, run: Run) -> bool:
        """Take suspects."""
        return run.suspect

    def __init__(self) -> None:
        self.asked: list[Run] = []

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self.asked)

    def may_begin(self, run: Run) -> bool:
        """Let it wait."""
        self.asked.append(run)
        return False

    def take_waiting(self) -> list[Run]:
        """Return all that wait."""
        return self.asked


def test_a_suspect_that_waits_for_a_process_takes_no_thread() -> None:
    """What else there is to run goes on, and the suspect is taken back at the end."""
    app = app_with(lambda: None)
    pool = Pool(app, size=1)
    pool.pool._isolation = SlowIsolation()  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    suspect, other = runs(app, 2)
    suspect.suspect = True

    pool.pool.submit([suspect, other])
    wait_until(lambda: pool.outcomes)
    apart = pool.pool.apart

    assert (apart, [outcome.run for outcome in pool.outcomes]) == (1, [other])
    assert pool.end() == [suspect]


class QuickIsolation:
    """Processes for bodies, which begin as many of what they get as *begins* says."""

    def __init__(self, executor: Executor, begins: list[int]) -> None:
        self._executor, self._begins = executor, begins
        self.calls: list[list[int]] = []

    def wants(self, run: Run) -> bool:
        """Take all."""
        return True

    def may_begin(self, run: Run) -> bool:
        """Let it begin."""
        return True

    def shares(self, run: Run) -> bool:
        """Take all but the seventh together."""
        return run.serial != 7

    def take_waiting(self) -> list[Run]:
        """Return none."""
        return []

    def call(self, row: int, runs: list[Run]) -> Iterator[tuple[Run, Outcome | None]]:
        """Run the first ones."""
        self.calls.append([run.serial for run in runs])
        begins = self._begins.pop(0) if self._begins else len(runs)
        for run in runs[:begins]:
            run.started = run.ended = 1.0
            yield run, self._executor.decide.returned(run, None)
        for run in reversed(runs[begins:]):
            yield run, None


def pool_of(app: Queuekit, seconds: float | None, *begins: int) -> tuple[Pool, QuickIsolation]:
    """Return a pool of one thread whose bodies take *seconds* each, in processes."""
    isolation: Any = QuickIsolation(executor_of(app), list(begins))
    pool = Pool(app, size=1)
    pool.pool._isolation, pool.pool._seconds_of = isolation, lambda _: seconds
    return pool, isolation


@pytest.mark.parametrize(
    ("seconds", "calls"),
    [
        (0.0015, [[1, 2, 3], [4, 5, 6], [7], [8]]),
        (0.004, [[n] for n in range(1, 9)]),
        (None, [[n] for n in range(1, 9)]),
    ],
    ids=["quick", "slow", "unknown"],
)
def test_sends_quick_bodies_to_a_process_together(seconds: float | None, calls: list[list[int]]) -> None:
    """A few milliseconds of work at a time, in order, and each alone of whose task nothing is known."""
    app = app_with(lambda: None)
    pool, isolation = pool_of(app, seconds)

    pool.pool.submit(found := runs(app, 8))
    wait_until(lambda: len(pool.outcomes) == 8)
    pool.end()

    assert isolation.calls == calls
    assert [outcome.run for outcome in pool.outcomes] == found


def test_what_a_process_has_not_begun_is_next() -> None:
    """Before what came later, and its start is told once it has begun."""
    app = app_with(lambda: None)
    events = seen(app, TaskStarted)
    pool, isolation = pool_of(app, 0.0001, 2)

    pool.pool.submit(found := runs(app, 4))
    wait_until(lambda: len(pool.outcomes) == 4)
    pool.end()

    assert isolation.calls == [[1, 2, 3, 4], [3, 4]]
    assert [event.id for event in events][:2] == [run.message.id for run in found][:2]
    assert [outcome.run for outcome in pool.outcomes] == found


def test_what_a_process_has_not_begun_goes_back_at_the_end() -> None:
    """The pool was closed meanwhile."""
    app = app_with(lambda: None)
    pool, isolation = pool_of(app, 0.0001, 1)
    begins = isolation.call

    def call(row: int, runs: list[Run]) -> Iterator[tuple[Run, Outcome | None]]:
        yield from islice(begins(row, runs), 1)
        pool.pool.take_waiting()
        yield runs[2], None
        yield runs[1], None

    isolation.call = call  # type: ignore[method-assign]
    pool.pool.submit(runs(app, 3))
    wait_until(lambda: len(pool.outcomes) == 3)

    assert [outcome.status for outcome in pool.outcomes] == ["done", "returned", "returned"]
