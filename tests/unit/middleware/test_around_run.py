"""``around_run``: a generator of a middleware that a body runs inside, in both kinds of task and in eager mode."""

import asyncio
import contextvars
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from queuekit import Context, Fixed, Middleware, Queuekit, Result, TaskTimeout
from queuekit.errors import OptionError
from support.waiting import PATIENCE
from support.working import burst, make_app

tenant = contextvars.ContextVar("tenant", default="none")


class Recorder(Middleware):
    """Records what it sees of each run, by its *name*."""

    def __init__(self, name: str = "m", seen: list[Any] | None = None) -> None:
        self.name = name
        self.seen: list[Any] = [] if seen is None else seen

    def around_run(self, context: Context) -> Generator[None, Any, None]:
        """Record the begin, and the value or the error."""
        self.seen.append((self.name, "begin"))
        try:
            value = yield
        except BaseException as error:
            self.seen.append((self.name, type(error).__name__))
            raise
        self.seen.append((self.name, value))


class AsyncRecorder(Recorder):
    """The same, and awaiting around coroutines."""

    async def around_async_run(self, context: Context) -> AsyncIterator[None]:
        """Record the begin, and the value or the error."""
        self.seen.append((self.name, "begin async"))
        await asyncio.sleep(0)
        try:
            value = yield
        except BaseException as error:
            self.seen.append((self.name, type(error).__name__))
            raise
        await asyncio.sleep(0)
        self.seen.append((self.name, value))


def divide(x: int) -> float:
    """Divide by *x*."""
    return 1 / x


async def adivide(x: int) -> float:
    """Divide by *x*."""
    await asyncio.sleep(0)
    return 1 / x


BODIES = pytest.mark.parametrize("body", [divide, adivide], ids=["sync", "async"])


@pytest.fixture(params=["worker", "eager"])
def run(request: pytest.FixtureRequest) -> Callable[..., Result[Any]]:
    """Send one call of a function with middlewares, and return its result after it ended."""

    def sent(function: Callable[..., Any], *args: Any, middlewares: list[Middleware], **options: Any) -> Result[Any]:
        app = make_app(middlewares=middlewares, eager=request.param == "eager")
        result: Result[Any] = app.task(name="t", **options)(function).send(*args)
        if not app.config.eager:
            burst(app)
        return result

    return sent


@BODIES
def test_sees_the_value(run: Callable[..., Result[Any]], body: Any) -> None:
    """``yield`` returns what the body returned."""
    recorder = Recorder()

    result = run(body, 1, middlewares=[recorder])

    assert (result.get(timeout=PATIENCE), recorder.seen) == (1.0, [("m", "begin"), ("m", 1.0)])


@BODIES
def test_sees_the_error(run: Callable[..., Result[Any]], body: Any) -> None:
    """``yield`` raises what the body raised, which stays the error of the task, with its own traceback."""
    recorder = Recorder()

    result = run(body, 0, middlewares=[recorder])

    assert recorder.seen == [("m", "begin"), ("m", "ZeroDivisionError")]
    assert result.info().error_type == "ZeroDivisionError"
    assert "1 / x" in result.info().traceback


@BODIES
def test_nests_in_the_order_of_the_config(run: Callable[..., Result[Any]], body: Any) -> None:
    """The first middleware is the outermost."""
    seen: list[Any] = []

    run(body, 1, middlewares=[Recorder("a", seen), Middleware(), AsyncRecorder("b", seen), Recorder("c", seen)])

    word = "begin async" if body is adivide else "begin"
    assert seen == [("a", "begin"), ("b", word), ("c", "begin"), ("c", 1.0), ("b", 1.0), ("a", 1.0)]


def test_async_form_sees_error_and_value(run: Callable[..., Result[Any]]) -> None:
    """The asynchronous generator is told like the other one."""
    recorder = AsyncRecorder()

    run(adivide, 1, middlewares=[recorder])
    run(adivide, 0, middlewares=[recorder])

    assert recorder.seen == [("m", "begin async"), ("m", 1.0), ("m", "begin async"), ("m", "ZeroDivisionError")]


def test_async_form_alone_leaves_functions_alone(run: Callable[..., Result[Any]]) -> None:
    """A middleware that stands around coroutines only does nothing to a ``def``."""

    class Only(Middleware):
        async def around_async_run(self, context: Context) -> AsyncIterator[None]:
            if context.id:
                raise PermissionError
            yield

    assert run(divide, 1, middlewares=[Only()]).get(timeout=PATIENCE) == 1.0
    assert run(adivide, 1, middlewares=[Only()]).info().error_type == "PermissionError"


def test_stands_around_before_run(run: Callable[..., Result[Any]]) -> None:
    """So it sees each error that counts as the task's own."""

    class Refuser(Middleware):
        def before_run(self, context: Context) -> None:
            raise PermissionError

    recorder = Recorder()

    result = run(divide, 1, middlewares=[Refuser(), recorder])

    assert recorder.seen == [("m", "begin"), ("m", "PermissionError")]
    assert result.info().error_type == "PermissionError"


class Transaction(Middleware):
    """Fails where a commit would."""

    def around_run(self, context: Context) -> Iterator[None]:
        """Fail after the body."""
        yield
        raise ConnectionError("not committed")


@BODIES
def test_an_error_after_the_body_is_the_tasks_own(run: Callable[..., Result[Any]], body: Any) -> None:
    """A task whose transaction is not committed has not succeeded; the middleware outside sees it."""
    recorder = Recorder()

    result = run(body, 1, middlewares=[recorder, Transaction()])

    assert (result.info().error_type, result.info().error) == ("ConnectionError", "not committed")
    assert recorder.seen[-1] == ("m", "ConnectionError")


@BODIES
def test_an_error_before_the_body_is_the_tasks_own(run: Callable[..., Result[Any]], body: Any) -> None:
    """The body does not run, and the middlewares outside end as they began."""

    class Failing(Middleware):
        def around_run(self, context: Context) -> Iterator[None]:
            if context.id:
                raise ConnectionError("no transaction")
            yield

    recorder = Recorder()

    result = run(body, 1, middlewares=[recorder, Failing()])

    assert result.info().error_type == "ConnectionError"
    assert recorder.seen == [("m", "begin"), ("m", "ConnectionError")]


@BODIES
def test_a_swallowed_error_is_a_success(run: Callable[..., Result[Any]], body: Any) -> None:
    """As in a ``with`` block: the task then returns nothing."""

    class Forgiving(Middleware):
        def around_run(self, context: Context) -> Iterator[None]:
            with suppress(ZeroDivisionError):
                yield

    result = run(body, 0, middlewares=[Forgiving()])

    assert result.get(timeout=PATIENCE) is None
    assert result.info().state == "SUCCESS"


@BODIES
def test_each_attempt_has_its_own(run: Callable[..., Result[Any]], body: Any) -> None:
    """A retry runs inside a new generator."""
    recorder = Recorder()

    run(body, 0, middlewares=[recorder], retries=2, retry=Fixed(0))

    assert recorder.seen == [("m", "begin"), ("m", "ZeroDivisionError")] * 3


class Tenant(Middleware):
    """Sets a context variable for the time of a run."""

    def around_run(self, context: Context) -> Iterator[None]:
        """Set and reset it."""
        token = tenant.set(context.id)
        yield
        tenant.reset(token)


class AsyncTenant(Tenant):
    """The same with an asynchronous generator."""

    async def around_async_run(self, context: Context) -> AsyncIterator[None]:
        """Set and reset it."""
        token = tenant.set(context.id)
        yield
        tenant.reset(token)


def whose(ctx: Context) -> bool:
    """Return whether the variable is that of this run."""
    return tenant.get() == ctx.id


async def awhose(ctx: Context) -> bool:
    """Return whether the variable stays that of this run while others run."""
    for _ in range(10):
        await asyncio.sleep(0.001)
        if tenant.get() != ctx.id:
            return False
    return True


@pytest.mark.parametrize("body", [whose, awhose], ids=["sync", "async"])
@pytest.mark.parametrize("kind", [Tenant, AsyncTenant], ids=["generator", "async generator"])
def test_shares_the_context_variables_of_its_run(kind: type[Middleware], body: Any) -> None:
    """What it sets, the body sees, among many bodies at the same time; and it can be reset."""
    app = make_app(middlewares=[kind()], worker={"concurrency": 8})
    task = app.task(name="t")(body)

    results = [task.send() for _ in range(40)]
    burst(app)

    assert [result.get(timeout=PATIENCE) for result in results] == [True] * 40
    assert tenant.get() == "none"


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_runs_where_its_body_runs(*, is_async: bool) -> None:
    """In the thread of the body: one of the pool, or the one of the event loop."""
    threads: list[str] = []

    class Where(Middleware):
        def around_run(self, context: Context) -> Iterator[None]:
            threads.append(threading.current_thread().name)
            yield
            threads.append(threading.current_thread().name)

    def body() -> None:
        threads.append(threading.current_thread().name)

    async def abody() -> None:
        threads.append(threading.current_thread().name)

    app = make_app(middlewares=[Where()], worker={"concurrency": 1})
    app.task(name="t")(abody if is_async else body).send()
    burst(app)

    assert threads == ["queuekit-loop" if is_async else "queuekit-run-0"] * 3


def test_the_time_limit_of_a_function_reaches_its_generator(run: Callable[..., Result[Any]]) -> None:
    """It is raised at the ``yield`` like an error of the body."""
    app = make_app(middlewares=[recorder := Recorder()])

    @app.task(name="t")
    def endless() -> None:
        while True:
            time.sleep(0.001)

    result = timed_out(app, endless, recorder)

    assert (result.info().error_type, recorder.seen[-1]) == ("TaskTimeout", ("m", "TaskTimeout"))


def timed_out(app: Queuekit, task: Any, recorder: Recorder) -> Result[Any]:
    """Run a task past its time limit; in the first, a busy machine may not even begin."""
    for timeout in (0.05, 2.0, 20.0):
        recorder.seen.clear()
        result: Result[Any] = task.options(timeout=timeout).send()
        burst(app)
        if len(recorder.seen) > 1:
            return result
    pytest.fail("its body never begins")


@pytest.mark.parametrize("kind", [Recorder, AsyncRecorder])
def test_the_time_limit_of_a_coroutine_reaches_its_generator(kind: type[Recorder]) -> None:
    """It sees the cancellation that ends the body."""
    app = make_app(middlewares=[recorder := kind()])

    @app.task(name="t")
    async def endless() -> None:
        await asyncio.sleep(PATIENCE)

    result = timed_out(app, endless, recorder)

    assert (result.info().error_type, recorder.seen[-1]) == ("TaskTimeout", ("m", "CancelledError"))


def test_the_time_limit_holds_for_the_generator_too() -> None:
    """A middleware that hangs is ended as a body would be."""

    class Hanging(Middleware):
        def around_run(self, context: Context) -> Iterator[None]:
            yield
            while True:
                time.sleep(0.001)

    app = make_app(middlewares=[Hanging()])
    result = app.task(name="t", timeout=0.05)(divide).send(1)
    burst(app)

    assert result.info().error_type == TaskTimeout.__name__


@BODIES
@pytest.mark.parametrize("leaves", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration])
def test_whatever_it_raises_ends_neither_thread_nor_message(leaves: type[BaseException], body: Any) -> None:
    """The task fails, and the next one runs on the same thread."""

    class Leaving(Middleware):
        def around_run(self, context: Context) -> Iterator[None]:
            yield
            if context.headers:
                raise leaves

    app = make_app(middlewares=[Leaving()], worker={"concurrency": 1})
    task = app.task(name="t")(body)
    left, stayed = task.options(headers={"leave": "now"}).send(1), task.send(1)
    burst(app)

    expected = "RuntimeError" if issubclass(leaves, StopIteration) else leaves.__name__
    assert (left.info().error_type, stayed.get(timeout=PATIENCE)) == (expected, 1.0)


class Never(Middleware):
    """Forgets to yield."""

    def around_run(self, context: Context) -> Iterator[None]:
        """Yield nothing."""
        yield from ()


class Twice(Middleware):
    """Yields too often."""

    def around_run(self, context: Context) -> Iterator[None]:
        """Yield twice."""
        yield
        yield


class NotOne(Middleware):
    """Is no generator."""

    def around_run(self, context: Context) -> Any:
        """Return a context manager."""
        return contextmanager(Twice().around_run)(context)


class AsyncNever(Middleware):
    """Forgets to yield around coroutines."""

    async def around_async_run(self, context: Context) -> AsyncIterator[None]:
        """Yield nothing."""
        for _ in ():
            yield


class AsyncTwice(Middleware):
    """Yields too often around coroutines."""

    async def around_async_run(self, context: Context) -> AsyncIterator[None]:
        """Yield twice."""
        yield
        yield


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Never, "Never.around_run did not yield, so the body did not run"),
        (Twice, "Twice.around_run yielded more than once"),
        (NotOne, "NotOne.around_run returned _GeneratorContextManager, not a generator"),
        (AsyncNever, "AsyncNever.around_async_run did not yield, so the body did not run"),
        (AsyncTwice, "AsyncTwice.around_async_run yielded more than once"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_wrong_generator_is_named(run: Callable[..., Result[Any]], kind: type[Middleware], text: str) -> None:
    """The task fails with an error that says whose mistake it is."""
    result = run(adivide, 1, middlewares=[kind()])

    assert result.info().error == text


def _methods(kind: str) -> type[Middleware]:
    async def coroutine(*_: Any) -> None:
        """Do nothing."""

    return type("Hopeful", (Middleware,), {kind: coroutine})


@pytest.mark.parametrize("method", ["before_send", "before_run", "after_run", "around_run", "on_dead"])
def test_an_async_method_is_refused(method: str) -> None:
    """Calling it would run nothing, so the app says so when it is made."""
    with pytest.raises(OptionError, match=rf"Hopeful\.{method} is async def, and would never run"):
        make_app(middlewares=[_methods(method)()])


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_child_that_a_body_forks_leaves_before_the_generator_goes_on(*, is_async: bool) -> None:
    """Or it would commit what its parent commits as well."""
    reading, writing = os.pipe()

    class Telling(Middleware):
        def around_run(self, context: Context) -> Iterator[None]:
            yield
            os.write(writing, b"!")

    def body() -> None:
        child = os.fork()
        if child:
            os.waitpid(child, 0)

    async def abody() -> None:
        body()

    app: Queuekit = make_app(middlewares=[Telling()])
    try:
        app.task(name="t")(abody if is_async else body).send()
        burst(app)
        os.close(writing)
        assert os.read(reading, 10) == b"!"
    finally:
        os.close(reading)
