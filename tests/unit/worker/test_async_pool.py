"""The event loop that runs ``async def`` tasks."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from queuekit import Context, Queuekit, Signature
from queuekit.execution.outcome import Outcome, Run
from queuekit.wire.records import read_info
from queuekit.worker.async_pool import LoopPool
from queuekit.worker.run_table import RunTable
from support.waiting import PATIENCE, wait_until
from support.working import burst, executor_of, make_app, prepared


def app_with(function: Callable[..., Any], **options: Any) -> Queuekit:
    """Return an app whose one task is *function*."""
    app = make_app()
    app.task(name="t", **options)(function)
    return app


def runs(app: Queuekit, count: int = 1) -> list[Run]:
    """Return *count* runs, numbered from 1."""
    app.send_many([Signature("t") for _ in range(count)])
    found = [prepared(app) for _ in range(count)]
    for serial, run in enumerate(found, 1):
        run.serial = serial
    return found


@contextmanager
def looping(app: Queuekit, outcomes: list[Outcome], size: int = 2) -> Iterator[tuple[LoopPool, RunTable]]:
    """Yield a loop and its table, and end it."""
    slots = RunTable(2 * size)
    pool = LoopPool(executor_of(app), size=size, run_table=slots, first_row=size, deliver=outcomes.append)
    try:
        yield pool, slots
    finally:
        pool.stop()
        assert pool._loop.is_closed()


async def nothing() -> None:
    """Return at once."""


async def forever() -> None:
    """Wait for what never comes."""
    await asyncio.Event().wait()


class Endless:
    """A body that waits for what never comes, and says when it has begun."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.ended = threading.Event()

    async def wait(self) -> None:
        """Begin, and wait."""
        self.begun.set()
        try:
            await forever()
        finally:
            self.ended.set()


@contextmanager
def held_up(pool: LoopPool) -> Iterator[None]:
    """Keep the loop busy: it gets to see what is asked of it meanwhile in one turn, before a new body's first step."""
    go_on = threading.Event()
    pool._loop.call_soon_threadsafe(go_on.wait)
    try:
        yield
    finally:
        go_on.set()


def words(outcomes: list[Outcome]) -> list[str]:
    """Return how the outcomes are counted."""
    return [outcome.status for outcome in outcomes]


def error_of(outcome: Outcome) -> str | None:
    """Return error type and text in the first record."""
    return outcome.records[0].error


def test_runs_all_a_few_at_a_time() -> None:
    """Never more than its size, in rows of its own."""
    busy, most = [0], [0]

    async def count() -> None:
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        await asyncio.sleep(0)
        busy[0] -= 1

    app, outcomes = app_with(count), list[Outcome]()

    with looping(app, outcomes) as (pool, slots):
        pool.submit(runs(app, 7))
        wait_until(lambda: len(outcomes) == 7)
        entered = slots.entered()

    assert (words(outcomes), most, entered) == (["done"] * 7, [2], {})


def test_takes_back_what_has_not_begun() -> None:
    """Running ones go on."""
    app, outcomes = app_with(forever), list[Outcome]()
    found = runs(app, 5)

    with looping(app, outcomes) as (pool, slots):
        pool.submit(found)
        wait_until(lambda: len(slots.entered()) == 2)
        taken, kept = pool.take_back(1), pool.waiting
        waiting = pool.take_waiting()

    assert (taken, kept, waiting) == (found[3:], 1, found[2:3])


def test_a_body_past_its_time_is_timed_out() -> None:
    """It fails, or is tried again, like any error."""
    app, outcomes = app_with(forever, timeout=0.01), list[Outcome]()

    with looping(app, outcomes) as (pool, _):
        pool.submit(runs(app))
        wait_until(lambda: outcomes)

    assert error_of(outcomes[0]) == "TaskTimeout: ran longer than 0.01 s"


def test_a_timeout_of_the_bodys_own_is_an_error_of_its_own() -> None:
    """It is not mistaken for the task's limit."""

    async def impatient() -> None:
        await asyncio.wait_for(forever(), 0.001)

    app, outcomes = app_with(impatient, timeout=60), list[Outcome]()

    with looping(app, outcomes) as (pool, _):
        pool.submit(runs(app))
        wait_until(lambda: outcomes)

    assert (words(outcomes), read_info("", outcomes[0].records[0]).error_type) == (["failed"], "TimeoutError")


def test_a_cancelled_body_gets_a_cancelled_error() -> None:
    """It may clear up; then it has ended as CANCELLED, with its times."""
    body = Endless()
    app, outcomes = app_with(body.wait), list[Outcome]()
    (run,) = runs(app)

    with looping(app, outcomes) as (pool, _):
        pool.submit([run])
        wait_until(body.begun.is_set)
        run.context.cancel()
        pool.cancel(run)
        wait_until(lambda: outcomes)

    info = read_info("", outcomes[0].records[0])
    assert (info.state, body.ended.is_set(), outcomes[0].run) == ("CANCELLED", True, run)
    assert info.started is not None and info.finished is not None  # noqa: PT018 - for types
    assert info.finished >= info.started


def test_a_body_may_ignore_that_it_is_cancelled() -> None:
    """What it returns is its outcome."""
    body = Endless()

    async def stubborn() -> str:
        try:
            await body.wait()
        except asyncio.CancelledError:
            return "done all the same"
        return ""

    app, outcomes = app_with(stubborn), list[Outcome]()
    (run,) = runs(app)

    with looping(app, outcomes) as (pool, _):
        pool.submit([run])
        wait_until(body.begun.is_set)
        run.context.cancel()
        pool.cancel(run)
        wait_until(lambda: outcomes)

    assert words(outcomes) == ["done"]


def test_a_body_that_cancels_itself_has_failed() -> None:
    """Nobody has cancelled the message."""

    async def selfish() -> None:
        raise asyncio.CancelledError

    app, outcomes = app_with(selfish), list[Outcome]()

    with looping(app, outcomes) as (pool, _):
        pool.submit(runs(app))
        wait_until(lambda: outcomes)

    assert error_of(outcomes[0]) == "CancelledError: its body was cancelled, its message was not"


def test_a_body_without_lease_ends_without_outcome() -> None:
    """It is told, and its place becomes free; nothing is written."""
    body = Endless()
    app, outcomes = app_with(body.wait), list[Outcome]()
    (run,) = runs(app)

    with looping(app, outcomes) as (pool, _):
        pool.submit([run])
        wait_until(body.begun.is_set)
        run.context.lost = True
        pool.cancel(run)
        wait_until(lambda: outcomes)

    (outcome,) = outcomes
    assert (outcome.status, outcome.settlement, outcome.records, outcome.run) == ("lost", None, (), run)


def test_does_not_begin_what_was_lost_or_cancelled() -> None:
    """Neither body is entered."""
    ran = threading.Event()

    async def run_it() -> None:
        ran.set()

    app, outcomes = app_with(run_it), list[Outcome]()
    lost, cancelled = runs(app, 2)
    lost.context.lost = True
    cancelled.context.cancel()

    with looping(app, outcomes) as (pool, _):
        pool.submit([lost, cancelled])
        wait_until(lambda: outcomes)

    assert (words(outcomes), ran.is_set()) == (["cancelled"], False)


def test_a_body_cancelled_before_its_first_step_is_heard_of() -> None:
    """It never begins, its message has ended as CANCELLED, and its place is free for the next."""
    body = Endless()
    app, outcomes = app_with(body.wait), list[Outcome]()
    first, second = runs(app, 2)

    with looping(app, outcomes, size=1) as (pool, _):
        with held_up(pool):
            pool.submit([first])
            first.context.cancel()
            pool.cancel(first)
        wait_until(lambda: outcomes)
        begun = body.begun.is_set()
        pool.submit([second])
        wait_until(body.begun.is_set)
        heard = list(outcomes)

    assert (words(heard), heard[0].run, begun) == (["cancelled"], first, False)


def test_a_body_that_lost_its_lease_before_its_first_step_frees_its_place() -> None:
    """It never begins, nothing is written, and the next one runs."""
    body = Endless()
    app, outcomes = app_with(body.wait), list[Outcome]()
    first, second = runs(app, 2)

    with looping(app, outcomes, size=1) as (pool, slots):
        with held_up(pool):
            pool.submit([first])
            first.context.lost = True
            pool.cancel(first)
        pool.submit([second])
        wait_until(body.begun.is_set)
        heard, entered = list(outcomes), list(slots.entered())

    assert (heard, entered) == ([], [second.serial])


def test_cancelling_what_has_ended_does_nothing() -> None:
    """It may have been on its way."""
    app, outcomes = app_with(nothing), list[Outcome]()
    (run,) = runs(app)

    with looping(app, outcomes) as (pool, _):
        pool.submit([run])
        wait_until(lambda: outcomes)
        pool.cancel(run)

    assert words(outcomes) == ["done"]


def test_no_body_ends_the_loop() -> None:
    """``sys.exit()`` in one task leaves the others running."""

    async def leave() -> None:
        raise SystemExit(3)

    app, outcomes = app_with(leave), list[Outcome]()

    with looping(app, outcomes) as (pool, _):
        pool.submit(runs(app))
        wait_until(lambda: len(outcomes) == 1)
        pool.submit(runs(app))
        wait_until(lambda: len(outcomes) == 2)

    assert words(outcomes) == ["failed", "failed"]


def test_an_outcome_that_was_decided_elsewhere_is_not_delivered() -> None:
    """Whoever gave up on the body has decided; the body is cancelled when the loop ends."""
    body = Endless()
    app, outcomes = app_with(body.wait), list[Outcome]()
    (run,) = runs(app)

    with looping(app, outcomes) as (pool, _):
        pool.submit([run])
        wait_until(body.begun.is_set)
        run.claim()

    assert (outcomes, body.ended.is_set()) == ([], True)


def test_what_a_body_has_started_does_not_end_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    """Neither SystemExit in a coroutine or a callback does, nor who stops the loop; the others go on."""

    async def leave() -> None:
        raise SystemExit(3)

    async def start() -> None:
        loop = asyncio.get_running_loop()
        kept.append(loop.create_task(leave()))
        loop.call_soon(sys.exit, 4)
        loop.call_soon(loop.stop)
        await asyncio.sleep(0.01)
        kept[-1].exception()

    async def gather() -> None:
        await asyncio.gather(leave(), forever())

    kept: list[asyncio.Task[None]] = []
    app, outcomes = app_with(start), list[Outcome]()
    other = app_with(gather)

    with looping(app, outcomes) as (pool, _):
        pool.submit(runs(app))
        wait_until(lambda: len(outcomes) == 1)
        pool.submit(runs(other))
        wait_until(lambda: len(outcomes) == 2)
        pool.submit(runs(app))
        wait_until(lambda: len(outcomes) == 3)

    assert words(outcomes) == ["done", "failed", "done"]
    assert "tried to end it" in caplog.text


def test_a_body_that_goes_on_after_its_time_is_told_again_and_given_up() -> None:
    """Its outcome is decided without it, its place is lost until it ends."""
    told: list[bool] = []
    go = asyncio.Event()

    async def stubborn() -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                told.append(True)

    app, outcomes = app_with(stubborn, timeout=0.01), list[Outcome]()

    with looping(app, outcomes) as (pool, _):
        pool.submit(runs(app))
        wait_until(lambda: outcomes)
        lost = set(pool.lost)
        pool._loop.call_soon_threadsafe(go.set)
        wait_until(lambda: not pool.running)

    assert (len(told) > 1, lost, pool.lost) == (True, {2}, set())
    assert "does not stop" in (error_of(outcomes[0]) or "")
    assert words(outcomes) == ["failed"]


def test_a_body_that_was_decided_elsewhere_and_goes_on_after_its_time_costs_its_place() -> None:
    """As one whose lease was lost: there is nothing left to decide."""
    go = asyncio.Event()

    async def waiting() -> None:
        await go.wait()

    app, outcomes = app_with(waiting, timeout=60), list[Outcome]()
    (run,) = runs(app)

    with looping(app, outcomes) as (pool, _):
        pool.submit([run])
        wait_until(lambda: run.started is not None)
        run.claim()
        pool.give_up(run)
        lost = pool.lost
        pool._loop.call_soon_threadsafe(go.set)
        wait_until(lambda: not pool.running)

    assert (lost, pool.lost, outcomes) == ({2}, set(), [])


def test_time_limits_inside_a_body_are_its_own() -> None:
    """``asyncio.timeout`` and groups of tasks in a body end by the limit of the body as by any cancel."""

    async def nested() -> None:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(forever())

    app, outcomes = app_with(nested, timeout=0.01), list[Outcome]()

    with looping(app, outcomes) as (pool, _):
        pool.submit(runs(app))
        wait_until(lambda: outcomes)

    assert error_of(outcomes[0]) == "TaskTimeout: ran longer than 0.01 s"


def test_a_body_is_not_held_to_account_for_what_blocks_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for which another keeps it waiting is added to its own; its lease is kept meanwhile."""
    monkeypatch.setattr("queuekit.worker.async_pool._NO_BLOCK", 0.0)
    body = Endless()
    app, outcomes = app_with(body.wait, timeout=30), list[Outcome]()

    with looping(app, outcomes) as (pool, slots):
        pool.submit(runs(app))
        wait_until(body.begun.is_set)
        before = slots.entered()[1].limit
        with held_up(pool):
            first, silent = pool.ask(100.0), pool.ask(107.0)
            pool.asked = (pool.asked or 0.0) - 100.0 + time.monotonic() - 7.0
        wait_until(lambda: pool.asked is None)
        after = slots.entered()[1].limit

    assert (first, silent) == (0.0, 7.0)
    assert 7.0 <= after - before < 30.0


def test_an_error_around_a_body_counts(caplog: pytest.LogCaptureFixture) -> None:
    """An error that nobody foresaw ends nothing but this attempt, and is one of the attempts."""
    app, outcomes = app_with(nothing), list[Outcome]()
    (run,) = runs(app)
    run.timeout = "never"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]

    with looping(app, outcomes) as (pool, _):
        pool.submit([run])
        wait_until(lambda: outcomes)

    assert words(outcomes) == ["failed"]
    assert "cannot run" in caplog.text


def test_the_context_is_the_tasks_own() -> None:
    """Coroutines that take turns do not see each other's."""
    told: list[bool] = []

    async def look(ctx: Context) -> None:
        from queuekit import current

        await asyncio.sleep(0)
        told.append(current() is ctx)

    app, outcomes = app_with(look), list[Outcome]()

    with looping(app, outcomes) as (pool, _):
        pool.submit(runs(app, 2))
        wait_until(lambda: len(outcomes) == 2)

    assert told == [True, True]


def test_a_body_that_cancels_all_tasks_loses_none_that_had_not_begun() -> None:
    """Those before their first step have run nothing: they run when the loop is next asked whether it turns."""
    done: list[str] = []

    async def cancel_all() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def neighbour() -> None:
        done.append("ran")

    app, outcomes = make_app(), list[Outcome]()
    app.task(name="cancels")(cancel_all)
    app.task(name="t")(neighbour)
    app.send(Signature("cancels"))
    first = prepared(app)
    others = runs(app, 3)
    with looping(app, outcomes, size=3) as (pool, _):
        with held_up(pool):
            pool.submit([first, *others])
        wait_until(lambda: len(outcomes) >= 2)  # since Python 3.12, none exists before its first step

        pool.ask(time.monotonic())
        wait_until(lambda: len(outcomes) == 4)

    assert (words(outcomes), done) == (["done"] * 4, ["ran"] * 3)


def test_a_loop_that_is_broken_ends_its_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As by a body that closes all files: who looks after threads notices, and nothing is tried for ever."""

    def broken() -> None:
        raise OSError("[Errno 9] Bad file descriptor")

    with looping(app_with(forever), []) as (pool, _):
        with monkeypatch.context() as patch:
            patch.setattr(pool._loop, "_run_once", broken)
            pool._loop.call_soon_threadsafe(int)
            pool.thread.join(60)
        alive = pool.thread.is_alive()

    assert not alive
    assert caplog.text.count("the event loop is broken") == 1


def test_a_body_is_in_a_task_from_its_first_step() -> None:
    """What relies on the current task works before the body waits for anything."""
    told: list[bool] = []

    async def look() -> None:
        task = asyncio.current_task()
        async with asyncio.timeout(60):  # noqa: ASYNC100 - to enter it takes a current task
            told.append(task is not None and task in asyncio.all_tasks())

    app, outcomes = app_with(look), list[Outcome]()

    with looping(app, outcomes) as (pool, _):
        pool.submit(runs(app, 3))
        wait_until(lambda: len(outcomes) == 3)

    assert told == [True] * 3


def test_bodies_that_never_wait_let_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does one start inside the other, however many there are, nor do they keep the loop from what waits."""
    monkeypatch.setattr("queuekit.worker.async_pool._FIRST_STEPS", 0.0)
    order: list[str] = []

    async def wait() -> None:
        await asyncio.sleep(0)
        order.append("waited")

    async def hurry() -> None:
        order.append("hurried")

    app, outcomes = make_app(), list[Outcome]()
    app.task(name="waits")(wait)
    app.task(name="t")(hurry)
    app.send(Signature("waits"))
    first = prepared(app)
    others = runs(app, 2 * sys.getrecursionlimit())
    first.serial = len(others) + 1

    with looping(app, outcomes) as (pool, _):
        with held_up(pool):
            pool.submit([first, *others])
        wait_until(lambda: len(outcomes) == len(others) + 1)

    assert words(outcomes) == ["done"] * len(outcomes)
    assert order.index("waited") < len(others)


def test_what_bodies_leave_ends_before_the_worker_returns() -> None:
    """A task on the loop is cancelled, and a thread that works for a body, or tells of its end, may finish."""
    app, cancelled, told, left = make_app(), threading.Event(), list[bool](), list[object]()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    def tell() -> None:
        told.append(cancelled.wait(PATIENCE))

    @app.task(name="leaves")
    async def leaves() -> None:
        left.append(asyncio.create_task(waits()))
        left.append(asyncio.get_running_loop().run_in_executor(None, tell))
        await asyncio.sleep(0)

    leaves.send()
    burst(app)

    assert told == [True]
