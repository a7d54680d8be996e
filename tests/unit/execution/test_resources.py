"""Resources of runs: when they open and close, what they see, and what takes their place in tests."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from typing import Annotated, Any

import pytest

from queuekit import Context, Queuekit, Retry, Snooze
from queuekit.errors import OptionError
from queuekit.resources import Resource, Use
from queuekit_testing.application.queue import AppQueue
from queuekit_testing.application.swap import queue_of
from support.waiting import wait_until
from support.working import burst, make_app

Journal = list[str]
LOCK = threading.Lock()


def outcome_of(error: BaseException | None) -> str:
    """Return what a resource saw, in a word."""
    return "ok" if error is None else type(error).__name__


TENANT = contextvars.ContextVar("tenant", default="nobody")


class Manager:
    """A class of context managers that keeps a journal, for both kinds of ``with``."""

    def __init__(self, name: str, journal: Journal) -> None:
        self.name, self.journal = name, journal

    def __enter__(self) -> str:
        self.journal.append(f"open {self.name}")
        return self.name

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.journal.append(f"close {self.name} {outcome_of(error)}")

    async def __aenter__(self) -> str:
        await asyncio.sleep(0)
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        await asyncio.sleep(0)
        self.journal.append(f"close {self.name} {outcome_of(error)}")


class Shop:
    """An app with resources of both kinds and scopes, and the journal that they keep."""

    def __init__(self, **settings: Any) -> None:
        self.app = make_app(**settings)
        self.journal: Journal = []
        self.pool = self.app.resource(scope="worker")(self.generator("pool"))
        self.apool = self.app.resource(scope="worker")(self.agenerator("apool"))

        @self.app.resource
        @contextmanager
        def session(pool: Annotated[str, Use(self.pool)]) -> Iterator[str]:
            with Manager("session", self.journal):
                yield f"session of {pool}"

        @self.app.resource
        @asynccontextmanager
        async def asession(
            apool: Annotated[str, Use(self.apool)], session: Annotated[str, Use(session)]
        ) -> AsyncIterator[str]:
            async with Manager("asession", self.journal):
                yield f"asession of {apool} and {session}"

        self.session, self.asession = session, asession

    def generator(self, name: str) -> Callable[[], Iterator[str]]:
        """Return a generator function that opens and closes *name*."""

        def open_it() -> Iterator[str]:
            with Manager(name, self.journal) as value:
                yield value

        return open_it

    def agenerator(self, name: str) -> Callable[[], AsyncIterator[str]]:
        """Return an asynchronous one."""

        async def open_it() -> AsyncIterator[str]:
            async with Manager(name, self.journal) as value:
                yield value

        return open_it

    def task(self, body: Callable[[], object], *, is_async: bool, **options: Any) -> Any:
        """Return a task that takes a resource of each kind, and calls *body*."""
        session, asession = self.session, self.asession

        def run(one: Annotated[str, Use(session)], two: Annotated[str, Use(asession)], x: int = 0) -> object:
            self.journal.append(f"{one} + {two}, {x}")
            return body()

        async def arun(one: Annotated[str, Use(session)], two: Annotated[str, Use(asession)], x: int = 0) -> object:
            self.journal.append(f"{one} + {two}, {x}")
            await asyncio.sleep(0)
            return body()

        return self.app.task(name="buy", **options)(arun if is_async else run)


BODY = "session of pool + asession of apool and session of pool, 7"


def fails() -> None:
    """Fail."""
    raise ValueError("no")


def returns_what_cannot_be_stored() -> object:
    """Return what no serializer writes."""
    return object()


def waits_for_better_times() -> None:
    """Put itself off."""
    raise Snooze(1)


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
@pytest.mark.parametrize(
    ("body", "seen"),
    [
        (lambda: 1, "ok"),
        (fails, "ValueError"),
        (returns_what_cannot_be_stored, "EncodeError"),
        (waits_for_better_times, "Snooze"),
    ],
)
def test_close_in_reverse_order_with_the_outcome(body: Callable[[], object], seen: str, *, is_async: bool) -> None:
    """Resources of a run close once its outcome is known, and see an error unless it succeeded."""
    shop = Shop()
    task = shop.task(body, is_async=is_async)

    with queue_of(shop.app) as queue:
        task.send(7)
        queue.run(raises=False)
        ran = shop.journal[:]

    assert sorted(ran[:2]) == ["open pool", "open session"]
    assert ran[2:] == ["open apool", "open asession", BODY, f"close asession {seen}", f"close session {seen}"]
    assert shop.journal[len(ran) :] == ["close apool ok", "close pool ok"]


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_open_once_in_a_process_or_once_for_each_run(*, is_async: bool) -> None:
    """The scope says which; two parameters of one run share what they both need."""
    shop = Shop()
    task = shop.task(lambda: 1, is_async=is_async)

    with queue_of(shop.app) as queue:
        for _ in range(3):
            task.send(7)
        assert queue.run().done == 3

    opened = {name: shop.journal.count(f"open {name}") for name in ("pool", "apool", "session", "asession")}
    assert opened == {"pool": 1, "apool": 1, "session": 3, "asession": 3}


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_serve_eager_mode(*, is_async: bool) -> None:
    """A send runs the task at once, with its resources, also one inside a task."""
    shop = Shop(eager=True)
    inner = shop.task(lambda: "inner", is_async=is_async)

    @shop.app.task(name="outer")
    async def outer(two: Annotated[str, Use(shop.asession)] = Use.injected) -> Any:
        return inner.send(7).get()

    assert outer.send().get() == "inner"
    shop.app.close()

    assert BODY in shop.journal
    assert shop.journal.count("open pool") == 1
    assert len([line for line in shop.journal if line.startswith("close")]) == len(
        [line for line in shop.journal if line.startswith("open")]
    )


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_one_that_does_not_open_fails_the_task(*, is_async: bool) -> None:
    """Like an error of the body: it is retried, the traceback names the resource, and those before it close."""
    shop = Shop()
    attempts: list[int] = []

    @shop.app.resource(scope="worker")
    def broken(pool: Annotated[str, Use(shop.pool)]) -> str:
        attempts.append(1)
        if len(attempts) < 3:
            raise ConnectionError("no database")
        return "at last"

    def body(one: Annotated[str, Use(shop.session)], two: Annotated[str, Use(broken)]) -> str:
        return two

    async def abody(one: Annotated[str, Use(shop.session)], two: Annotated[str, Use(broken)]) -> str:
        return two

    task: Any = shop.app.task(name="t", retries=1)(abody if is_async else body)
    with queue_of(shop.app) as queue:
        first = task.send()
        assert queue.run(until="1h", raises=False).failed == 1
        info = first.info()
        second = task.send()
        queue.run()
        assert second.get() == "at last"

    assert (info.error_type, info.error) == ("ConnectionError", "no database")
    assert "The resource" in info.traceback
    assert "broken could not be opened" in info.traceback
    assert shop.journal.count("close session ConnectionError") == 2


@pytest.mark.parametrize("scope", ["task", "worker"])
@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_one_that_finds_nothing_to_iterate_fails_the_task(scope: Any, *, is_async: bool) -> None:
    """No future can hold StopIteration, so a coroutine would wait for ever."""
    shop = Shop()

    @shop.app.resource(scope=scope)
    def empty() -> int:
        return next(iter(list[int]()))

    def body(one: Annotated[int, Use(empty)]) -> int:
        return one

    async def abody(one: Annotated[int, Use(empty)]) -> int:
        return one

    task: Any = shop.app.task(name="t")(abody if is_async else body)
    with queue_of(shop.app) as queue:
        sent = task.send()
        assert queue.run(raises=False).failed == 1
        info = sent.info()

    assert info.error_type == "RuntimeError"
    assert "empty raised StopIteration" in info.error


@pytest.mark.parametrize("scope", ["task", "worker"])
@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_one_may_reset_a_context_variable_that_it_set(
    scope: Any, caplog: pytest.LogCaptureFixture, *, is_async: bool
) -> None:
    """Whatever thread opens and closes it, both see the same variables, and nobody else's."""
    shop, seen = Shop(), list[str]()

    @shop.app.resource(scope=scope)
    def tenant() -> Iterator[str]:
        seen.append(TENANT.get())
        token = TENANT.set("acme")
        yield TENANT.get()
        TENANT.reset(token)
        seen.append(TENANT.get())

    def body(one: Annotated[str, Use(tenant)]) -> str:
        return one

    async def abody(one: Annotated[str, Use(tenant)]) -> str:
        return one

    task: Any = shop.app.task(name="t")(abody if is_async else body)
    with queue_of(shop.app) as queue:
        for _ in range(3):
            task.send()
            assert queue.run().done == 1
    shop.app.close()

    assert seen == ["nobody"] * (6 if scope == "task" else 2)
    assert not caplog.records


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_one_that_does_not_close_fails_a_task_that_succeeded(*, is_async: bool) -> None:
    """A transaction that cannot be committed is the task's error; the resources below it see that error."""
    shop = Shop()

    @shop.app.resource
    def transaction(session: Annotated[str, Use(shop.session)]) -> Iterator[None]:
        yield
        raise ConnectionError("cannot commit")

    def body(it: Annotated[None, Use(transaction)]) -> int:
        return 1

    async def abody(it: Annotated[None, Use(transaction)]) -> int:
        return 1

    task: Any = shop.app.task(name="t")(abody if is_async else body)
    with queue_of(shop.app) as queue:
        task.send()
        with pytest.raises(ConnectionError, match="cannot commit"):
            queue.run()

    assert "close session ConnectionError" in shop.journal


def test_one_that_does_not_close_changes_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """The body's error stays that of the task; the other is logged, and all close."""
    shop = Shop()

    @shop.app.resource
    def bad(session: Annotated[str, Use(shop.session)]) -> Iterator[None]:
        try:
            yield
        finally:
            raise ConnectionError("cannot roll back")

    @shop.app.task(name="t")
    def task(it: Annotated[None, Use(bad)] = Use.injected) -> None:
        raise ValueError("no")

    with queue_of(shop.app) as queue:
        task.send()
        with pytest.raises(ValueError, match="no"):
            queue.run()

    assert "close session ValueError" in shop.journal
    assert "cannot close the resource" in caplog.text


def test_one_that_swallows_the_error_changes_no_failure() -> None:
    """A resource cannot make a failed task succeed."""
    app = make_app()

    @app.resource
    def deaf() -> Iterator[int]:
        with suppress(ValueError):
            yield 1

    @app.task(name="t")
    def task(it: Annotated[int, Use(deaf)] = Use.injected) -> None:
        raise ValueError("no")

    with queue_of(app) as queue:
        task.send()
        assert queue.run(raises=False).failed == 1


def test_may_control_the_message() -> None:
    """What a resource raises counts as raised by the body, also to be retried or put off."""
    app = make_app()

    @app.resource
    def later() -> None:
        raise Retry("the pool is full", after=60)

    @app.task(name="t", retries=1)
    def task(it: Annotated[None, Use(later)] = Use.injected) -> None: ...

    with queue_of(app) as queue:
        task.send()
        assert queue.run().retried == 1
        queue.run(until="2m", raises=False)


def lock() -> Any:
    """Return what looks like a context manager, and is a value."""
    return LOCK


class Closable:
    """Has ``close`` only."""

    closed = False

    def close(self) -> None:
        """Close it."""
        self.closed = True


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_what_a_function_returns_is_entered_if_it_is_made_for_that(*, is_async: bool) -> None:
    """A context manager of contextlib, or of a class that derives from theirs, is entered; a lock is a value."""
    app, thing = make_app(), Closable()
    held = app.resource(lock)
    closed = app.resource(lambda: closing(thing))
    seen: list[bool] = []

    def body(a: Annotated[Any, Use(held)], b: Annotated[Closable, Use(closed)]) -> None:
        seen.extend([a is LOCK, LOCK.locked(), b.closed])

    async def abody(a: Annotated[Any, Use(held)], b: Annotated[Closable, Use(closed)]) -> None:
        body(a, b)

    task: Any = app.task(name="t")(abody if is_async else body)
    with queue_of(app) as queue:
        task.send()
        queue.run()

    assert seen == [True, False, False]
    assert thing.closed


def test_give_the_context_of_the_run() -> None:
    """A resource of a run may take the context, e.g. to choose a database by a header."""
    app = make_app()

    @app.resource
    def tenant(ctx: Context) -> str:
        return ctx.headers["tenant"]

    @app.task(name="t")
    def task(who: Annotated[str, Use(tenant)] = Use.injected) -> str:
        return who

    with queue_of(app) as queue:
        result = task.options(headers={"tenant": "acme"}).send()
        queue.run()
        assert result.get() == "acme"


def test_are_shared_by_the_calls_of_one_message() -> None:
    """Chunks of a group open them once."""
    shop = Shop()

    @shop.app.task(name="t")
    def task(x: int, db: Annotated[str, Use(shop.session)] = Use.injected) -> int:
        return x

    with queue_of(shop.app) as queue:
        result = shop.app.send(task.map([1, 2, 3], chunk=3))
        queue.run()
        assert result.get() == [1, 2, 3]

    assert shop.journal.count("open session") == 1


def test_async_ones_of_plain_tasks_live_on_one_loop() -> None:
    """A plain task can hand work to the loop on which its resource was opened, since that goes on."""
    app = make_app()

    @app.resource(scope="worker")
    async def loop() -> Any:
        return asyncio.get_running_loop()

    async def double(x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    @app.task(name="t")
    def task(x: int, on: Annotated[Any, Use(loop)] = Use.injected) -> int:
        return asyncio.run_coroutine_threadsafe(double(x), on).result()

    with queue_of(app) as queue:
        results = [task.send(x) for x in (1, 2)]
        queue.run()
        assert [result.get() for result in results] == [2, 4]


def test_plain_ones_do_not_block_the_loop() -> None:
    """What takes long to open for one coroutine lets the others go on."""
    app = make_app()
    others = threading.Event()

    @app.resource
    def slow() -> bool:
        return others.wait(60)

    @app.task(name="slow")
    async def waits(it: Annotated[bool, Use(slow)] = Use.injected) -> bool:
        return it

    @app.task(name="other")
    async def other() -> None:
        others.set()

    result = waits.send()
    other.send()
    burst(app)

    assert result.get(timeout=1) is True


# -- outside of tasks


def test_open_outside_of_tasks() -> None:
    """A web server uses the same ones; those of the process stay open until the app closes."""
    shop = Shop()

    with shop.app.open(shop.session) as session:
        assert session == "session of pool"
    before = shop.journal[:]
    shop.app.close()

    assert before == ["open pool", "open session", "close session ok"]
    assert shop.journal[3:] == ["close pool ok"]


def test_open_outside_of_tasks_on_the_loop_of_the_caller() -> None:
    """What a handler awaits belongs to its loop, and closes with the lifespan of its server."""
    shop = Shop()

    async def serve() -> None:
        async with shop.app.lifespan():
            async with shop.app.open(shop.asession) as session:
                assert session == "asession of apool and session of pool"
            async for value in shop.asession():  # as Depends of FastAPI does
                assert value == session

    asyncio.run(serve())

    opened = [line for line in shop.journal if line.startswith("open") and line.endswith("pool")]
    assert opened == ["open apool", "open pool"]
    assert shop.journal[-2:] == ["close pool ok", "close apool ok"]


def test_an_error_in_the_block_is_seen_and_raised() -> None:
    """As with any context manager."""
    shop = Shop()

    with pytest.raises(ValueError, match="no"), shop.app.open(shop.session):
        fails()

    assert shop.journal[-1] == "close session ValueError"
    shop.app.close()


def test_close_with_their_loop() -> None:
    """If a program ends its loop before it closes the app, resources of the loop close with it."""
    shop = Shop()

    async def once() -> None:
        async with shop.app.open(shop.apool):
            pass

    asyncio.run(once())
    asyncio.run(once())
    shop.app.close()

    assert shop.journal == ["open apool", "close apool ok"] * 2


# -- in tests of applications


@pytest.fixture
def shop() -> Shop:
    """Return an app."""
    return Shop()


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_a_value_takes_the_place_of_one(shop: Shop, *, is_async: bool) -> None:
    """Whatever needs the resource gets the value, and the resource itself does not open."""
    task = shop.task(lambda: 1, is_async=is_async)

    with queue_of(shop.app) as queue:
        queue.override(shop.apool, "fake")
        with shop.app.override(shop.pool, "other"):
            task.send(7)
            queue.run()

    assert "session of other + asession of fake and session of other, 7" in shop.journal
    assert not {"open pool", "open apool"} & set(shop.journal)


def test_another_resource_takes_the_place_of_one(shop: Shop) -> None:
    """It opens and closes as its own declaration says."""
    fake: Resource[str] = shop.app.resource(scope="worker")(shop.generator("fake"))

    with shop.app.override(shop.pool, fake), shop.app.open(shop.session) as session:
        assert session == "session of fake"

    assert shop.journal[-1] == "close fake ok"


def test_what_was_open_before_comes_back(shop: Shop) -> None:
    """A block opens resources of the process anew, since they may use what it overrides, and closes those only."""
    derived: Resource[str] = shop.app.resource(scope="worker")(_derived_from(shop))
    with shop.app.open(derived) as before:
        pass

    with shop.app.override(shop.pool, "fake"), shop.app.open(derived) as inside:
        pass

    with shop.app.open(derived) as after:
        pass
    assert (before, inside, after) == ("of pool", "of fake", "of pool")
    assert shop.journal == ["open pool"]
    shop.app.close()


def _derived_from(shop: Shop) -> Callable[..., str]:
    def derived(pool: Annotated[str, Use(shop.pool)]) -> str:
        return f"of {pool}"

    return derived


def test_the_queue_of_a_test_opens_its_own(shop: Shop) -> None:
    """What the application had open is neither used nor closed, and what the test opened is closed."""
    with shop.app.open(shop.pool):
        pass

    with queue_of(shop.app), shop.app.open(shop.pool):
        pass

    assert shop.journal == ["open pool", "open pool", "close pool ok"]
    shop.app.close()


def test_refuses_to_override_what_is_no_resource(shop: Shop) -> None:
    """A function that was passed by mistake is named."""
    wrong: Any = fails
    with pytest.raises(OptionError, match="not a resource of this app"), shop.app.override(wrong, 1):
        pass


def test_tasks_without_resources_have_no_scope() -> None:
    """They cost nothing: neither asyncio nor a scope is there for them."""
    app = Queuekit(broker="memory://")

    assert app.resources is None
    with queue_of(app) as queue:
        assert isinstance(queue, AppQueue)


def test_an_app_may_close_twice(shop: Shop) -> None:
    """And its resources open again when they are needed."""
    before = set(threading.enumerate())
    for _ in range(2):
        with shop.app.open(shop.asession):
            pass
        shop.app.close()
        shop.app.close()

    assert shop.journal.count("close apool ok") == 2
    wait_until(lambda: not set(threading.enumerate()) - before)
