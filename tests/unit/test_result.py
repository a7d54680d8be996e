"""The caller's handle: what it returns, and each way in which it cannot."""

import asyncio
import pickle
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from queuekit import Cancel, Context, Queuekit, Reject, ResultTimeout, State, TaskCancelled, TaskFailed, group
from queuekit.clock import SystemClock, VirtualClock
from queuekit.engines.waits import Wait
from queuekit.errors import NoBackendError, UnavailableError, UnknownIdError
from queuekit_testing.kit import in_thread
from support.waiting import PATIENCE, wait_until
from support.working import backend_of, burst, drive, finish, flaky_app, make_app, take, take_one, working


def divide(x: int, y: int) -> float:
    """Divide."""
    return x / y


def app_with_divide(**settings: Any) -> Queuekit:
    """Return an app with one task, ``divide``."""
    app = make_app(**settings)
    app.task(name="divide")(divide)
    return app


def make_flaky(**settings: Any) -> Queuekit:
    """Return an app with one task, ``divide``, whose engines can be cut off."""
    app = flaky_app(**settings)
    app.task(name="divide")(divide)
    return app


def test_returns_what_the_task_returned() -> None:
    """Here and, by the id alone, anywhere else."""
    app = app_with_divide()

    result = app.tasks["divide"].send(6, 3)
    burst(app)

    assert (result.get(timeout=1), app.result(result.id).get("1s")) == (2.0, 2.0)
    assert app.result(result.id).get(timedelta(seconds=1)) == 2.0


def test_waits_until_the_task_has_run() -> None:
    """Without a timeout it takes as long as it takes."""
    app = app_with_divide()
    result = app.tasks["divide"].send(6, 3)

    value = in_thread(result.get)
    burst(app)

    assert value.result(PATIENCE) == 2.0


def test_can_be_awaited() -> None:
    """Sending and waiting leave the event loop free."""
    app = app_with_divide()

    async def ask() -> Any:
        result = await app.tasks["divide"].asend(6, 3)
        return await result.aget(timeout=PATIENCE)

    with working(app):
        value = asyncio.run(ask())

    assert value == 2.0


def test_a_failure_is_raised_with_the_workers_traceback() -> None:
    """The error names task, id, type and text; its note is the traceback, which begins in the user's code."""
    app = app_with_divide()
    result = app.tasks["divide"].send(1, 0)
    burst(app)

    with pytest.raises(TaskFailed, match=r"divide .* failed: ZeroDivisionError: division by zero") as caught:
        result.get(timeout=1)

    assert (caught.value.task_id, caught.value.error_type) == (result.id, "ZeroDivisionError")
    assert "return x / y" in caught.value.__notes__[0]
    assert "queuekit/execute" not in caught.value.traceback


def test_a_failure_crosses_processes() -> None:
    """What a result raised can be pickled, note and all."""
    app = app_with_divide()
    result = app.tasks["divide"].send(1, 0)
    burst(app)
    with pytest.raises(TaskFailed) as caught:
        result.get(timeout=1)

    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes

    assert (str(copy), copy.traceback, copy.__notes__) == (
        str(caught.value),
        caught.value.traceback,
        caught.value.__notes__,
    )


def raising(error: BaseException) -> Any:
    """Return a task that raises *error*."""

    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        pytest.param(Cancel("no longer wanted"), TaskCancelled, "was cancelled", id="cancel"),
        pytest.param(Reject("bad address"), TaskFailed, "was dead-lettered: Reject: bad address", id="reject"),
        pytest.param(ValueError(), TaskFailed, "failed: ValueError", id="no-text"),
    ],
)
def test_says_how_it_ended(error: Exception, kind: type[Exception], text: str) -> None:
    """Each final state has its own words."""
    app = make_app()
    app.task(name="fail")(raising(error))
    result = app.tasks["fail"].send()
    burst(app)

    with pytest.raises(kind, match=text):
        result.get(timeout=1)


def test_says_that_it_expired() -> None:
    """A message that was not started in time has no other error."""
    app = app_with_divide(clock=(clock := VirtualClock()))
    result = app.tasks["divide"].options(expires=1).send(1, 2)
    clock.advance(2)
    burst(app)

    with pytest.raises(TaskFailed, match="was not started in time"):
        result.get(timeout=1)

    assert result.state is State.EXPIRED


def test_times_out(tmp_path: Path) -> None:
    """The task may still run; the handle can be asked again. The command that knows the reason is named."""
    app = app_with_divide(broker=f"sqlite:///{tmp_path / 'queue.db'}")
    result = app.tasks["divide"].send(1, 1)

    with pytest.raises(ResultTimeout, match=rf"no outcome within 0\.01 s; See:  queuekit why {result.id}"):
        result.get(timeout=0.01)

    burst(app)
    assert result.get(timeout=0) == 1.0


def test_names_no_command_that_would_not_see_the_message() -> None:
    """Commands do not see an engine that lives inside this process, so the error says who runs the message instead."""
    app = app_with_divide()
    result = app.tasks["divide"].send(1, 1)
    several = group(app.tasks["divide"].s(1, 1)).send()

    for wait in (result.get, several.get, lambda timeout: asyncio.run(result.aget(timeout))):
        with pytest.raises(ResultTimeout, match="memory:// lives inside this process: only a worker in it") as caught:
            wait(timeout=0.01)
        assert "queuekit why" not in str(caught.value)


def test_keeps_waiting_over_several_slices() -> None:
    """A long wait is made of short ones, which add up to the timeout and no more."""
    app = app_with_divide(clock=(clock := VirtualClock()), results_expire="400d")
    result = app.tasks["divide"].send(1, 1)

    waiting = drive(clock, in_thread(lambda: result.get(timeout=12)), step=0.5)

    assert isinstance(waiting.exception(), ResultTimeout)
    assert clock.monotonic() >= 12


def test_an_unknown_id_is_no_reason_to_wait() -> None:
    """Waiting for what nobody sent would never end."""
    app = make_app()

    with pytest.raises(UnknownIdError, match="nothing is known of 'id-1'") as caught:
        app.result("id-1").get(timeout=0)

    assert "results_expire" in caught.value.fix
    assert app.result("id-1").state is State.UNKNOWN


def test_a_forgotten_result_is_unknown() -> None:
    """``forget`` deletes outcome, progress and marks."""
    app = app_with_divide()
    result = app.tasks["divide"].send(1, 1)
    burst(app)

    result.forget()

    assert (result.state, result.progress) == (State.UNKNOWN, None)


def test_a_result_expires() -> None:
    """After ``results_expire`` nothing is known."""
    app = app_with_divide(clock=(clock := VirtualClock()), results_expire="10m")
    result = app.tasks["divide"].send(1, 1)
    burst(app)

    clock.advance(601)

    assert result.state is State.UNKNOWN


def test_an_ignored_result_cannot_be_had() -> None:
    """The error says that it is the task's wish."""
    app = make_app()
    task = app.task(name="divide", ignore_result=True)(divide)
    result = task.send(1, 1)
    burst(app)

    with pytest.raises(NoBackendError, match="the task ignores its result"):
        result.get()

    assert (result.stored, app.result(result.id).state) == (False, State.UNKNOWN)


def test_one_send_may_ignore_or_keep_its_result() -> None:
    """The call's option wins over the task's."""
    app = make_app()
    task = app.task(name="divide", ignore_result=True)(divide)

    kept = task.options(ignore_result=False).send(1, 1)
    burst(app)

    assert kept.get(timeout=1) == 1.0


def test_without_backend_there_are_no_results() -> None:
    """The error names broker and backend and says what to set."""
    app = app_with_divide(backend="none")
    result = app.tasks["divide"].send(1, 1)

    with pytest.raises(NoBackendError):
        result.get()
    with pytest.raises(NoBackendError, match="a result needs a result backend") as caught:
        app.result(result.id).get()

    assert "memory://" in caught.value.where
    assert "backend =" in caught.value.fix


def test_tells_the_progress_of_a_task() -> None:
    """The last report, from the thread and from another process alike."""
    app = make_app()

    @app.task(name="count")
    def count(ctx: Context) -> None:
        ctx.progress(1, 2, "half")

    result = count.send()
    before = result.progress
    burst(app)

    assert (before, result.progress) == (None, (1, 2, "half"))


def test_tells_times_and_worker() -> None:
    """Sent, started, finished, in this order, and who ran it."""
    app = app_with_divide()
    result = app.tasks["divide"].send(1, 1)
    worker = burst(app)

    info = result.info()

    assert info.sent is not None and info.started is not None and info.finished is not None  # noqa: PT018 - for types
    assert info.sent <= info.started <= info.finished
    assert (info.worker, info.task, info.queue) == (worker.name, "divide", "default")


def test_handles_of_one_id_are_equal() -> None:
    """They can be compared, put into sets, and shown."""
    app = make_app()

    assert app.result("id-1") == app.result("id-1") != app.result("id-2")
    assert len({app.result("id-1"), app.result("id-1")}) == 1
    assert repr(app.result("id-1")) == "<result id-1>"


def test_is_ready_when_the_worker_says_so() -> None:
    """A state is what the record says at the moment."""
    app = app_with_divide()
    result = app.tasks["divide"].send(1, 1)
    before = result.state

    with working(app):
        wait_until(lambda: result.state is State.SUCCESS)

    assert before is State.PENDING


def test_a_wait_outlives_a_restart_of_the_engine() -> None:
    """While the engine is gone nothing is raised, and what has come meanwhile is returned."""
    app = make_flaky()
    result = app.tasks["divide"].send(6, 3)
    wire = backend_of(app).wire
    wire.cut = {"wait", "get"}

    value = in_thread(lambda: result.get(timeout=60))
    wait_until(lambda: wire.calls.count("wait") > 1, "a second try")
    wire.cut = set()
    finish(app, take_one(app))

    assert value.result(60) == 2.0


def test_a_group_outlives_a_restart_of_the_engine() -> None:
    """Handles on workflows go on as well."""
    app = make_flaky()
    result = app.send(group([app.tasks["divide"].s(6, 3), app.tasks["divide"].s(6, 2)]))
    wire = backend_of(app).wire
    wire.cut = {"wait", "get"}

    value = in_thread(lambda: result.get(timeout=60))
    wait_until(lambda: wire.calls.count("get") > 1, "a second try")
    wire.cut = set()
    for delivery in take(app, 2):
        finish(app, delivery)

    assert value.result(60) == [2.0, 3.0]


def test_a_timeout_during_an_outage_says_why() -> None:
    """It is the caller's own timeout that ends the wait; the cause is what the engine said."""
    app = make_flaky(clock=(clock := VirtualClock()))
    result = app.tasks["divide"].send(6, 3)
    backend_of(app).wire.cut = {"wait", "get"}

    late = drive(clock, in_thread(lambda: result.get(timeout=7)), step=0.5)

    assert isinstance(error := late.exception(), ResultTimeout)
    assert isinstance(error.__cause__, UnavailableError)
    assert "no outcome within 7 s: no answer to wait" in str(error)
    assert clock.monotonic() >= 7


def test_what_will_not_pass_is_raised_at_once() -> None:
    """A wrong password is not tried again."""
    app = make_flaky()
    result = app.tasks["divide"].send(6, 3)
    refusal = UnavailableError("wrong password")
    refusal.passing = False

    def refuse() -> None:
        raise refusal

    backend_of(app).wire.answers["wait"] = refuse

    with pytest.raises(UnavailableError, match="wrong password"):
        result.get(timeout=60)


def test_looks_soon_whether_an_id_is_known_at_all() -> None:
    """The first look comes within a second, later ones as rarely as they may."""
    wait = Wait(None, SystemClock())

    first = wait.step
    wait.answered()

    assert first < 1
    assert wait.step == 5
