"""``on_retry``, ``on_skip`` and ``on_dead``: called once it is stored what became of a message."""

import contextvars
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from queuekit import Context, Fixed, Middleware, Reject, Result, Retry, Signature, Snooze
from queuekit.broker import Place, Release
from queuekit.control import Cancel
from queuekit.envelope import Envelope
from queuekit.execution.outcome_hooks import OutcomeHooks
from queuekit.wire.records import cancel_mark
from support.working import burst, executor_of, finish, inside, make_app, prepared, take_one

PAST = datetime(2020, 1, 1, tzinfo=UTC)
trace = contextvars.ContextVar("trace", default="none")


class Observer(Middleware):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.contexts: list[Context] = []
        self.where: list[tuple[str, str]] = []

    def _keep(self, context: Context, *facts: Any) -> None:
        self.seen.append(facts)
        self.contexts.append(context)
        self.where.append((threading.current_thread().name, trace.get()))

    def on_retry(self, context: Context, error: str, delay: float) -> None:
        """Keep it."""
        self._keep(context, "retry", error, delay)

    def on_skip(self, context: Context, reason: str) -> None:
        """Keep it."""
        self._keep(context, "skip", reason)

    def on_dead(self, context: Context, reason: str, error: str) -> None:
        """Keep it."""
        self._keep(context, "dead", reason, error)


@pytest.fixture
def observer() -> Observer:
    """The middleware."""
    return Observer()


@pytest.fixture(params=["worker", "eager"])
def run(request: pytest.FixtureRequest, observer: Observer) -> Callable[..., Result[Any]]:
    """Send one call of a function to its end, and return its result."""

    def sent(function: Callable[..., Any], *, signature: dict[str, Any] | None = None, **options: Any) -> Result[Any]:
        app = make_app(middlewares=[observer], eager=request.param == "eager")
        result: Result[Any] = app.task(name="t", **options)(function).options(**(signature or {})).send()
        if not app.config.eager:
            burst(app)
        return result

    return sent


def raising(error: BaseException) -> Callable[[], None]:
    """Return a body that raises *error*."""

    def body() -> None:
        raise error

    return body


def test_says_nothing_of_a_success(run: Callable[..., Result[Any]], observer: Observer) -> None:
    """Which ``after_run`` tells."""
    run(lambda: None)

    assert not observer.seen


def test_tells_of_each_retry_and_of_the_end(run: Callable[..., Result[Any]], observer: Observer) -> None:
    """With the error and the seconds until the next attempt; after the last one the message is dead."""
    result = run(raising(ValueError("no")), retries=2, retry=Fixed(0))

    again = ("retry", "ValueError: no", 0.0)
    assert observer.seen == [again, again, ("dead", "failed", "ValueError: no")]
    assert [(context.id, context.task, context.attempt) for context in observer.contexts] == [
        (result.id, "t", attempt) for attempt in range(3)
    ]


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (Reject("never"), ("dead", "rejected", "Reject: never")),
        (Retry(after=0), ("dead", "failed", "Retry: ")),
        (SystemExit(3), ("dead", "failed", "SystemExit: 3")),
    ],
    ids=["reject", "retry", "exit"],
)
def test_tells_why_a_message_died(
    run: Callable[..., Result[Any]], observer: Observer, error: BaseException, facts: Any
) -> None:
    """With the reason of its dead letter."""
    run(raising(error), retries=0)

    assert [(word, reason) for word, reason, *_ in observer.seen] == [facts[:2]]
    assert observer.seen[0][2].startswith(facts[2].partition(":")[0])


@pytest.mark.parametrize("error", [Snooze(0), Cancel("needless")], ids=["snooze", "cancel"])
def test_says_nothing_of_a_body_that_put_itself_off_or_ended_itself(observer: Observer, error: BaseException) -> None:
    """It ran, so ``after_run`` tells of it."""
    app = make_app(middlewares=[observer])
    app.task(name="t")(raising(error))
    app.send(Signature("t"))

    finish(app, take_one(app))

    assert not observer.seen


def test_tells_of_what_expired(run: Callable[..., Result[Any]], observer: Observer) -> None:
    """It never ran."""
    run(lambda: None, signature={"expires": PAST})

    assert observer.seen == [("skip", "expired")]


def test_tells_of_what_was_cancelled_before_it_ran(observer: Observer) -> None:
    """The task is named, although nothing of it was read."""
    app = make_app(middlewares=[observer])
    result: Result[Any] = app.task(name="t")(lambda: None).send()
    app.runtime.need_backend("a test").put([cancel_mark(result.id, ttl=60)])

    burst(app)

    assert observer.seen == [("skip", "cancelled")]
    assert (observer.contexts[0].id, observer.contexts[0].task) == (result.id, "t")


def test_tells_of_what_had_already_ended(observer: Observer) -> None:
    """A message that is delivered again after its outcome was stored does not run again."""
    app = make_app(middlewares=[observer])
    app.task(name="t")(lambda: None)
    app.send(Signature("t"))
    outcome = executor_of(app).call(prepared(app))
    app.runtime.need_backend("a test").put(outcome.records)
    app.runtime.broker.settle([Release(outcome.delivery)])

    burst(app)

    assert observer.seen == [("skip", "done")]


def test_tells_of_malformed_messages(observer: Observer) -> None:
    """Whose task is not known, since nothing can be read."""
    app = make_app(middlewares=[observer])
    app.runtime.broker.send([Envelope(id="hostile", queue="default", body=b"\xff\x00")])

    burst(app)

    assert [facts[:2] for facts in observer.seen] == [("dead", "malformed")]
    assert (observer.contexts[0].id, observer.contexts[0].task) == ("hostile", "")


def test_is_called_after_the_outcome_is_stored(observer: Observer) -> None:
    """So that a message that it calls dead can be found among the dead letters."""
    found: list[int] = []

    class Looking(Middleware):
        def on_dead(self, context: Context, reason: str, error: str) -> None:
            found.append(len(inside(app, Place.DEAD)))

    app = make_app(middlewares=[Looking()])
    app.task(name="t")(raising(ValueError()))
    app.send(Signature("t"))
    burst(app)

    assert found == [1]


def test_stands_in_the_thread_that_stores_outcomes(observer: Observer) -> None:
    """Without the variables of the run, which has ended."""

    def body() -> None:
        trace.set("the body's")
        raise ValueError

    app = make_app(middlewares=[observer])
    app.task(name="t")(body).send()
    burst(app)

    assert observer.where == [("queuekit-settler", "none")]


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_an_error_stops_neither_the_others_nor_the_worker(
    observer: Observer, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the next message is stored."""

    class Clumsy(Observer):
        def _keep(self, context: Context, *facts: Any) -> None:
            raise error

    app = make_app(middlewares=[Clumsy(), observer])
    failing = app.task(name="t", retries=1, retry=Fixed(0))(raising(ValueError()))
    fine = app.task(name="fine")(lambda: 1)
    failing.send()
    failing.options(expires=PAST).send()
    burst(app)

    assert fine.send().id
    burst(app)

    assert {facts[0] for facts in observer.seen} == {"retry", "dead", "skip"}
    assert not inside(app, Place.READY)
    assert caplog.text.count("a middleware failed after the outcome of") == 3


def test_nobody_is_told_what_became_of_a_lost_lease(observer: Observer) -> None:
    """The outcome was refused, and another worker decides."""
    app = make_app(middlewares=[observer])
    app.task(name="t", retries=1)(raising(ValueError()))
    app.send(Signature("t"))
    outcome = executor_of(app).call(prepared(app))

    outcome.status = "lost"
    OutcomeHooks(app.runtime.stages, worker="w-1").call([outcome])

    assert not observer.seen
