"""Pause and resume: what is recorded, by whom, and which workers have obeyed."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from queuekit import Queuekit
from queuekit.backend import Record
from queuekit.errors import NoBackendError, OptionError, QueuekitError, UnavailableError, UnknownIdError
from queuekit.ids import InvalidNameError
from queuekit.operations.admin import Admin
from queuekit.operations.pauses import NotPausedError, drain, obedience, pause, resume, resume_command, until_obeyed
from queuekit.wire.pauses import Pause
from queuekit.wire.presence import TTL
from queuekit.wire.records import worker_key
from support.working import make_app


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """Return an app."""
    made = make_app()
    yield made
    made.close()


def present(app: Queuekit, name: str, *, quiet: float = 0.0, **fields: Any) -> None:
    """Write the presence record of a worker of the default queue."""
    body = json.dumps({"name": name, "queues": ["default"], **fields}).encode()
    app.runtime.need_backend("a test").put([Record(key=worker_key(name), body=body, ttl=TTL - quiet)])


def test_a_second_pause_replaces_the_first(app: Queuekit) -> None:
    """There is one pause of a queue, and one of a task for the same arguments."""
    admin = Admin(app)
    pause(admin, queue="mail", by="ann")
    pause(admin, task="t", where=[("b", "1"), ("a", "2")])
    pause(admin, task="t", where=[("a", "2"), ("b", "1")], by="bob")
    pause(admin, queue="mail", by="bob", why="again", lasts=60.0)

    (task, queue) = admin.pauses()

    assert (task.where, task.by, task.left) == ((("a", "2"), ("b", "1")), "bob", None)
    assert (queue.queue, queue.by, queue.why) == ("mail", "bob", "again")
    assert 59 < (queue.left or 0.0) <= 60


@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param({}, "needs a queue or a task, got queue='' and task=''", id="nothing"),
        pytest.param({"queue": "mail", "task": "t"}, "got queue='mail' and task='t'", id="both"),
        pytest.param({"queue": "mail", "where": [("a", "1")]}, "selects messages of a task", id="where"),
        pytest.param({"queue": "mail", "lasts": 0.0}, "longer than 0", id="zero"),
        pytest.param({"queue": "mail", "lasts": -5.0}, "expected a duration", id="negative"),
        pytest.param({"queue": "mail", "lasts": float("inf")}, "expected a duration", id="endless"),
        pytest.param({"queue": "mail", "lasts": float("nan")}, "expected a duration", id="nan"),
    ],
)
def test_refuses_a_pause_of_nothing(app: Queuekit, given: dict[str, Any], text: str) -> None:
    """It would be reported as paused, and no worker would leave anything alone."""
    with pytest.raises(QueuekitError, match=text):
        pause(Admin(app), **given)

    assert (Admin(app).pauses(), Admin(app).actions()) == ([], [])


@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param({"queue": "q", "why": "x" * 501}, "the reason of a pause has 501 .* limit of 500", id="why"),
        pytest.param({"queue": "q", "by": "x" * 201}, "the name of who does this has 201 .* limit of 200", id="by"),
        pytest.param({"task": "x" * 501}, "the queue or task of a pause has 501", id="task"),
        pytest.param({"task": "t", "where": [("a", "x" * 499)]}, "where= of a pause has 501", id="where"),
    ],
)
def test_refuses_texts_that_are_too_long(app: Queuekit, given: dict[str, Any], text: str) -> None:
    """Each worker reads them every two seconds."""
    with pytest.raises(OptionError, match=text):
        pause(Admin(app), **given)

    assert (Admin(app).pauses(), Admin(app).actions()) == ([], [])
    rest = {name: value for name, value in given.items() if name != "why"}
    if rest != {"queue": "q"}:
        with pytest.raises(OptionError, match=text):
            resume(Admin(app), **rest)


def test_keeps_the_longest_texts(app: Queuekit) -> None:
    """In the pause, and in the record of the action."""
    pause(Admin(app), queue="q", by="b" * 200, why="w" * 500)

    assert [(one.by, one.why) for one in Admin(app).pauses()] == [("b" * 200, "w" * 500)]
    assert [(one.by, one.why) for one in Admin(app).actions()] == [("b" * 200, "w" * 500)]


def test_refuses_more_pauses_than_fit_one_record(app: Queuekit) -> None:
    """Those that there are stay, can be replaced by shorter ones, and can be ended."""
    admin, long = Admin(app), partial(pause, Admin(app), by="ann", why="\N{SNOWMAN}" * 500)
    for number in range(20):
        long(task=f"t{number}")

    with pytest.raises(OptionError, match=r"the record of 21 pauses would have .* limit of 64,000"):
        long(task="more")

    assert [one.task for one in admin.pauses()] == [f"t{number}" for number in range(20)]
    pause(admin, task="t0", by="ann")
    long(task="more")
    assert len(resume(admin, everything=True)) == 21


def test_resumes_a_task_with_all_its_arguments(app: Queuekit) -> None:
    """Or one of its pauses, or all there are."""
    admin = Admin(app)
    for where in ([], [("a", "1")], [("a", "2")]):
        pause(admin, task="t", where=where)
    pause(admin, queue="mail")

    assert [one.where for one in resume(admin, task="t", where=[("a", "2")])] == [(("a", "2"),)]
    assert len(resume(admin, task="t")) == 2
    assert [one.queue for one in resume(admin, everything=True)] == ["mail"]
    assert resume(admin, everything=True) == []


def test_each_is_recorded(app: Queuekit) -> None:
    """With the name of the person and the reason."""
    admin = Admin(app)
    pause(admin, queue="mail", by="ann", why="full")
    resume(admin, queue="mail", by="bob")

    found = [(action.what, action.by, action.on, action.why) for action in admin.actions()]

    assert sorted(found) == [("pause", "ann", "the queue 'mail'", "full"), ("resume", "bob", "the queue 'mail'", "")]


def test_refuses_what_is_not_paused(app: Queuekit) -> None:
    """With what may be meant."""
    pause(Admin(app), queue="mail")

    with pytest.raises(NotPausedError, match=r"'mial' is not paused; did you mean 'mail'\?"):
        resume(Admin(app), queue="mial")


def test_refuses_what_cannot_be_paused(app: Queuekit) -> None:
    """A name that no queue can have; and without a backend there is no record that workers could read."""
    with pytest.raises(InvalidNameError):
        pause(Admin(app), queue="no such")
    alone = make_app(backend="none")
    with pytest.raises(NoBackendError, match="a pause, which workers read from it, needs a result backend"):
        pause(Admin(alone), queue="mail")
    assert Admin(alone).pauses() == []
    alone.close()


def test_two_operators_at_once(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither loses the pause of the other; one who never gets through is told so."""
    admin, backend = Admin(app), app.runtime.need_backend("a test")
    read = backend.get
    others = iter(["a", "b"])

    def get(keys: Any) -> Any:
        found = read(keys)
        monkeypatch.setattr(backend, "get", read)
        pause(admin, queue=next(others))
        return found

    monkeypatch.setattr(backend, "get", get)
    pause(admin, queue="c")
    assert [one.queue for one in admin.pauses()] == ["a", "c"]

    monkeypatch.setattr(backend, "put", lambda *_, **__: [False])
    with pytest.raises(UnavailableError, match="others are changing what is paused"):
        pause(admin, queue="d")


def test_says_which_workers_have_obeyed(app: Queuekit) -> None:
    """Those that report it; one that has fallen silent has not, whatever it reported before."""
    made, old = Pause(mark="m-1", queue="default"), Pause(mark="m-0", queue="default")
    present(app, "w-1", paused=["m-1"])
    present(app, "w-2", paused=["m-0"])
    present(app, "w-3", paused=["m-1"], quiet=60.0)
    present(app, "w-4", queues=["mail"])

    found = obedience(Admin(app), paused=[made], resumed=[old])

    assert found is not None
    assert ([one.name for one in found.obeyed], [one.name for one in found.others]) == (["w-1"], ["w-2", "w-3"])
    assert not found.is_complete


def test_a_task_concerns_all_workers(app: Queuekit) -> None:
    """Whatever they serve."""
    present(app, "w-1", queues=["mail"], paused=["m"])

    found = obedience(Admin(app), paused=[Pause(mark="m", task="t")])

    assert found is not None
    assert found.is_complete


def test_waits_for_those_that_live(app: Queuekit) -> None:
    """Until all have obeyed, or the time is over; for a silent one it does not wait."""
    made = Pause(mark="m", queue="default")
    present(app, "w-1")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            present(app, "w-1", paused=["m"])

    found = until_obeyed(Admin(app), paused=[made], sleep=sleep)
    present(app, "w-1", quiet=60.0)
    silent = until_obeyed(Admin(app), paused=[made], sleep=sleep)
    present(app, "w-1")
    late = until_obeyed(Admin(app), paused=[made], sleep=slept.append, patience=1.0)

    assert (found and found.is_complete, silent and silent.is_complete, late and late.is_complete) == (
        True,
        False,
        False,
    )
    assert len(slept) == 3 + 5


def test_the_command_that_ends_a_pause() -> None:
    """Ready to paste, whatever the names are."""
    assert resume_command(Pause(mark="m", queue="mail")) == "resume mail"
    where = (("to", "a; reboot"),)
    assert resume_command(Pause(mark="m", task="t.*", where=where)) == "resume --task 't.*' --where 'to=a; reboot'"


def test_drains_a_worker_by_its_name_or_process(app: Queuekit) -> None:
    """One that is not there is an error, and so is a process id that workers on several hosts have."""
    present(app, "a-1", pid=1)
    present(app, "b-1", pid=1)
    present(app, "b-2", pid=2)
    admin = Admin(app)

    assert (drain(admin, "b-1").name, drain(admin, "2").name) == ("b-1", "b-2")
    with pytest.raises(UnknownIdError, match="1 is the process of 2 workers"):
        drain(admin, "1")
    with pytest.raises(UnknownIdError, match=r"no worker is named 'b-3'; did you mean 'b-\d'\?"):
        drain(admin, "b-3")
    assert [(action.what, action.on) for action in admin.actions()] == [("drain", "b-2"), ("drain", "b-1")]
