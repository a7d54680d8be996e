"""What an app declares: tasks and workflows with a schedule each, refused at once where that cannot be."""

from datetime import timedelta
from typing import Any

import pytest

from queuekit import Queuekit, Signature, chain, cron, every
from queuekit.errors import ArgumentsError, ScheduleError
from queuekit.schedules.schedule import Schedule


@pytest.fixture
def app() -> Queuekit:
    """Return an app with a task."""
    app = Queuekit(broker="memory://")
    app.task(name="add")(_add)
    return app


def _add(x: int, y: int = 1) -> int:
    return x + y


def test_task_is_declared_and_stays_a_task(app: Queuekit) -> None:
    """The decorator gives the task back, so it can be called and sent as before."""

    @app.periodic(every("30s"))
    @app.task(name="beat")
    def beat(x: int = 1) -> int:
        return x

    assert beat(2) == 2
    assert list(app.declared) == ["beat"]
    assert app.declared["beat"].call == beat.si()


def test_coroutine_task_is_declared(app: Queuekit) -> None:
    """A coroutine is a task like any other."""

    @app.periodic(cron("@daily"), name="a-daily")
    @app.task
    async def beat() -> None: ...

    assert app.declared["a-daily"].when == cron("@daily")
    assert beat.is_async


def test_one_task_has_several_schedules(app: Queuekit) -> None:
    """Each with a name and arguments of its own."""
    task = app.tasks["add"]

    app.periodic(every("1m"), name="one", args=[1])(task)
    app.periodic(every("1h"), name="two", kwargs={"x": 2}, misfire="all", overlap="skip", grace="5m")(task)

    one, two = app.declared["one"], app.declared["two"]
    assert isinstance(one.call, Signature)
    assert isinstance(two.call, Signature)
    assert (one.call.args, two.call.kwargs) == ((1,), {"x": 2})
    assert (two.misfire, two.overlap, two.grace) == ("all", "skip", 300.0)


def test_call_is_declared(app: Queuekit) -> None:
    """A signature has its task's name unless it gets another; a workflow needs one."""
    schedule = app.periodic(every("1m"), Signature("add", (1,)))
    app.periodic(every("1m"), chain(Signature("add", (1,)), Signature("add")), name="flow")

    assert isinstance(schedule, Schedule)
    assert list(app.declared) == ["add", "flow"]


def test_task_and_signature_are_declared_alike(app: Queuekit) -> None:
    """A call of a task may be written as the task and its arguments, here and where schedules are added."""
    task = app.tasks["add"]

    schedule = app.periodic(every("1m"), task, name="one", args=[1], kwargs={"y": 2})
    app.periodic(every("1m"), Signature("add", (1,), {"y": 2}, immutable=True), name="two")
    app.task(name="tidy")(lambda: None)
    added = app.schedules.add("three", every("1m"), app.tasks["tidy"])

    assert schedule.call == app.declared["two"].call
    assert added.entry.about == "tidy"


def test_same_declaration_may_come_again(app: Queuekit) -> None:
    """A module that is imported twice declares the same, and that is fine."""
    for _ in range(2):
        app.periodic(every("1m"), Signature("add", (1,)))

    assert len(app.declared) == 1


def test_wrong_arguments_are_refused_where_they_are_written(app: Queuekit) -> None:
    """A call that the task cannot take fails when the module is imported, not at three in the morning."""
    with pytest.raises(ArgumentsError, match="missing a required argument: 'x'"):
        app.periodic(every("1m"))(app.tasks["add"])
    with pytest.raises(ArgumentsError, match="missing a required argument: 'x'"):
        app.periodic(every("1m"), app.tasks["add"])


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        pytest.param(lambda app: app.periodic(every("1m"))(_add), "above @app.task", id="no-task"),
        pytest.param(lambda app: app.periodic("1m", Signature("add")), "when must be", id="no-when"),
        pytest.param(lambda app: app.periodic(every("1m"), chain(Signature("add"))), "needs a name", id="no-name"),
        pytest.param(
            lambda app: app.periodic(every("1m"), Signature("add", id="x")), "cannot have an id", id="with-id"
        ),
        pytest.param(
            lambda app: app.periodic(every("1m"), chain(Signature("add"), id="x"), name="n"),
            "cannot have an id",
            id="flow-with-id",
        ),
        pytest.param(
            lambda app: [app.periodic(every(1), Signature("add")), app.periodic(every(2), Signature("add"))],
            "two schedules",
            id="name-twice",
        ),
        pytest.param(lambda app: app.periodic(every("1m"), Signature("add"), name="x" * 101), "too long", id="long"),
        pytest.param(lambda app: app.periodic(every("1m"), Signature("add"), args=[1]), "are for a task", id="args"),
        pytest.param(lambda app: app.periodic(every("1m"), Signature("add"), misfire="never"), "misfire", id="misfire"),
        pytest.param(lambda app: app.periodic(every("1m"), Signature("add"), overlap="never"), "overlap", id="overlap"),
    ],
)
def test_what_cannot_be_is_refused(app: Queuekit, declare: Any, says: str) -> None:
    """Each mistake is told where it is made, with what to write instead."""
    with pytest.raises((ScheduleError, ValueError), match=says):
        declare(app)


@pytest.mark.parametrize(
    ("when", "fix"),
    [
        ("every 5s", 'Write every("5s")'),
        ("@every 5s", 'Write every("5s")'),
        ("5s", 'Write every("5s")'),
        (90, 'Write every("1m30s")'),
        (timedelta(minutes=1), 'Write every("1m")'),
        ("0 3 * * *", 'Write cron("0 3 * * *")'),
        ("@daily", 'Write cron("@daily")'),
        ("daily", 'Write every("30s"), cron("0 3 * * *", tz="Europe/Berlin") or cron("@daily")'),
        (None, 'Write every("30s"), cron("0 3 * * *", tz="Europe/Berlin") or cron("@daily")'),
    ],
)
def test_says_how_a_moment_is_written_in_code(app: Queuekit, when: Any, fix: str) -> None:
    """What the command line takes as text is given in code as every(...) or cron(...): the error has the very words."""
    with pytest.raises(ScheduleError, match="when must be every") as caught:
        app.schedules.add("zz", when, Signature("add"))

    assert caught.value.fix == fix


def test_moment_of_its_own_is_refused(app: Queuekit) -> None:
    """What is sent again and again cannot have one moment before which it must not start."""
    from datetime import UTC, datetime

    with pytest.raises(ScheduleError, match="eta"):
        app.periodic(every("1m"), Signature("add", eta=datetime(2030, 1, 1, tzinfo=UTC)))
