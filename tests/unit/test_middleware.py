"""Middleware: only what a class overrides is called, in the order of the config."""

from typing import Any

import attrs
import pytest

from queuekit import Context, Middleware, Queuekit, Result, Retry, Signature
from queuekit.middleware import Stages, compile_stages
from support.working import burst, make_app


class Tagger(Middleware):
    """Marks what is sent."""

    def __init__(self, tag: str) -> None:
        self.tag = tag

    def before_send(self, signature: Signature[Any]) -> Signature[Any]:
        """Append the tag."""
        return attrs.evolve(signature, headers={"tags": signature.headers.get("tags", "") + self.tag})


class Watcher(Middleware):
    """Keeps what it sees."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def before_run(self, context: Context) -> None:
        """Keep the task."""
        self.seen.append(("before", context.task))

    def after_run(self, context: Context, state: str, error: BaseException | None) -> None:
        """Keep how it ended."""
        self.seen.append(("after", state, type(error).__name__))


class Refuser(Middleware):
    """Lets nothing run."""

    def before_run(self, context: Context) -> None:
        """Refuse."""
        raise PermissionError("not today")


class Clumsy(Middleware):
    """Fails after each run."""

    def after_run(self, context: Context, state: str, error: BaseException | None) -> None:
        """Fail."""
        raise RuntimeError("slipped")


def app_with(*middlewares: Middleware) -> Queuekit:
    """Return an app with these middlewares."""
    app = make_app(middlewares=middlewares)
    app.task(name="ok")(lambda: "ok")
    return app


def test_an_empty_stage_costs_nothing() -> None:
    """Methods that nobody overrides are not called at all."""
    assert compile_stages([]) == compile_stages([Middleware()]) == Stages()
    assert compile_stages([Tagger("a")]).before_run is None


def test_what_is_not_overridden_changes_nothing() -> None:
    """So that a middleware may call what stands above it."""
    signature: Signature[Any] = Signature("t")

    assert Middleware().before_send(signature) is signature


def test_before_send_may_replace_the_signature() -> None:
    """Each gets what the one before returned."""
    app = app_with(Tagger("a"), Middleware(), Tagger("b"))
    told: list[Any] = []
    app.task(name="tell")(tell_headers(told))

    app.send(Signature("tell"))
    burst(app)

    assert told == [{"tags": "ab"}]


def tell_headers(told: list[Any]) -> Any:
    """Return a task that keeps the headers it was sent with."""

    def tell(ctx: Context) -> None:
        told.append(dict(ctx.headers))

    return tell


@pytest.mark.parametrize("is_async", [False, True], ids=["thread", "loop"])
def test_stands_before_and_after_each_run(*, is_async: bool) -> None:
    """It sees success and failure, in both kinds of task."""
    watcher = Watcher()
    app = make_app(middlewares=[watcher])
    app.task(name="run")(arun if is_async else run)

    app.send(Signature("run", args=(1,)))
    burst(app)
    app.send(Signature("run", args=(0,)))
    burst(app)

    after = [("after", "SUCCESS", "NoneType"), ("after", "FAILURE", "ZeroDivisionError")]
    assert watcher.seen == [("before", "run"), after[0], ("before", "run"), after[1]]


def run(x: int) -> float:
    """Divide."""
    return 1 / x


async def arun(x: int) -> float:
    """Divide."""
    return 1 / x


def test_an_error_before_the_run_is_the_tasks_own() -> None:
    """What refuses a run makes it fail."""
    app = app_with(Refuser())

    result: Result[Any] = app.send(Signature("ok"))
    burst(app)

    assert (result.info().error_type, result.info().error) == ("PermissionError", "not today")


def test_an_error_after_the_run_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The outcome stands; the log tells of the error."""
    app = app_with(Clumsy())

    result: Result[Any] = app.send(Signature("ok"))
    burst(app)

    assert result.get(timeout=1) == "ok"
    assert "a middleware failed after ok" in caplog.text


def test_an_error_before_the_send_fails_the_send() -> None:
    """The caller hears of it, and nothing was sent."""

    class Strict(Middleware):
        """Sends nothing."""

        def before_send(self, signature: Signature[Any]) -> Signature[Any]:
            """Refuse."""
            raise PermissionError(signature.task)

    app = app_with(Strict())

    with pytest.raises(PermissionError, match="ok"):
        app.send(Signature("ok"))

    assert app.runtime.broker.counts(["default"])["default"].ready == 0


def test_retries_are_seen_as_such() -> None:
    """What is tried again is told apart from what failed for good."""
    watcher = Watcher()
    app = make_app(middlewares=[watcher])

    @app.task(name="again", retries=1)
    def again() -> None:
        raise Retry(after=0)

    again.send()
    burst(app)

    assert [entry[1] for entry in watcher.seen if entry[0] == "after"] == ["RETRY", "FAILURE"]
