"""Resources in a worker: however a run ends, and whatever kind of body it has, they are closed and see it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Annotated, Any, cast

import pytest

from queuekit import Context, Queuekit, Result, TaskTimeout
from queuekit.broker import Place
from queuekit.clock import VirtualClock
from queuekit.resources import Use
from queuekit.states import State
from queuekit.worker import Worker
from queuekit.worker.supervisor import _BEFORE
from queuekit.worker.thread_pool import ThreadPool
from queuekit_testing.kit import in_thread
from support.waiting import PATIENCE, wait_until
from support.working import burst, counts, make_app, working

KINDS = pytest.mark.parametrize("is_async", [False, True], ids=["thread", "loop"])


class Shop:
    """An app with a resource of each scope and kind, and a task that runs until it is cancelled."""

    def __init__(self, *, is_async: bool, timeout: float | None = None, **settings: Any) -> None:
        self.app: Queuekit = make_app(**settings)
        self.journal: list[str] = []
        self.begun = threading.Event()
        self.pool = self.app.resource(scope="worker")(self._pool)
        self.apool = self.app.resource(scope="worker")(self._apool)

        @self.app.resource
        def session(pool: Annotated[str, Use(self.pool)], apool: Annotated[str, Use(self.apool)]) -> Iterator[str]:
            with self._open("session") as value:
                yield value

        @self.app.resource
        async def asession(session: Annotated[str, Use(session)]) -> AsyncIterator[str]:
            with self._open("asession") as value:
                yield value

        def body(ctx: Context, db: Annotated[str, Use(asession)]) -> None:
            self.begun.set()
            while not ctx.cancelled:
                threading.Event().wait(0.001)

        async def abody(ctx: Context, db: Annotated[str, Use(asession)]) -> None:
            self.begun.set()
            await asyncio.Event().wait()

        self.task: Any = self.app.task(name="t", timeout=timeout)(abody if is_async else body)

    @contextmanager
    def _open(self, name: str) -> Iterator[str]:
        self.journal.append(f"open {name}")
        try:
            yield name
        except BaseException as error:
            self.journal.append(f"close {name} {type(error).__name__}")
            raise
        else:
            self.journal.append(f"close {name} ok")

    def _pool(self) -> Iterator[str]:
        with self._open("pool") as value:
            yield value

    async def _apool(self) -> AsyncIterator[str]:
        with self._open("apool") as value:
            yield value

    @property
    def closed(self) -> list[str]:
        """What was closed, in order."""
        return [line.removeprefix("close ") for line in self.journal if line.startswith("close")]

    def send(self) -> Result[None]:
        """Send the task, and return when its body runs."""
        result: Result[None] = self.task.send()
        wait_until(self.begun.is_set)
        return result


def after(error: str) -> list[str]:
    """Return the order of closing, where a run saw *error*."""
    return [f"asession {error}", f"session {error}", "apool ok", "pool ok"]


@KINDS
def test_close_after_a_timeout(*, is_async: bool) -> None:
    """They are not interrupted themselves: the limit is over when they close."""
    for timeout in (0.3, 5.0, 50.0):  # the first is too short for a busy machine to open them
        shop = Shop(is_async=is_async, timeout=timeout)
        with working(shop.app):
            result = shop.task.send()
            wait_until(lambda result=result: result.state is State.FAILURE)
        if shop.begun.is_set():
            break
    else:
        pytest.fail("its body never begins")

    assert shop.closed == after("CancelledError" if is_async else "TaskTimeout")


@KINDS
def test_close_after_a_cancellation(*, is_async: bool) -> None:
    """A cancelled run did not succeed, so its resources see an error."""
    shop = Shop(is_async=is_async)

    with working(shop.app):
        result = shop.send()
        result.cancel()
        wait_until(lambda: result.state is State.CANCELLED)

    assert shop.closed == after("CancelledError" if is_async else "Cancelled")


@KINDS
def test_close_with_an_error_if_the_lease_is_lost(*, is_async: bool) -> None:
    """Another worker runs the message too, so what this run did must not count."""
    shop = Shop(is_async=is_async)

    with working(shop.app) as worker:
        shop.send()
        shop.app.runtime.broker.purge("default", place=Place.LEASED)
        worker.lost(list(worker._in_flight))
        wait_until(worker.idle)
        wait_until(lambda: len(shop.closed) == 2, lambda: f"the end of both of the run: {shop.closed}")

    assert shop.closed == after("CancelledError" if is_async else "Cancelled")


@KINDS
def test_close_with_an_error_if_the_worker_stops(*, is_async: bool) -> None:
    """The message runs again elsewhere; the worker waits a moment for a body that obeys."""
    shop = Shop(is_async=is_async, worker={"drain": 0})

    with working(shop.app):
        shop.send()

    assert counts(shop.app) == {"ready": 1}
    assert shop.closed == after("CancelledError" if is_async else "Cancelled")


class Stepping(VirtualClock):
    """A clock that moves while someone waits."""

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Move the time."""
        self.advance(timeout or 0.0)
        return False


def test_close_under_a_body_that_runs_on_before_the_process_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain body that ignores the stop does not keep the resources of the worker open until the supervisor kills."""
    clock, left = Stepping(), list[float]()
    app = make_app(clock=clock)
    worker = Worker(app, on_replace=lambda _why: None)
    monkeypatch.setattr(ThreadPool, "holds_resources", True)
    resources = SimpleNamespace(release=left.append)

    worker._close_resources(cast("Any", resources), clock.monotonic() + 3)
    app.close()

    assert left == [pytest.approx(_BEFORE + 0.25, abs=0.05)]


def test_open_once_for_all_threads_and_coroutines() -> None:
    """A plain task and a coroutine share the resource of the process, on the worker's loop, however many run."""
    app = make_app(worker={"concurrency": 4})
    opened: list[Any] = []

    @app.resource(scope="worker")
    async def pool() -> AsyncIterator[object]:
        await asyncio.sleep(0.01)
        opened.append(asyncio.get_running_loop())
        yield opened[-1]

    @app.task(name="plain")
    def plain(it: Annotated[Any, Use(pool)] = Use.injected) -> bool:
        return it is opened[0]

    @app.task(name="coroutine")
    async def coroutine(it: Annotated[Any, Use(pool)] = Use.injected) -> bool:
        return it is opened[0] is asyncio.get_running_loop()

    results = app.send_many([plain.s(), coroutine.s()] * 8)
    burst(app)

    assert len(opened) == 1
    assert all(result.get(timeout=1) for result in results)


def test_a_time_limit_ends_a_run_that_waits_for_a_resource_not_the_resource() -> None:
    """What takes long to open in one process is open for the next attempt."""
    app = make_app()
    begun, go_on = threading.Event(), threading.Event()
    opened: list[int] = []

    @app.resource(scope="worker")
    def pool() -> int:
        begun.set()
        go_on.wait(PATIENCE)
        opened.append(1)
        return len(opened)

    @app.task(name="t")
    def task(it: Annotated[int, Use(pool)] = Use.injected) -> int:
        return it

    with working(app):
        for timeout in (0.05, 2.0, 20.0):  # in the first, a busy machine may not even begin
            first = task.options(timeout=timeout).send()
            wait_until(lambda first=first: first.state is State.FAILURE)
            if begun.is_set():
                break
        else:
            pytest.fail("its body never begins")
        go_on.set()
        wait_until(lambda: opened)
        assert task.options(timeout=PATIENCE).send().get(timeout=PATIENCE) == 1

    assert first.info().error_type == "TaskTimeout"
    assert opened == [1]


def test_a_time_limit_in_the_instant_of_the_opening_opens_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run gets what the first has begun to open, and all of it is closed."""
    app = make_app()
    go_on, seen = threading.Event(), list[str]()

    @app.resource(scope="worker")
    def pool() -> Iterator[str]:
        seen.append("open")
        go_on.wait(PATIENCE)
        yield "pool"
        seen.append("close")

    def use() -> str:
        with app.open(pool) as value:
            return value

    start = threading.Thread.start

    def end(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == "queuekit-resource":
            raise TaskTimeout(1)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", end)
        with pytest.raises(TaskTimeout):
            use()
    found: list[str] = []
    other = threading.Thread(target=lambda: found.append(use()))
    other.start()
    go_on.set()
    other.join(PATIENCE)
    app.close()

    assert (found, seen) == (["pool"], ["open", "close"])


def test_an_opening_that_does_not_begin_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread is available, or a time limit ends the run in that moment, nobody waits for ever after."""
    app = make_app()

    @app.resource(scope="worker")
    def pool() -> str:
        return "pool"

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def use() -> str:
        with app.open(pool) as value:
            return value

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            use()

    assert in_thread(use).result(PATIENCE) == "pool"
    app.close()


def test_a_time_limit_while_a_resource_of_the_run_opens_closes_the_others() -> None:
    """The exception arrives in the function that opens it; what was open before closes."""
    app = make_app()
    opened: list[int] = []
    closed: list[str] = []

    @app.resource
    def outer() -> Iterator[None]:
        try:
            opened.append(1)
            yield
        except BaseException as error:
            closed.append(type(error).__name__)
            raise

    @app.resource
    def slow(outer: Annotated[None, Use(outer)]) -> None:
        while True:
            threading.Event().wait(0.001)

    @app.task(name="t")
    def task(it: Annotated[None, Use(slow)] = Use.injected) -> None: ...

    with working(app):
        for timeout in (0.05, 5.0, 50.0):  # the first is too short for a busy machine to open the outer one
            opened.clear()
            closed.clear()
            result = task.options(timeout=timeout).send()
            wait_until(lambda result=result: result.state is State.FAILURE)
            if opened:
                break

    assert closed == ["TaskTimeout"]


def test_a_coroutine_that_is_cancelled_while_a_plain_resource_opens_closes_it() -> None:
    """The thread that opens it cannot be stopped, so it closes it as soon as it is open."""
    app = make_app()
    opening, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    @app.resource
    def slow() -> Iterator[None]:
        opening.set()
        go_on.wait(PATIENCE)
        try:
            yield
        finally:
            closed.set()

    @app.task(name="t")
    async def task(it: Annotated[None, Use(slow)] = Use.injected) -> None: ...

    with working(app):
        result = task.send()
        wait_until(opening.is_set)
        result.cancel()
        wait_until(lambda: result.state is State.CANCELLED)
        go_on.set()
        assert closed.wait(PATIENCE)


def test_close_when_the_last_worker_of_the_process_stops() -> None:
    """Two workers of one process share what is opened once in a process."""
    shop = Shop(is_async=False)

    @shop.app.task(name="short")
    def short(pool: Annotated[str, Use(shop.pool)] = Use.injected) -> str:
        return pool

    with working(shop.app):
        with working(shop.app):
            short.send().get(timeout=PATIENCE)
        assert shop.closed == []
        assert short.send().get(timeout=PATIENCE) == "pool"

    assert shop.closed == ["pool ok"]
    assert shop.journal.count("open pool") == 1


def test_one_that_does_not_end_does_not_hold_up_a_stop(caplog: pytest.LogCaptureFixture) -> None:
    """A worker says so and ends in its time."""
    app = make_app()
    never = threading.Event()

    @app.resource(scope="worker")
    def pool() -> Iterator[None]:
        yield
        never.wait(PATIENCE)

    with app.open(pool):
        pass
    assert app.resources is not None
    app.resources.close(0.01)

    assert "did not close within" in caplog.text
    never.set()


def test_a_worker_without_resources_needs_no_scope() -> None:
    """Nothing is kept for an app that declares none."""
    app = make_app()
    app.task(name="t")(lambda: 1)

    worker = Worker(app, burst=True)
    assert worker.run() == 0
    assert app.resources is None
