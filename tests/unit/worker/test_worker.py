"""A whole worker on the memory engine: what users depend on."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from queuekit import (
    Cancelled,
    Context,
    Failure,
    Fixed,
    Queuekit,
    Result,
    Retry,
    Signature,
    Snooze,
    State,
    TaskCancelled,
    TaskFailed,
    TaskTimeout,
    UniqueKey,
    current,
)
from queuekit.broker import Capabilities, Place
from queuekit.clock import VirtualClock
from queuekit.envelope import Envelope
from queuekit.errors import CapabilityError, UnavailableError
from queuekit.events import EngineBack, EngineDown, LeasesLost, MessageDead, TaskFinished, TaskStarted, WorkerStopped
from queuekit.execution.outcome import Outcome
from queuekit.execution.time_limit import Guard
from queuekit.hookspecs import hookimpl
from queuekit.ids import is_name, worker_name
from queuekit.worker import Worker
from queuekit.worker.async_pool import LoopPool
from queuekit.worker.lease_table import LeaseTable
from queuekit.worker.prefetch import MOST_BYTES
from support.waiting import PATIENCE, wait_until
from support.working import (
    backend_of,
    broker_of,
    burst,
    counts,
    executor_of,
    flaky_app,
    inside,
    make_app,
    prepared,
    seen,
    take_one,
    working,
)


class Gate:
    """A task's body that begins, waits until it may go on, and ends."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.runs = 0

    def __call__(self) -> str:
        """Begin and wait."""
        self.runs += 1
        self.begun.set()
        self.go.wait(PATIENCE)
        return "through"


def gated(app: Queuekit, **options: Any) -> Gate:
    """Register a task ``gate`` that waits in its gate."""
    gate = Gate()

    def body() -> str:
        return gate()

    app.task(name="gate", **options)(body)
    return gate


def send(app: Queuekit, task: str, *args: Any, **options: Any) -> Result[Any]:
    """Send one call."""
    return app.send(Signature[Any](task, args=args).options(**options))


# -- running


def test_runs_plain_and_async_tasks_side_by_side() -> None:
    """In threads and on one loop, from one queue."""
    app = make_app()
    threads: dict[str, str] = {}

    @app.task(name="plain")
    def plain(x: int) -> int:
        threads["plain"] = threading.current_thread().name
        return x + 1

    @app.task(name="coroutine")
    async def coroutine(x: int) -> int:
        threads["coroutine"] = threading.current_thread().name
        await asyncio.sleep(0)
        return x + 1

    first, second = plain.send(1), coroutine.send(2)
    burst(app)

    assert (first.get(timeout=1), second.get(timeout=1)) == (2, 3)
    assert threads["plain"].startswith("queuekit-run-")
    assert threads["coroutine"] == "queuekit-loop"


def test_a_task_delayed_by_hours_runs_in_its_moment() -> None:
    """The worker's real path on a virtual clock: six hours pass in milliseconds."""
    clock = VirtualClock()
    app = make_app(clock=clock)
    app.task(name="later")(lambda: "done")

    with working(app):
        result = send(app, "later", delay="6h")
        clock.advance(6 * 3600 - 1)
        clock.wait_for_waiters(1)
        before = result.state
        clock.advance(1)
        wait_until(lambda: result.state is State.SUCCESS)

    info = result.info()
    assert before is State.PENDING
    assert info.started is not None and info.sent is not None  # noqa: PT018 - for types
    assert info.started - info.sent >= 6 * 3600


def test_retries_until_it_succeeds() -> None:
    """Each attempt knows its number; the waits are the policy's, on the broker's clock."""
    clock = VirtualClock()
    app = make_app(clock=clock)
    attempts: list[tuple[int, float]] = []

    @app.task(name="flaky", retries=5, retry=Fixed(60))
    def flaky(ctx: Context) -> str:
        attempts.append((ctx.attempt, clock.time()))
        if ctx.attempt < 2:
            raise ConnectionError("not yet")
        return "at last"

    result = flaky.send()
    with working(app):
        for attempt in range(3):
            wait_until(lambda attempt=attempt: len(attempts) > attempt)
            if attempt < 2:
                wait_until(lambda: counts(app) == {"delayed": 1})
                clock.advance(60)
        wait_until(lambda: result.state is State.SUCCESS)

    start = attempts[0][1]
    assert [(attempt, moment - start) for attempt, moment in attempts] == [(0, 0), (1, 60), (2, 120)]
    assert (result.get(timeout=1), result.info().attempt) == ("at last", 2)


def test_a_failure_ends_among_the_dead_letters_and_tells_its_follow_up_once() -> None:
    """FAILURE is the outcome, dead is where the message is, and on_error gets one object."""
    app = make_app()
    told: list[Failure] = []

    @app.task(name="fail", retries=2, retry=Fixed(0))
    def fail() -> None:
        raise ValueError("no")

    @app.task(name="sorry")
    def sorry(what: str, failure: Failure) -> None:
        told.append(failure)

    result = fail.options(on_error=[sorry.s("it")]).send()
    dead = seen(app, MessageDead)
    worker = burst(app)

    (failure,) = told
    assert (failure.id, failure.task, failure.error_type, failure.error, failure.attempt) == (
        result.id,
        "fail",
        "ValueError",
        "no",
        2,
    )
    (letter,) = inside(app, Place.DEAD)
    assert (letter.envelope.id, letter.reason, letter.holder) == (result.id, "failed", worker.name)
    assert (dict(worker.stats), [(one.id, one.reason) for one in dead]) == (
        {"retried": 2, "failed": 1, "done": 1},
        [(result.id, "failed")],
    )


def test_a_success_hands_its_result_on() -> None:
    """Appended to the follow-up's own arguments."""
    app = make_app()

    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="tell")
    def tell(name: str, value: int) -> str:
        return f"{name}={value}"

    add.options(on_success=[tell.s("sum").options(id="told")]).send(1, 2)
    burst(app)

    assert app.result("told").get(timeout=1) == "sum=3"


def test_snooze_takes_no_retry() -> None:
    """The work cannot be done yet; the message stays where it was in its life."""
    clock = VirtualClock()
    app = make_app(clock=clock)
    runs: list[int] = []

    @app.task(name="wait")
    def wait(ctx: Context) -> str:
        runs.append(ctx.attempt)
        if len(runs) < 3:
            raise Snooze(30)
        return "now"

    result = wait.send()
    with working(app):
        for count in (1, 2):
            wait_until(lambda count=count: len(runs) == count and counts(app) == {"delayed": 1})
            clock.advance(30)
        wait_until(lambda: result.state is State.SUCCESS)

    assert runs == [0, 0, 0]


def test_more_urgent_messages_run_first() -> None:
    """9 before 4 before 0."""
    app = make_app(worker={"concurrency": 1, "prefetch": 0})
    order: list[int] = []
    app.task(name="note")(order.append)

    for priority in (4, 0, 9):
        send(app, "note", priority, priority=priority)
    burst(app)

    assert order == [9, 4, 0]


def test_a_unique_message_is_kept_across_its_retries() -> None:
    """The key is held until the final settle; a second send in the meantime is the first message."""
    app = make_app()
    sent: list[Result[Any]] = []

    @app.task(name="once", retries=1, retry=Fixed(0))
    def once(ctx: Context) -> None:
        sent.append(send(app, "once", unique=UniqueKey(key="k")))
        if ctx.attempt == 0:
            raise Retry

    first = send(app, "once", unique=UniqueKey(key="k"))
    burst(app)

    assert [(result == first, result.duplicate) for result in sent] == [(True, True), (True, True)]


def test_malformed_messages_harm_no_good_ones() -> None:
    """Good ones run, bad ones are dead letters with their reason, and the worker is the same."""
    app = make_app()
    app.task(name="ok")(lambda: 1)
    results = [send(app, "ok") for _ in range(3)]
    bodies = [b"", b"\xff\xfe", b'{"v":1}\n', b"x" * 2_000_000]
    app.runtime.broker.send([Envelope(id=f"bad-{n}", queue="default", body=body) for n, body in enumerate(bodies)])

    worker = burst(app)

    assert [result.get(timeout=1) for result in results] == [1, 1, 1]
    assert {letter.reason for letter in inside(app, Place.DEAD)} == {"malformed"}
    assert dict(worker.stats) == {"done": 3, "dead": 4}


def test_a_suspect_without_a_process_of_its_own_runs_like_the_others() -> None:
    """A worker that does not know how another process would find the app runs it here."""
    app = make_app(clock=(clock := VirtualClock()))
    app.task(name="ok")(lambda: 1)
    result = send(app, "ok")
    take_one(app, lease=1)
    clock.advance(2)

    burst(app)

    assert result.get(timeout=1) == 1


# -- the log


@pytest.mark.parametrize(("level", "words"), [("INFO", ["done"]), ("DEBUG", ["start", "done"])])
def test_writes_one_line_at_the_end(caplog: pytest.LogCaptureFixture, level: str, words: list[str]) -> None:
    """With task and id; it tells how, and how long. Only for who looks for faults is there one at the start."""
    caplog.set_level(level, "queuekit")
    app = make_app()
    app.task(name="ok")(lambda: 1)
    result = send(app, "ok")

    burst(app)

    lines = [record.getMessage() for record in caplog.records if record.name == "queuekit.task"]
    assert [line.split()[:3] for line in lines] == [[word, "ok", result.id] for word in words]


def test_a_busy_worker_saves_the_lines_that_nobody_wants() -> None:
    """With the level at WARNING no event of a single run is made."""
    app = make_app()
    app.task(name="ok")(lambda: 1)
    send(app, "ok")

    worker = burst(app)

    assert worker.stats["done"] == 1


def test_events_tell_the_same_to_programs() -> None:
    """Start, end, and the sum of it."""
    app = make_app()
    started, finished, stopped = seen(app, TaskStarted), seen(app, TaskFinished), seen(app, WorkerStopped)
    app.task(name="ok")(lambda: 1)
    send(app, "ok")

    burst(app)

    assert [event.task for event in started] == ["ok"]
    assert [(event.task, event.state) for event in finished] == [("ok", "SUCCESS")]
    assert stopped[0].stats == {"done": 1}


# -- cancelling


def test_cancels_a_running_thread_by_an_exception() -> None:
    """The body sees ``ctx.cancelled`` as well; if it names what is raised, what it returns is its own affair."""
    app = make_app()
    begun = threading.Event()

    @app.task(name="patient")
    def patient(ctx: Context) -> str:
        try:
            begun.set()
            while True:
                threading.Event().wait(0.001)
        except Cancelled:
            return f"stopped early: {ctx.cancelled}"

    result = patient.send()
    with working(app):
        begun.wait(PATIENCE)
        cancelled = result.cancel()
        wait_until(lambda: result.state is State.SUCCESS)

    assert (cancelled, result.get(timeout=1)) == (True, "stopped early: True")


def test_cancels_a_running_coroutine() -> None:
    """It gets a ``CancelledError``, and the message has ended as CANCELLED."""
    app = make_app()
    begun = threading.Event()

    @app.task(name="patient")
    async def patient() -> None:
        begun.set()
        await asyncio.Event().wait()

    result = patient.send()
    with working(app):
        begun.wait(PATIENCE)
        result.cancel()
        wait_until(lambda: result.state is State.CANCELLED)

    with pytest.raises(TaskCancelled):
        result.get(timeout=1)


def look_in_a_thread(ctx: Context, begun: threading.Event, left: threading.Event) -> None:
    """Return as soon as the context says so."""
    begun.set()
    while not ctx.cancelled:
        threading.Event().wait(0.001)
    left.set()


async def look_on_a_loop(ctx: Context, begun: threading.Event, left: threading.Event) -> None:
    """Return as soon as the context says so."""
    begun.set()
    while not ctx.cancelled:  # noqa: ASYNC110 - this is what the test is about
        await asyncio.sleep(0.001)
    left.set()


@pytest.mark.parametrize("timeout", [None, 0.1], ids=["cancelled", "timeout"])
@pytest.mark.parametrize("look", [look_in_a_thread, look_on_a_loop], ids=["thread", "loop"])
def test_a_body_that_looks_ends_as_one_that_does_not(
    monkeypatch: pytest.MonkeyPatch, look: Callable[..., Any], timeout: float | None
) -> None:
    """What is raised in it comes before what it can see, however late that is."""
    begun, left, app = threading.Event(), threading.Event(), make_app()

    def late(call: Callable[..., Any]) -> Callable[..., Any]:
        def waits(*args: Any) -> Any:
            left.wait(0.2)
            return call(*args)

        return waits

    def body(ctx: Context) -> Any:
        return look(ctx, begun, left)

    async def abody(ctx: Context) -> None:
        await look(ctx, begun, left)

    monkeypatch.setattr(Guard, "fire", late(Guard.fire))
    monkeypatch.setattr(LoopPool, "cancel", late(LoopPool.cancel))
    task = app.task(name="look", timeout=timeout)(abody if look is look_on_a_loop else body)
    result = task.send()
    with working(app):
        if timeout is None:
            wait_until(begun.is_set)
            result.cancel()
        wait_until(lambda: result.done)

    assert result.state is (State.CANCELLED if timeout is None else State.FAILURE)


@pytest.mark.parametrize("delay", [None, 3600], ids=["waiting", "delayed"])
def test_what_is_cancelled_in_time_never_runs(delay: float | None) -> None:
    """Nobody sees it again."""
    app = make_app()
    gate = gated(app)
    result = send(app, "gate", delay=delay)

    result.cancel()
    worker = burst(app)

    assert (gate.runs, dict(worker.stats), result.state) == (0, {}, State.CANCELLED)


# -- time limits


def forever_in_a_thread() -> None:
    """Run Python code that never ends by itself."""
    while True:
        pass


async def forever_on_a_loop() -> None:
    """Wait for what never comes."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("function", [forever_in_a_thread, forever_on_a_loop], ids=["thread", "loop"])
def test_a_body_past_its_time_fails(function: Callable[[], Any]) -> None:
    """With a timeout; the worker goes on."""
    app = make_app()
    app.task(name="forever", timeout=0.02)(function)
    app.task(name="ok")(lambda: 1)

    with working(app):
        result = send(app, "forever")
        with pytest.raises(TaskFailed, match=r"TaskTimeout: ran longer than 0\.02 s"):
            result.get(timeout=PATIENCE)
        after = send(app, "ok").get(timeout=PATIENCE)

    assert after == 1


def test_a_timeout_is_tried_again() -> None:
    """It is an error like any other."""
    app = make_app()
    attempts: list[int] = []

    @app.task(name="slow-once", retries=1, retry=Fixed(0))
    def slow_once(ctx: Context) -> str:
        attempts.append(ctx.attempt)
        if ctx.attempt == 0:
            forever_in_a_thread()
        return "quick now"

    for timeout in (0.05, 2.0, 20.0):  # in the first, a busy machine may not even begin
        attempts.clear()
        result = slow_once.options(timeout=timeout).send()
        burst(app)
        if attempts == [0, 1] and result.state is State.SUCCESS:
            assert result.get(timeout=1) == "quick now"
            break
    else:
        pytest.fail(f"its attempts: {attempts}")


def test_a_body_that_does_not_stop_costs_its_slot() -> None:
    """Its outcome is decided without it, and the worker takes less until it ends."""
    app = make_app(worker={"concurrency": 2, "prefetch": 0})
    go = threading.Event()

    @app.task(name="stubborn", timeout=0.01)
    def stubborn() -> None:
        # In short waits: on CPython 3.11 an exception that waits for a blocked thread stalls all threads with a tracer.
        while not go.is_set():
            with contextlib.suppress(TaskTimeout):
                while not go.wait(0.01):
                    pass

    with working(app) as worker:
        result = stubborn.send()
        wait_until(lambda: result.state is State.FAILURE)
        while_lost = worker.room()
        go.set()
        wait_until(lambda: worker.room() == 2)

    assert while_lost == 1
    assert "does not stop" in result.info().error


# -- stopping


def test_a_stopping_worker_hands_back_what_has_not_begun() -> None:
    """At once and uncounted, in its old place; what runs is let to end."""
    app = make_app(worker={"concurrency": 1})
    gate = gated(app)
    app.task(name="quick")(lambda: None)
    send(app, "quick")
    burst(app)

    worker = Worker(app)
    worker._prefetch.observe("gate", 0.001)
    worker._prefetch.saw({"gate"})
    results = [send(app, "gate") for _ in range(5)]
    thread = threading.Thread(target=worker.run)
    thread.start()
    gate.begun.wait(PATIENCE)
    wait_until(lambda: counts(app) == {"leased": 5})
    worker.stop("SIGTERM")
    wait_until(lambda: counts(app) == {"leased": 1, "ready": 4})
    gate.go.set()
    thread.join(PATIENCE)

    assert results[0].get(timeout=1) == "through"
    assert [letter.crashes for letter in inside(app, Place.READY)] == [0, 0, 0, 0]
    assert dict(worker.stats) == {"returned": 4, "done": 1}


def test_a_body_that_outlasts_the_drain_time_is_told_and_released() -> None:
    """Uncounted: it is no fault of its own."""
    app = make_app(worker={"drain": 0})
    told = threading.Event()

    @app.task(name="long")
    def long(ctx: Context) -> None:
        while not ctx.cancelled:
            threading.Event().wait(0.001)
        told.set()

    with working(app) as worker:
        send(app, "long")
        wait_until(lambda: worker._threads.running)

    (letter,) = inside(app, Place.READY)
    assert (letter.crashes, told.wait(PATIENCE), worker.stats["returned"]) == (0, True, 1)


def test_a_coroutine_that_outlasts_the_drain_time_is_cancelled_and_released() -> None:
    """Its message is not recorded as cancelled: nobody cancelled it."""
    app = make_app(worker={"drain": 0})
    begun, ended = threading.Event(), threading.Event()

    @app.task(name="long")
    async def long() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with working(app):
        result = long.send()
        wait_until(begun.is_set)

    assert (counts(app), result.state, ended.is_set()) == ({"ready": 1}, State.PENDING, True)


def test_a_second_word_stops_at_once() -> None:
    """Without waiting for what runs; the exit code tells."""
    app = make_app()
    gate = gated(app)
    codes: list[int] = []

    worker = Worker(app)
    thread = threading.Thread(target=lambda: codes.append(worker.run()))
    thread.start()
    send(app, "gate")
    gate.begun.wait(PATIENCE)
    worker.stop("SIGTERM")
    worker.stop("SIGTERM again", at_once=True)
    thread.join(PATIENCE)
    gate.go.set()

    assert (codes, counts(app)) == ([130], {"ready": 1})


def test_a_coroutine_that_waits_for_its_turn_is_handed_back() -> None:
    """The loop runs no more than there are slots."""
    app = make_app(worker={"concurrency": 1, "drain": 0})
    worker = Worker(app)
    worker._prefetch.observe("long", 0.001)
    worker._prefetch.saw({"long"})
    app.task(name="long")(forever_on_a_loop)
    for _ in range(3):
        send(app, "long")
    thread = threading.Thread(target=worker.run)
    thread.start()
    wait_until(lambda: counts(app) == {"leased": 3} and worker._run_table.entered())

    worker.stop("SIGTERM")
    thread.join(PATIENCE)

    assert (counts(app), worker.stats["returned"]) == ({"ready": 3}, 3)


def test_a_burst_ends_with_code_0() -> None:
    """When the queues are empty; delayed messages are not waited for."""
    app = make_app()
    app.task(name="ok")(lambda: 1)
    send(app, "ok", delay=3600)
    worker = Worker(app, burst=True)

    assert worker.run() == 0
    assert counts(app) == {"delayed": 1}


# -- leases


@pytest.mark.parametrize("is_async", [False, True], ids=["thread", "loop"])
def test_a_run_without_lease_is_told_and_refused(*, is_async: bool) -> None:
    """The context says so; the outcome changes nothing and is counted (QK4)."""
    app = make_app()
    lost = seen(app, LeasesLost)
    begun = threading.Event()
    told: list[tuple[bool, bool]] = []

    def body(ctx: Context) -> str:
        begun.set()
        while not ctx.cancelled:
            threading.Event().wait(0.001)
        told.append((ctx.lost, ctx.cancelled))
        return "too late"

    async def abody(ctx: Context) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.append((ctx.lost, ctx.cancelled))
        return "never"

    app.task(name="slow")(abody if is_async else body)
    with working(app) as worker:
        result = send(app, "slow")
        wait_until(begun.is_set)
        app.runtime.broker.purge("default", place=Place.LEASED)
        worker.lost(list(worker._in_flight))
        wait_until(worker.idle)

    assert (told, result.state, dict(worker.stats)) == ([(True, True)], State.PENDING, {"lost": 1})
    assert lost[0].ids == (result.id,)


def test_an_unstarted_run_without_lease_never_begins() -> None:
    """Its place is free at once."""
    app = make_app(worker={"concurrency": 1})
    gate = gated(app)
    worker = Worker(app)
    worker._prefetch.observe("gate", 0.001)
    worker._prefetch.saw({"gate"})
    for _ in range(2):
        send(app, "gate")
    thread = threading.Thread(target=worker.run)
    thread.start()
    gate.begun.wait(PATIENCE)
    wait_until(lambda: len(worker._in_flight) == 2)

    worker.lost([2, 99])
    in_flight = len(worker._in_flight)
    gate.go.set()
    wait_until(lambda: worker.stats["done"] == 1)
    worker.stop()
    thread.join(PATIENCE)

    assert (in_flight, gate.runs, worker.stats["lost"]) == (1, 1, 1)


def test_a_lease_that_ended_with_its_outcome_is_not_lost() -> None:
    """The renewer may hear of it before the settler tells."""
    app = make_app()
    lost = seen(app, LeasesLost)
    gate = gated(app)

    with working(app) as worker:
        send(app, "gate")
        gate.begun.wait(PATIENCE)
        (serial, run), *_ = worker._in_flight.items()
        run.claim()
        worker.lost([serial])
        gate.go.set()
        worker._settler.put(Outcome(delivery=run.delivery, settlement=None, run=run))
        wait_until(worker.idle)

    assert lost == []


def test_no_more_messages_are_taken_than_leases_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    """Where there is no room for more, the rest go back and wait, and the log says so, a few times at most."""
    app = make_app(worker={"concurrency": 50})
    app.task(name="mail", ignore_result=True)(lambda: None)
    for _ in range(300):
        send(app, "mail")

    worker = burst(app, leases=LeaseTable(size=4096))

    assert worker.stats["done"] == 300
    assert 0 < worker.stats["returned"] <= 100
    assert worker._leases.most <= 25
    assert 1 <= caplog.text.count("the lease table is full") <= 4
    assert worker._leases.held() == []


def test_a_message_whose_lease_cannot_be_kept_goes_back(caplog: pytest.LogCaptureFixture) -> None:
    """No body runs without somebody who renews its lease; the log says what is wrong."""
    app = make_app()
    gate = gated(app)
    send(app, "gate")

    with working(app, leases=LeaseTable(size=64)) as worker:
        wait_until(lambda: "does not fit: its token has" in caplog.text)
        wait_until(lambda: worker.stats["returned"] and worker.idle())

    assert (gate.runs, counts(app)) == (0, {"ready": 1})


def no_memory(*_: object) -> bytes:
    """Fail as what needs memory does."""
    raise MemoryError


def test_messages_whose_leases_cannot_be_kept_go_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No body runs without somebody who renews its lease."""
    app = make_app()
    gate = gated(app)
    send(app, "gate")

    monkeypatch.setattr("pickle.dumps", no_memory)
    with working(app) as worker:
        wait_until(lambda: "MemoryError" in caplog.text)
        wait_until(lambda: worker.stats["returned"] and not worker._in_flight)
        monkeypatch.undo()

    assert gate.runs == 0
    assert set(worker.stats) == {"returned"}


# -- acknowledged early


def test_early_acknowledged_messages_run_at_most_once() -> None:
    """They leave the broker before the body; whatever happens then, they do not come again."""
    app = make_app(worker={"lease": 1})
    lost = seen(app, LeasesLost)
    gate = gated(app, ack="early")

    with working(app) as worker:
        result = send(app, "gate")
        gate.begun.wait(PATIENCE)
        wait_until(lambda: counts(app) == {})
        held = worker._leases.held()
        gate.go.set()
        wait_until(lambda: result.state is State.SUCCESS)

    assert (held, lost, dict(worker.stats)) == ([], [], {"done": 1})


def test_an_early_acknowledged_failure_leaves_a_record_and_no_dead_letter() -> None:
    """There is no message left to bury."""
    app = make_app()

    @app.task(name="fail", ack="early", retries=1, retry=Fixed(0))
    def fail() -> None:
        raise ValueError("no")

    result = fail.send()
    worker = burst(app)

    assert (result.state, counts(app), dict(worker.stats)) == (State.FAILURE, {}, {"retried": 1, "failed": 1})


def test_a_message_whose_early_acknowledgement_is_in_doubt_does_not_run() -> None:
    """Running it now and again later would be more than once."""
    app = flaky_app()
    gate = gated(app, ack="early")
    gate.go.set()
    broker_of(app).wire.answers["settle"] = unavailable

    result = send(app, "gate")
    worker = burst(app)

    assert (worker.stats["returned"], worker.stats["done"], gate.runs, result.get(timeout=1)) == (1, 1, 1, "through")


def unavailable() -> None:
    """Be a service that does not answer."""
    raise UnavailableError("connection reset")


def test_an_early_acknowledged_message_that_has_not_begun_is_sent_again() -> None:
    """A stopping worker does not lose what it has not begun."""
    app = make_app(worker={"concurrency": 1})
    gate = gated(app, ack="early")
    worker = Worker(app)
    worker._prefetch.observe("gate", 0.001)
    worker._prefetch.saw({"gate"})
    results = [send(app, "gate") for _ in range(2)]
    thread = threading.Thread(target=worker.run)
    thread.start()
    gate.begun.wait(PATIENCE)
    wait_until(lambda: len(worker._in_flight) == 2)

    worker.stop("SIGTERM")
    wait_until(lambda: counts(app) == {"ready": 1})
    gate.go.set()
    thread.join(PATIENCE)
    again = burst(app)

    assert again.stats["done"] == 1
    assert [result.get(timeout=1) for result in results] == ["through", "through"]


# -- tracking and progress


def test_tracks_a_run_where_the_task_asks_for_it() -> None:
    """STARTED while it runs."""
    app = make_app()
    gate = gated(app, track=True)

    with working(app):
        result = send(app, "gate")
        gate.begun.wait(PATIENCE)
        during = result.info()
        gate.go.set()
        wait_until(lambda: result.state is State.SUCCESS)

    assert (during.state, during.worker) == (State.STARTED, worker_name())


def test_tracks_what_it_holds() -> None:
    """RECEIVED is recorded for prefetched messages that wait for a slot."""
    app = make_app(worker={"concurrency": 1})
    gate = gated(app, track=True)
    worker = Worker(app)
    worker._prefetch.observe("gate", 0.001)
    worker._prefetch.saw({"gate"})
    results = [send(app, "gate") for _ in range(2)]
    thread = threading.Thread(target=worker.run)
    thread.start()
    gate.begun.wait(PATIENCE)

    wait_until(lambda: results[1].state is State.RECEIVED)
    gate.go.set()
    worker.stop()
    thread.join(PATIENCE)

    assert results[0].get(timeout=1) == "through"


def test_a_task_without_tracking_writes_only_its_outcome() -> None:
    """It costs a round trip, so it must be asked for."""
    app = make_app()
    gate = gated(app)

    with working(app):
        result = send(app, "gate")
        gate.begun.wait(PATIENCE)
        during = result.state
        gate.go.set()
        wait_until(lambda: result.state is State.SUCCESS)

    assert during is State.PENDING


# -- engines that are down


def test_a_silent_broker_costs_time_and_nothing_else() -> None:
    """Each try is one line; what was sent runs when it is back."""
    app = flaky_app()
    down, back = seen(app, EngineDown), seen(app, EngineBack)
    app.task(name="ok")(lambda: 1)
    result = send(app, "ok")
    broker_of(app).wire.cut = {"receive", "settle", "extend"}

    with working(app):
        wait_until(lambda: len(down) >= 2)
        broker_of(app).wire.cut = set()
        wait_until(lambda: result.state is State.SUCCESS)
        wait_until(lambda: back)

    assert counts(app) == {}


def test_messages_that_were_claimed_while_the_backend_was_down_go_back_uncounted() -> None:
    """They are not blamed for a crash."""
    app = flaky_app()
    app.task(name="ok")(lambda: 1)
    down = seen(app, EngineDown)
    result = send(app, "ok")
    backend_of(app).wire.cut = {"get"}

    with working(app) as worker:
        wait_until(lambda: worker.stats["returned"])
        (letter,) = [*inside(app, Place.READY), *inside(app, Place.LEASED)]
        backend_of(app).wire.cut = set()
        wait_until(lambda: worker.stats["done"])

    assert (letter.crashes, result.get(timeout=1)) == (0, 1)
    assert down[0].error == "no answer to get"


def test_outcomes_wait_for_a_backend_that_is_down() -> None:
    """The body is not run again."""
    app = flaky_app()
    gate = gated(app)
    down = seen(app, EngineDown)

    with working(app):
        result = send(app, "gate")
        gate.begun.wait(PATIENCE)
        backend_of(app).wire.cut = {"put"}
        gate.go.set()
        wait_until(lambda: [event for event in down if event.doing == "settle"])
        backend_of(app).wire.cut = set()
        wait_until(lambda: result.state is State.SUCCESS)

    assert gate.runs == 1


def test_redelivery_after_a_recorded_outcome_runs_only_what_is_missing() -> None:
    """A worker died between the record and the settlement: the body is skipped, the follow-up sent once (QK12)."""
    app = flaky_app(clock=(clock := VirtualClock()), results_expire="1d")
    gate = gated(app)
    gate.go.set()
    told: list[str] = []
    app.task(name="tell")(told.append)
    result = send(app, "gate", on_success=[Signature("tell")])
    died_before_settling(app, gate)
    clock.advance(31)

    worker = burst(app)

    assert (gate.runs, told, result.get(timeout=1)) == (1, ["through"], "through")
    assert dict(worker.stats) == {"skipped": 1, "done": 1}


def died_before_settling(app: Queuekit, gate: Gate) -> None:
    """Let a worker run the next message, record its outcome, and do nothing more."""
    outcome = executor_of(app).call(prepared(app))
    app.runtime.need_backend("test").put(outcome.records)


# -- beginnings


class Watcher:
    """A plugin that keeps what happens in the life of a worker."""

    queuekit_api = (1, 0)

    def __init__(self) -> None:
        self.told: list[str] = []

    @hookimpl
    def queuekit_worker_child_init(self, worker: Any) -> None:
        """Keep it."""
        self.told.append("child_init")

    @hookimpl
    def queuekit_worker_ready(self, worker: Any) -> None:
        """Keep it."""
        self.told.append("ready")

    @hookimpl
    def queuekit_worker_stopping(self, worker: Any, reason: str) -> None:
        """Keep it."""
        self.told.append(f"stopping: {reason}")

    @hookimpl
    def queuekit_worker_stopped(self, worker: Any, stats: dict[str, int]) -> None:
        """Keep it."""
        self.told.append(f"stopped: {stats}")


def test_plugins_hear_of_its_life() -> None:
    """Before the first message, and until the last is settled."""
    app, watcher = make_app(), Watcher()
    app.plugins.register(watcher)
    app.task(name="ok")(lambda: 1)
    send(app, "ok")

    burst(app)

    assert watcher.told == ["child_init", "ready", "stopping: queues are empty", "stopped: {'done': 1}"]


def test_refuses_to_start_with_what_the_broker_cannot_carry() -> None:
    """At the start, not at night."""
    app = make_app()
    app.task(name="urgent", priority=9)(lambda: None)
    app.runtime.broker.capabilities = Capabilities(priority=False)

    with pytest.raises(CapabilityError, match="urgent asks for priority"):
        Worker(app)


def test_is_named_after_host_and_process() -> None:
    """In characters that a name may have."""
    assert is_name(worker_name())
    assert worker_name().endswith(f"-{os.getpid()}")


def test_prefetches_quick_tasks() -> None:
    """As soon as it knows them; in the beginning it takes no more than it can run."""
    app = make_app(worker={"concurrency": 2})
    worker = Worker(app)
    before = worker.room()

    worker._prefetch.observe("quick", 0.001)
    worker._prefetch.saw({"quick"})

    assert (before, worker.room()) == (2, 2 + 200)


def test_the_current_context_is_there_for_code_that_gets_none() -> None:
    """Deep inside a task, ``current()`` tells whose it is."""
    app = make_app()

    def helper() -> str:
        context = current()
        return context.id if context else ""

    app.task(name="outer")(helper)
    result = send(app, "outer")
    burst(app)

    assert result.get(timeout=1) == result.id


def test_progress_of_a_running_task_can_be_seen() -> None:
    """From anywhere, by the id."""
    app = make_app()
    go = threading.Event()

    @app.task(name="count")
    def count(ctx: Context) -> None:
        ctx.progress(1, 2)
        go.wait(PATIENCE)

    with working(app):
        result = count.send()
        seen_meanwhile = wait_until(lambda: result.progress)
        go.set()

    assert seen_meanwhile == (1, 2, "")


# -- large bodies


def test_bodies_beyond_a_number_of_bytes_go_back() -> None:
    """However many come in one batch; those that went back run later, and none is lost."""
    app = make_app(worker={"concurrency": 1})
    gate = gated_text(app)
    for number in range(30):
        send(app, "gate", f"{number:150000}")
    worker = Worker(app)

    worker.admit(app.runtime.broker.receive(["default"], limit=30, wait=0, lease=30))
    held = [len(run.delivery.envelope.body) for run in worker._in_flight.values()]
    gate.go.set()
    worker.stop()
    worker.run()
    burst(app)

    assert 1 <= len(held) < 30
    assert sum(held) <= MOST_BYTES
    assert gate.runs == 30


def gated_text(app: Queuekit) -> Gate:
    """Register a task ``gate`` that takes a text and waits in its gate."""
    gate = Gate()

    def body(_text: str) -> str:
        return gate()

    app.task(name="gate")(body)
    return gate


def test_arguments_are_read_when_their_run_begins() -> None:
    """What is held is bytes: decoded, it takes several times their memory; it is forgotten once the run is decided."""
    app = make_app()
    app.task(name="t")(len)
    send(app, "t", [1] * 10_000)

    run = prepared(app)
    executor, opened = executor_of(app), [run.message.is_open]
    assert executor.begin(run) is None
    opened.append(run.message.is_open)
    outcome = executor.call(run)
    opened.append(run.message.is_open)
    call = run.context.signature

    assert opened == [False, True, False]
    assert outcome.status == "done"
    assert call is not None
    assert call.args == ([1] * 10_000,)
