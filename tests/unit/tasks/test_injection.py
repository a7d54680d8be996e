"""Resources as they are declared and named by tasks: what is refused, and what callers see."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest

from queuekit import Context, Queuekit
from queuekit.errors import ArgumentsError, OptionError
from queuekit.resources import Resource, Use
from queuekit.tasks.annotations import classes_in
from queuekit.tasks.callables import DeclarationError
from support.working import make_app

app = make_app(eager=True)


class Pool:
    """What the resource gives."""


@app.resource(scope="worker")
def pool() -> Pool:
    """Return what tasks need."""
    return Pool()


@app.resource
def session(db: Annotated[Pool, Use(pool)]) -> Pool:
    """Return what one run needs."""
    return db


Db = Annotated[Pool, Use(pool)]


def plain(x: int, db: Annotated[Pool, Use(pool)]) -> None:
    """Name the resource in full."""


def first(db: Db, x: int) -> None:
    """Name it by an alias, before the argument."""


def default(x: int, db: Db = Use.injected) -> None:
    """Give it the default that type checkers want."""


def optional(x: int, *, db: Db | None = None) -> None:
    """Name it in a union, by keyword only."""


async def awaited(ctx: Context, db: Db, x: int) -> None:
    """Name it after the context, in a coroutine function."""


@pytest.mark.parametrize("function", [plain, first, default, optional, awaited])
def test_is_no_part_of_the_call(function: Callable[..., Any]) -> None:
    """Callers neither see nor fill the parameter, wherever it stands and however its annotation is written."""
    task: Any = Queuekit.task(app, name=f"seen.{function.__name__}")(function)

    assert str(task.parameters) == "(x: 'int') -> 'None'"
    assert task.parameters.names == ("x",)
    assert task.s(1).args == (1,)
    with pytest.raises(ArgumentsError, match="'db'"):
        task.s(1, db=None)
    with pytest.raises(ArgumentsError):
        task.s(1, None)


def test_cannot_be_sent_into_the_rest_of_the_arguments() -> None:
    """``**more`` does not take the name of a resource."""

    def rest(db: Db, **more: int) -> None: ...

    with pytest.raises(ArgumentsError, match="a resource fills 'db'"):
        app.task(name="rest")(rest).s(x=1, db=2)


def test_its_class_is_none_that_messages_may_hold() -> None:
    """A worker makes the value, so no message needs to."""
    assert Pool not in set(classes_in(plain))


@pytest.mark.parametrize("function", [plain, first])
def test_a_plain_call_passes_it(function: Callable[..., Any]) -> None:
    """Only a worker fills resources; a plain call must pass it."""
    task: Any = Queuekit.task(app, name=f"called.{function.__name__}")(function)

    task(x=1, db=Pool())
    with pytest.raises(ArgumentsError, match="leaves out 'db'"):
        task(x=1)


def test_a_plain_call_may_use_its_own_default() -> None:
    """A default that is not ``Use.injected`` is the user's, and serves plain calls."""
    app.task(name="own-default")(optional)(1)


no_resource: Any = None


def rest_of(*db: Db) -> None:
    """Take any number."""


def first_only(db: Db, /) -> None:
    """Take it by position only."""


def twice(db: Annotated[Pool, Use(pool), Use(session)]) -> None:
    """Name two."""


def bare(db: Annotated[Pool, Use]) -> None:
    """Forget which."""


def later(db: Annotated[Pool, Use(no_resource)]) -> None:
    """Name what is not a resource."""


def misspelt(db: "Annotated[Pool, Use(pooool)]") -> None:  # pyright: ignore[reportUndefinedVariable]  # noqa: F821, UP037
    """Name what does not exist."""


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (rest_of, "cannot fill"),
        (first_only, "cannot fill"),
        (twice, "two resources"),
        (bare, "without a resource"),
        (later, "names no resource"),
        (misspelt, "names no resource"),
    ],
)
def test_refuses_what_no_worker_could_fill(function: Callable[..., Any], words: str) -> None:
    """The decorator says what is wrong, not the first run."""
    with pytest.raises(DeclarationError, match=words):
        app.task(name="refused")(function)


def needs_an_argument(x: int) -> int:
    """Take what nobody gives."""
    return x


def of_a_run(db: Annotated[Pool, Use(session)]) -> Pool:
    """Use a resource of a run."""
    return db


def of_a_context(ctx: Context) -> str:
    """Use the context of a run."""
    return ctx.id


def of_itself(db: Annotated[Pool, Use(no_resource)]) -> Pool:
    """Use what does not exist yet."""
    return db


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (needs_an_argument, "nothing fills the parameter 'x'"),
        (of_a_run, "opened once in a process, but uses"),
        (of_a_context, "opened once in a process, but takes the context"),
        (of_itself, "names no resource"),
        (pool, "not a function"),
        (None, "not a function"),
        (3, "not a function"),
    ],
)
def test_refuses_what_cannot_be_opened(function: Any, words: str) -> None:
    """A resource of the process needs nothing of a run, a cycle cannot be written, and nothing is left unfilled."""
    declare: Any = app.resource(scope="worker")

    with pytest.raises(DeclarationError, match=words):
        declare(function)


def test_refuses_an_unknown_scope() -> None:
    """The two scopes are named."""
    wrong: Any = "request"
    with pytest.raises(OptionError, match='"worker" or "task"'):
        app.resource(scope=wrong)(lambda: 1)


def test_refuses_the_resource_of_another_app() -> None:
    """Each app closes its own."""
    with pytest.raises(DeclarationError, match="belongs to another app"):
        make_app().task(name="foreign")(plain)
    with pytest.raises(OptionError, match="not a resource of this app"):
        make_app().open(pool)


def test_tells_how_a_function_makes_its_value() -> None:
    """Generators, context managers and coroutine functions are distinguished when they are declared."""

    async def coroutine() -> int:
        return 1

    @asynccontextmanager
    async def manager() -> AsyncIterator[int]:
        yield 1

    kinds: list[Resource[Any]] = [app.resource(each) for each in (coroutine, manager, time.time)]

    assert [(each.kind, each.is_async) for each in kinds] == [("value", True), ("manager", True), ("value", False)]
