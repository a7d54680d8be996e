"""Context variables: each run begins with a copy of the worker's, and what it sets is gone with it."""

import contextvars
from collections.abc import Iterator
from typing import Any

import pytest

from queuekit import Context, Fixed, Middleware, Queuekit
from support.working import burst, make_app

tenant = contextvars.ContextVar("tenant", default="none")


class Marking(Middleware):
    """Sets a variable before each body, and notes it after."""

    def __init__(self) -> None:
        self.after: list[str] = []

    def before_run(self, context: Context) -> None:
        """Set the variable."""
        tenant.set(f"{tenant.get()}+middleware")

    def after_run(self, context: Context, state: str, error: BaseException | None) -> None:
        """Note what the body has left."""
        self.after.append(tenant.get())


def sync(name: str) -> str:
    """Return what was there, and leave something."""
    seen = tenant.get()
    tenant.set(name)
    return seen


async def aio(name: str) -> str:
    """Return what was there, and leave something."""
    return sync(name)


@pytest.fixture(params=["worker", "eager"])
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    """How tasks are run; with a variable of the one who runs them."""
    token = tenant.set("worker's")
    yield request.param
    tenant.reset(token)


def _run(app: Queuekit, function: Any, names: list[str]) -> list[str]:
    task = app.task(name="t")(function)
    results = [task.send(name) for name in names]
    if not app.config.eager:
        burst(app)
    return [result.get(timeout=5) for result in results]


@pytest.mark.parametrize("function", [sync, aio], ids=["sync", "async"])
def test_nothing_leaks_from_task_to_task(function: Any, mode: str) -> None:
    """Each sees the worker's variables, whatever others have set, and the worker keeps its own."""
    app = make_app(eager=mode == "eager", worker={"concurrency": 1})

    assert _run(app, function, ["a", "b", "c"]) == ["worker's"] * 3
    assert tenant.get() == "worker's"


@pytest.mark.parametrize("function", [sync, aio], ids=["sync", "async"])
def test_middleware_shares_the_variables_of_its_run(function: Any, mode: str) -> None:
    """What it sets before, the body sees; what the body sets, it sees after."""
    marking = Marking()
    app = Queuekit(broker=make_app().config.broker, middlewares=[marking], eager=mode == "eager")

    assert _run(app, function, ["a", "b"]) == ["worker's+middleware"] * 2
    assert sorted(marking.after) == ["a", "b"]


def test_a_failure_leaves_nothing_either(mode: str) -> None:
    """An attempt that failed sets nothing for the next one."""
    app = make_app(eager=mode == "eager", worker={"concurrency": 1})
    seen: list[str] = []

    def failing(name: str) -> str:
        seen.append(sync(name))
        if len(seen) == 1:
            raise ValueError(name)
        return name

    task = app.task(name="t", retries=1, retry=Fixed(0))(failing)
    result = task.send("a")
    if mode == "worker":
        burst(app)

    assert (result.get(timeout=5), seen) == ("a", ["worker's", "worker's"])


def test_a_task_that_sends_leaks_nothing_into_what_it_sends() -> None:
    """In eager mode runs are nested; their variables are not."""
    app = make_app(eager=True)
    inner = app.task(name="inner")(sync)

    @app.task(name="outer")
    def outer() -> str:
        tenant.set("outer")
        return f"{inner.send('inner').get(timeout=5)}, {tenant.get()}"

    assert outer.send().get(timeout=5) == "none, outer"
