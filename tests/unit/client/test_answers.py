"""Answers that were untrue: why there is no result, that a task has begun, and what happened while one listened."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from queuekit import Context, Queuekit, State, group
from queuekit.errors import NoBackendError
from queuekit.events import Event, TaskFinished, TaskStarted
from support.waiting import PATIENCE, wait_until
from support.working import make_app, working


def _add(x: int, y: int = 1) -> int:
    return x + y


async def _aget(task: Any) -> Any:
    return await task.send(1).aget(timeout=0)


@pytest.mark.parametrize("way", ["get", "aget", "group"])
def test_no_backend_is_the_reason_where_there_is_none(way: str) -> None:
    """The task does not ignore its results: there is nowhere to keep them."""
    app = make_app(backend="none")
    task = app.task(name="t")(_add)

    ways: dict[str, Callable[[], Any]] = {
        "get": lambda: task.send(1).get(timeout=0),
        "aget": lambda: asyncio.run(_aget(task)),
        "group": lambda: group(task.s(1)).send().get(timeout=0),
    }

    with pytest.raises(NoBackendError, match="a result needs a result backend, and none is configured"):
        ways[way]()


def test_the_task_is_the_reason_where_it_ignores_its_results() -> None:
    """With a backend, it is the task that keeps none."""
    task = make_app().task(name="t", ignore_result=True)(_add)

    with pytest.raises(NoBackendError, match="the task ignores its result"):
        task.send(1).get(timeout=0)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("mode", ["worker", "eager"])
def test_events_reach_who_subscribes_later(mode: str, is_async: bool) -> None:  # noqa: FBT001 - a parameter of a test
    """Also after the first message was run, and with the log of tasks off."""

    async def aadd(x: int) -> int:
        return x + 1

    app = make_app(eager=mode == "eager")
    task: Any = app.task(name="t")(aadd if is_async else _add)
    found: list[Event] = []

    def run() -> None:
        task.send(1).get(timeout=PATIENCE)
        app.events.subscribe(found.append)
        task.send(1).get(timeout=PATIENCE)
        wait_until(lambda: any(isinstance(event, TaskFinished) for event in found))

    if mode == "eager":
        run()
    else:
        with working(app):
            run()

    kinds = [type(event) for event in found if isinstance(event, TaskStarted | TaskFinished)]
    assert kinds == [TaskStarted, TaskFinished]


@pytest.mark.parametrize("track", [False, True])
def test_a_task_that_reports_progress_has_started(track: bool) -> None:  # noqa: FBT001 - a parameter of a test
    """Its state says so, though it is not tracked."""
    app = make_app(eager=True)
    seen: list[Any] = []

    @app.task(name="t", track=track)
    def reporting(ctx: Context) -> int:
        ctx.progress(1, 4)
        info = app.info(ctx.id)
        seen.extend([info.state, info.worker, app.result(ctx.id).progress])
        return 7

    result = reporting.send()

    assert seen == [State.STARTED, "eager", (1, 4, "")]
    assert (result.get(timeout=0), result.state) == (7, State.SUCCESS)


def test_progress_of_a_task_that_ignores_results_leaves_no_state() -> None:
    """Nothing would ever end it."""
    app = make_app(eager=True)

    @app.task(name="t", ignore_result=True)
    def reporting(ctx: Context) -> None:
        ctx.progress(1)

    result = reporting.send()

    assert (result.state, result.progress) == (State.UNKNOWN, (1, None, ""))


def test_progress_in_a_worker_says_that_it_has_started() -> None:
    """As seen from outside while the body runs."""
    import threading

    app: Queuekit = make_app()
    go = threading.Event()

    @app.task(name="t")
    def reporting(ctx: Context) -> None:
        ctx.progress(1)
        go.wait(PATIENCE)

    result = reporting.send()
    with working(app):
        wait_until(lambda: result.progress is not None)
        state = result.state
        go.set()
        result.get(timeout=PATIENCE)

    assert state is State.STARTED
