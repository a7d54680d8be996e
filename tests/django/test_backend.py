"""The backend of ``django.tasks``: what a call becomes, and what its result says."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("django.tasks", reason="Django 6 needs Python 3.12 or later; `tox -e django` runs these tests")

from bookshop import tasks
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.tasks import TaskResultStatus, default_task_backend, task, task_backends
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
from django.test import override_settings

from queuekit.backend import Record
from queuekit.broker import Place
from queuekit.envelope import join_frame
from queuekit.errors import OptionError, TaskCancelled, UniqueConflictError
from queuekit.limits import Rate
from queuekit.retry import Fixed
from queuekit.unique import UniqueKey
from queuekit_django import QueuekitTask, app_of
from queuekit_django import task as typed_task
from queuekit_django.stored import DjangoCall, FailedRun, read_call
from queuekit_django.task_class import level_of

each_engine = pytest.mark.parametrize("options", ["sqlite", "redis", "mongo"], indirect=True)
READY, SUCCESSFUL, FAILED = TaskResultStatus.READY, TaskResultStatus.SUCCESSFUL, TaskResultStatus.FAILED


@each_engine
def test_a_call_runs_and_its_result_tells_all(use: Callable[..., None], work: Callable[..., None]) -> None:
    """Arguments, times, worker and value of a call can be read by its id, from any process."""
    sent = tasks.add.enqueue(1, b=2)
    waiting = default_task_backend.get_result(sent.id)

    work()
    sent.refresh()

    assert waiting.status is READY
    assert (waiting.args, waiting.kwargs, waiting.enqueued_at) == ([1], {"b": 2}, sent.enqueued_at)
    assert (sent.status, sent.return_value, sent.attempts, sent.errors) == (SUCCESSFUL, 3, 1, [])
    assert sent.enqueued_at <= sent.started_at <= sent.last_attempted_at <= sent.finished_at
    assert tasks.add.get_result(sent.id) == sent


def test_both_decorators_make_the_same_task(use: Callable[..., None]) -> None:
    """Ours differs for type checkers alone; where another backend serves the alias, it says so."""
    options: dict[str, Any] = {"retries": 2, "timeout": "30s", "priority": 5, "limits": [Rate("100/m")]}

    assert typed_task(**options)(tasks.add.func) == task(**options)(tasks.add.func)
    assert typed_task(tasks.add.func) == task(tasks.add.func) == tasks.add
    with pytest.raises(InvalidTask, match="retries"):
        typed_task(retries=-1)(tasks.add.func)
    with pytest.raises(TypeError, match="retires"):
        typed_task(retires=1)(tasks.add.func)
    with override_settings(TASKS={"default": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"}}):
        assert typed_task(tasks.add.func).name == "add"
        with pytest.raises(InvalidTask, match=r"TASKS\['default'\] is not of queuekit.*'retries'"):
            typed_task(retries=2)(tasks.add.func)


@each_engine
def test_a_retry_keeps_the_error_of_each_attempt(use: Callable[..., None], work: Callable[..., None]) -> None:
    """A task that fails once shows error and workers, and the traceback begins with the task's own line."""
    sent = tasks.send_mail.using(retry=Fixed(0)).enqueue("ann")

    work()
    sent.refresh()

    assert (sent.status, sent.return_value, sent.attempts) == (SUCCESSFUL, "sent to ann", 2)
    (error,) = sent.errors
    assert error.exception_class is ConnectionError
    assert "bookshop" in error.traceback.splitlines()[1]
    assert error.traceback.endswith("ConnectionError: no server for ann\n")


def test_a_failure_names_the_class_of_its_error(use: Callable[..., None], work: Callable[..., None]) -> None:
    """A task that fails for good is FAILED, and a dead letter for operators."""
    sent = tasks.fail.enqueue()

    work()
    sent.refresh()

    assert (sent.status, sent.attempts) == (FAILED, 1)
    assert [error.exception_class for error in sent.errors] == [LookupError]
    assert app_of().runtime.broker.counts(["default"])["default"].dead == 1


def test_a_context_tells_id_attempt_and_worker(use: Callable[..., None], work: Callable[..., None]) -> None:
    """A task that takes a context gets Django's, and callers pass the other arguments only."""
    sent = tasks.whoami.enqueue(more="yes")

    work()
    sent.refresh()

    assert sent.return_value == [sent.id, 1, sent.worker_ids, "yes"]


def test_a_coroutine_runs_on_the_loop(use: Callable[..., None], work: Callable[..., None]) -> None:
    """An ``async def`` task runs and returns as others do."""
    sent = tasks.double.enqueue(4)

    work()
    sent.refresh()

    assert sent.return_value == 8


@pytest.mark.parametrize(
    ("priority", "level"),
    [(-100, 0), (-76, 0), (-75, 1), (-25, 3), (-1, 3), (0, 4), (1, 5), (20, 5), (21, 6), (100, 9)],
)
def test_priorities_share_ten_levels(priority: int, level: int) -> None:
    """201 priorities of Django become the ten of queuekit, in order, and the default stays the default."""
    assert level_of(priority) == level


def test_options_of_a_call_travel_with_it(use: Callable[..., None]) -> None:
    """Queue, priority, time and what ``using`` takes beyond Django reach the message."""
    due = datetime.now(UTC) + timedelta(hours=1)

    sent = tasks.add.using(queue_name="mail", priority=100, run_after=due, expires="2h").enqueue(1, 2)

    (stored,) = app_of().runtime.broker.walk("mail", Place.DELAYED)
    assert (stored.envelope.id, stored.envelope.priority) == (sent.id, 9)
    assert stored.envelope.expires is not None
    assert default_task_backend.get_result(sent.id).task == tasks.add.using(
        queue_name="mail", priority=100, run_after=due
    )


def test_options_are_checked_where_they_are_written(use: Callable[..., None]) -> None:
    """A wrong value fails at the declaration, and one that no call may set in ``using``."""
    assert isinstance(tasks.send_mail, QueuekitTask)
    with pytest.raises(InvalidTask, match="retries"):
        task(retries=-1)(tasks.add.func)
    with pytest.raises(OptionError, match="limits"):
        tasks.add.using(limits=[Rate("1/s")])


def test_arguments_are_checked_at_the_call(use: Callable[..., None]) -> None:
    """What the function would refuse is refused by ``enqueue``, and nothing is sent."""
    with pytest.raises(TypeError, match="missing a required argument: 'b'"):
        tasks.add.enqueue(1)
    with pytest.raises(TypeError, match="Unsupported type"):
        tasks.add.enqueue(1, datetime.now(UTC))

    assert not list(app_of().runtime.broker.walk("default", Place.READY))


def test_a_unique_call_gives_the_result_of_the_first(use: Callable[..., None], work: Callable[..., None]) -> None:
    """While one waits, the same call is not sent again; with ``raise`` the caller learns that."""
    first, second, other = (tasks.rebuild.enqueue(shelf) for shelf in (1, 1, 2))

    assert second.id == first.id != other.id
    assert second == default_task_backend.get_result(first.id)
    key = UniqueKey(key="shelf", on_conflict="raise")
    tasks.rebuild.using(unique=key).enqueue(3)
    with pytest.raises(UniqueConflictError):
        tasks.rebuild.using(unique=key).enqueue(4)


def test_the_newest_arguments_of_a_key_are_stored(use: Callable[..., None]) -> None:
    """Where a waiting message takes in the arguments of another call, its result shows the new ones."""
    key = UniqueKey(key="shelf", on_conflict="latest")
    first = tasks.rebuild.using(unique=key).enqueue(1)

    second = tasks.rebuild.using(unique=key).enqueue(2)

    assert second.id == first.id
    assert default_task_backend.get_result(first.id).args == [2]


def rolled_back() -> Any:
    """Return a call that was made in a transaction that was rolled back."""
    with transaction.atomic():
        sent = tasks.add.enqueue(1, 2)
        transaction.set_rollback(True)
    return sent


def test_a_call_inside_of_atomic_is_sent_at_once(use: Callable[..., None]) -> None:
    """Unless options say otherwise, a rollback does not take back what was sent."""
    sent = rolled_back()

    assert default_task_backend.get_result(sent.id).status is READY


def test_on_commit_sends_after_the_commit_only(use: Callable[..., None]) -> None:
    """With ``on_commit`` a call of a transaction that is rolled back is never sent."""
    use(on_commit=True)

    lost = rolled_back()
    with transaction.atomic():
        kept = tasks.add.enqueue(1, 2)
        with pytest.raises(TaskResultDoesNotExist):
            kept.refresh()

    kept.refresh()
    assert kept.enqueued_at is not None
    with pytest.raises(TaskResultDoesNotExist):
        lost.refresh()


@each_engine
def test_on_commit_leads_the_id_of_a_duplicate_to_the_message_that_holds_its_key(
    use: Callable[..., None], work: Callable[..., None]
) -> None:
    """The id that is known before the commit stays good, whichever message turns out to hold the key."""
    use(on_commit=True)
    with transaction.atomic():
        first, second = (tasks.rebuild.enqueue(1) for _ in range(2))
        ids = [first.id, second.id]

    work()

    assert ids[0] != ids[1]
    assert second.id == first.id
    assert [default_task_backend.get_result(id).return_value for id in ids] == [1, 1]


def test_on_commit_refuses_keys_whose_conflict_nobody_could_catch(use: Callable[..., None]) -> None:
    """An error after the commit would end what else waits for the commit, so the task is refused as it is declared."""
    use(on_commit=True)

    with pytest.raises(InvalidTask, match=r"on_conflict='raise' does not go with the option on_commit"):
        tasks.rebuild.using(unique=UniqueKey(key="shelf", on_conflict="raise"))


def test_what_is_not_stored_does_not_exist(use: Callable[..., None]) -> None:
    """Unknown ids, ids that no message can have, and ignored results raise what Django says."""
    ignored = tasks.forgotten.enqueue()

    for id in ("unknown", "no id!", ignored.id):
        with pytest.raises(TaskResultDoesNotExist, match=id):
            default_task_backend.get_result(id)


def test_a_cancelled_call_has_failed(use: Callable[..., None]) -> None:
    """A call that an operator cancels is FAILED, with an error that can be imported."""
    sent = tasks.add.enqueue(1, 2)

    app_of().cancel(sent.id)
    sent.refresh()

    assert (sent.status, sent.attempts) == (FAILED, 0)
    assert [error.exception_class for error in sent.errors] == [TaskCancelled]


def test_eager_calls_are_finished(use: Callable[..., None]) -> None:
    """With the setting ``eager``, a call has run when ``enqueue`` returns, coroutines too."""
    use(eager=True)

    assert tasks.add.enqueue(1, 2).return_value == 3
    assert tasks.double.enqueue(2).return_value == 4


async def _aenqueue() -> Any:
    sent = await tasks.double.aenqueue(5)
    await sent.arefresh()
    return sent


def test_eager_calls_from_a_loop_are_finished(use: Callable[..., None]) -> None:
    """The thread that Django keeps for blocking calls is not waited for by the task that it runs."""
    import asyncio

    use(eager=True)

    assert asyncio.run(_aenqueue()).return_value == 10


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        ({}, "E001", "lives inside one process"),
        ({"broker": "nosuch://x"}, "E001", "nosuch"),
        ({"broker": "sqlite:///q.db", "worker": {"concurrency": 0}}, "E001", "concurrency"),
        ({"broker": "sqlite:///q.db", "backend": "none"}, "E002", "get_result"),
        ({"broker": "sqlite:///q.db", "backend": "none"}, "E003", "limits"),
        ({"broker": "sqlite:///q.db", "on_commit": "nosuch"}, "E004", "'nosuch', and DATABASES has only default"),
        ({"middlewares": ["x"]}, "E001", "TASKS['default']['OPTIONS']: middlewares: 'x' is not a Middleware"),
        ({"middlewares": None}, "E001", "TASKS['default']['OPTIONS']: middlewares: None is not a Middleware"),
    ],
    ids=["memory", "scheme", "setting", "no-results", "limits", "on-commit", "middleware", "no-middlewares"],
)
def test_checks_say_what_cannot_work(use: Callable[..., None], more: dict[str, Any], code: str, text: str) -> None:
    """``manage.py check`` reports engines and settings that cannot do what tasks ask, and asks no engine."""
    use(**more)

    found = [problem for problem in run_checks() if problem.id == f"queuekit_django.{code}"]
    use()

    assert any(text in problem.msg for problem in found)


def test_a_wrong_option_fails_the_call_and_not_the_import(use: Callable[..., None]) -> None:
    """Modules of tasks can be imported, so that the check can say what is wrong; a call raises it."""
    use(middlewares=[object])

    task(tasks.fail.func)
    with pytest.raises(OptionError, match=r"TASKS\['default'\]\['OPTIONS'\].*Write object\(\)"):
        tasks.add.enqueue(1, 2)
    use()


def test_an_alias_that_does_not_exist_is_named_with_those_that_do(use: Callable[..., None]) -> None:
    """A misspelt alias is answered by those of ``TASKS``, for ``app_of`` and ``--task-backend``."""
    use()

    with pytest.raises(ImproperlyConfigured, match="no entry 'nosuch'; it has default"):
        app_of("nosuch")


def test_changed_settings_make_another_app(use: Callable[..., None], tmp_path: Any) -> None:
    """A test that overrides ``TASKS`` gets an app of its own, which knows all tasks; the old one comes back anew."""
    before = app_of()

    with override_settings(
        TASKS={
            "default": {
                "BACKEND": "queuekit_django.QueuekitBackend",
                "QUEUES": ["default", "mail"],
                "OPTIONS": {"broker": f"memory://{tmp_path.name}-2"},
            }
        }
    ):
        other = app_of()
        assert other is app_of()
        assert other is not before
        assert "bookshop.tasks.add" in other.tasks
        assert set(other.config.worker.queues) == {"default", "mail"}
        with pytest.raises(InvalidTask, match="Queue 'far' is not valid"):
            tasks.add.using(queue_name="far")

    assert task_backends["default"].holder.app is not other


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"args": {}},
        {"runs": [{"generation": 0}]},
        {
            "runs": [
                {**dict.fromkeys(("generation", "attempt"), 0), "worker": "w", "at": 1, "path": "os;x", "traceback": ""}
            ]
        },
        {"enqueued_at": "soon"},
        {"priority": True},
    ],
    ids=["nothing", "args", "run", "path", "moment", "bool"],
)
def test_a_damaged_record_is_no_record(use: Callable[..., None], fields: dict[str, Any]) -> None:
    """Bytes from a store are not believed: what is not a call is none, and names no module to import."""
    import json

    whole = {"task": "t", "args": [], "kwargs": {}, "priority": 0, "queue": "q", "run_after": None, "enqueued_at": None}
    body = join_frame({"v": 1}, json.dumps({**whole, "runs": [], **fields} if fields else []).encode())

    assert read_call(Record(key="django:1", body=body), app_of().runtime) is None
    assert read_call(Record(key="django:1", body=b"rubbish"), app_of().runtime) is None


def test_records_are_signed_where_keys_are_set(use: Callable[..., None]) -> None:
    """With ``signing_keys``, what is stored of a call carries a signature, and another one is not read."""
    use(signing_keys=["k" * 40])
    runtime, call = app_of().runtime, DjangoCall(task="t", queue="q")
    run = FailedRun.of(ValueError("x"), place=(0, 0), worker="w", at=1.0)

    signed = call.failed(run).record("1", runtime)

    assert read_call(signed, runtime) == call.failed(run)
    assert read_call(Record(key="django:2", body=signed.body), runtime) is None
