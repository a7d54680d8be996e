"""A message whose result is ignored leaves no record of how it ended, unless it lies among the dead letters."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from queuekit import Queuekit
from queuekit.control import Cancel
from queuekit.execution.outcome import Outcome
from queuekit.wire.records import cancel_mark, result_key
from support.working import burst, executor_of, make_app, take_one

PAST = datetime(2020, 1, 1, tzinfo=UTC)

IGNORED = [
    pytest.param({"ignore_result": True}, {}, id="task"),
    pytest.param({}, {"ignore_result": True}, id="call"),
    pytest.param({"ignore_result": True}, {"retries": 2}, id="task-of-a-call-with-options"),
]


@pytest.fixture(params=["memory", "sqlite", "eager"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Queuekit:
    """Return an app on one engine, or in eager mode."""
    settings: dict[str, Any] = {"sqlite": {"broker": f"sqlite:///{tmp_path}/q.db"}, "eager": {"eager": True}}
    return make_app(**settings.get(request.param, {}))


def work(app: Queuekit) -> None:
    """Let a worker run what waits; in eager mode that has been done."""
    if not app.config.eager:
        burst(app)


def states(app: Queuekit, id: str) -> list[str | None]:
    """Return the state that is recorded of a message, if any is."""
    return [record.state for record in app.runtime.need_backend("a test").get([result_key(id)]).values()]


def cancel() -> None:
    """Cancel itself."""
    raise Cancel("changed my mind")


@pytest.mark.parametrize(("options", "call"), IGNORED)
def test_an_expired_message_leaves_no_record(app: Queuekit, options: Any, call: Any) -> None:
    """Whether its task or its call says that the result is ignored."""
    task = app.task(name="t", **options)(print)
    result = task.options(expires=PAST, **call).send()

    work(app)

    assert states(app, result.id) == []


@pytest.mark.parametrize(("options", "call"), IGNORED)
def test_a_message_that_cancels_itself_leaves_no_record(app: Queuekit, options: Any, call: Any) -> None:
    """That is no result either."""
    task = app.task(name="t", **options)(cancel)
    result = task.options(**call).send()

    work(app)

    assert states(app, result.id) == []


@pytest.mark.parametrize(("options", "call"), IGNORED)
@pytest.mark.parametrize("app", ["memory", "sqlite"], indirect=True)
def test_a_message_that_is_cancelled_while_it_waits_leaves_no_record(app: Queuekit, options: Any, call: Any) -> None:
    """A worker that finds the mark drops it."""
    task = app.task(name="t", **options)(print)
    result = task.options(**call).send()
    app.runtime.need_backend("a test").put([cancel_mark(result.id, ttl=60)])

    work(app)

    assert states(app, result.id) == []


@pytest.mark.parametrize(("options", "call"), IGNORED)
def test_a_tracked_message_leaves_no_record_of_its_way(app: Queuekit, options: Any, call: Any) -> None:
    """Nothing would ever end that record."""
    task = app.task(name="t", track=True, **options)(print)
    result = task.options(**call).send()

    work(app)

    assert states(app, result.id) == []


@pytest.mark.parametrize("function", [print, cancel], ids=["expired", "cancelled"])
def test_a_call_may_want_what_its_task_ignores(app: Queuekit, function: Any) -> None:
    """What the call says comes first."""
    task = app.task(name="t", ignore_result=True)(function)
    result = task.options(ignore_result=False, expires=PAST if function is print else None).send()

    work(app)

    assert states(app, result.id) == ["EXPIRED" if function is print else "CANCELLED"]


def test_a_worker_that_does_not_know_the_task_records_its_end() -> None:
    """Only who knows a task knows that its results are ignored; what the call says is told by the message."""
    sender, other = make_app(broker="memory://ignored-unknown"), make_app(broker="memory://ignored-unknown")
    task = sender.task(name="t", ignore_result=True)(print)
    task.options(expires=PAST).send()

    outcome = executor_of(other).prepare(take_one(other), {})

    assert isinstance(outcome, Outcome)
    assert [record.state for record in outcome.records] == ["EXPIRED"]
