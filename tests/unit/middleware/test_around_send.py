"""``around_send``: when a middleware's generator runs around sends and batches, and that it cannot hide an error."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import attrs
import pytest

from queuekit import Middleware, Queuekit, Signature, chain, group
from queuekit.errors import OptionError, UnavailableError
from support.working import broker_of, burst, flaky_app, make_app


class Around(Middleware):
    """Notes what happens around sends."""

    def __init__(self, name: str = "") -> None:
        self.seen: list[Any] = []
        self._name = name

    def around_send(self, calls: Sequence[Signature[Any]], *, batch: bool) -> Iterator[None]:
        """Note the calls, and how the send ended."""
        self.seen.append((f"{self._name}begin", [call.args for call in calls], batch))
        try:
            yield
        except BaseException as error:
            self.seen.append((f"{self._name}raised", type(error).__name__))
            raise
        self.seen.append(f"{self._name}end")

    def before_send(self, signature: Signature[Any]) -> Signature[Any]:
        """Note that a message is about to be written, and mark it."""
        self.seen.append("before")
        return attrs.evolve(signature, headers={"seen": "yes"})

    def after_send(self, sent: Sequence[Any]) -> None:
        """Note that messages are stored."""
        self.seen.append("after")


@pytest.fixture
def around() -> Around:
    """The middleware."""
    return Around()


@pytest.fixture(params=["plain", "eager"])
def app(request: pytest.FixtureRequest, around: Around) -> Queuekit:
    """An app with it, with a task."""
    made = make_app(middlewares=[around], eager=request.param == "eager")
    made.task(name="t")(lambda *_: None)
    return made


def test_runs_around_one_send(app: Queuekit, around: Around) -> None:
    """A send begins before its message is written, and ends when it is stored."""
    app.send(Signature("t", args=(1,)))

    assert around.seen == [("begin", [(1,)], False), "before", "after", "end"]


def test_runs_around_one_asend(app: Queuekit, around: Around) -> None:
    """So does a send that a coroutine awaits."""
    asyncio.run(app.asend(Signature("t", args=(1,))))

    assert around.seen == [("begin", [(1,)], False), "before", "after", "end"]


def test_runs_around_a_batch(app: Queuekit, around: Around) -> None:
    """A batch begins once its messages are written; a workflow is one."""
    app.send_many([Signature("t", args=(n,)) for n in range(2)])
    app.send(group(Signature("t", args=(3,)), Signature("t", args=(4,))))

    first, second = ("begin", [(0,), (1,)], True), ("begin", [(3,), (4,)], True)
    assert around.seen == ["before", "before", first, "after", "end", "before", "before", second, "after", "end"]


def test_runs_around_each_batch(around: Around) -> None:
    """More than one round trip takes are as many calls."""
    app = make_app(middlewares=[around])

    app.send_many([Signature("t") for _ in range(501)])

    assert [len(one[1]) for one in around.seen if isinstance(one, tuple)] == [500, 1]


def test_does_not_run_for_what_follows_a_task(around: Around) -> None:
    """What a worker stores with an outcome is not sent."""
    app = make_app(middlewares=[around])
    app.task(name="t")(lambda *_: None)

    app.send(chain(Signature("t"), Signature("t")))
    burst(app)

    assert around.seen.count("end") == 1


def test_sees_the_error_of_a_send(around: Around) -> None:
    """``yield`` raises what the send raises, and the caller gets it as well."""
    app = flaky_app(middlewares=[around], send_timeout=0.05)
    broker_of(app).wire.cut = {"send"}

    with pytest.raises(UnavailableError):
        app.send(Signature("t"))
    with pytest.raises(UnavailableError):
        app.send_many([Signature("t")])

    assert around.seen.count(("raised", "UnavailableError")) == 2


def test_cannot_hide_the_error_of_a_send() -> None:
    """A generator that swallows the error changes nothing: there is no result to return."""

    class Hiding(Middleware):
        def around_send(self, calls: Sequence[Signature[Any]], *, batch: bool) -> Iterator[None]:
            with suppress(UnavailableError):
                yield

    app = flaky_app(middlewares=[Hiding()], send_timeout=0.05)
    broker_of(app).wire.cut = {"send"}

    with pytest.raises(UnavailableError):
        app.send(Signature("t"))


def test_error_of_its_own_fails_the_send() -> None:
    """What the generator raises before its ``yield`` keeps the message from being sent; outer ones see it."""

    class Refusing(Middleware):
        def around_send(self, calls: Sequence[Signature[Any]], *, batch: bool) -> Iterator[None]:
            if calls:
                raise PermissionError("not today")
            yield

    outer = Around()
    app = make_app(middlewares=[outer, Refusing()])

    with pytest.raises(PermissionError):
        app.send(Signature("t"))

    assert outer.seen == [("begin", [()], False), ("raised", "PermissionError")]
    assert not app.runtime.broker.queues()


def test_nests() -> None:
    """The first middleware is the outermost one."""
    outer, inner = Around("outer "), Around("inner ")
    inner.seen = outer.seen
    app = make_app(middlewares=[outer, inner])

    app.send(Signature("t"))

    assert [one if isinstance(one, str) else one[0] for one in outer.seen] == [
        "outer begin",
        "inner begin",
        "before",
        "before",
        "after",
        "after",
        "inner end",
        "outer end",
    ]


def test_rejects_an_async_one() -> None:
    """An ``async def`` would never run, and is refused when the app is made."""

    async def around_send(*_: Any, **__: Any) -> None:
        """Never run."""

    wrong: type[Middleware] = type("Wrong", (Middleware,), {"around_send": around_send})

    with pytest.raises(OptionError, match="around_send"):
        make_app(middlewares=[wrong()])
