"""What a worker does around the tasks of Django: connections of the database, and signals."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("django.tasks", reason="Django 6 needs Python 3.12 or later; `tox -e django` runs these tests")

from bookshop import tasks
from django.db import connections
from django.db.backends.signals import connection_created
from django.tasks import TaskResultStatus
from django.tasks.signals import task_enqueued, task_finished, task_started
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from queuekit.retry import Fixed
from queuekit.testing import queue_of
from queuekit_django import app_of
from support.waiting import wait_until


@contextmanager
def receiving(*signals: Any) -> Iterator[list[tuple[str, Any]]]:
    """Collect what *signals* send, with the class of the exception that is being handled then."""
    seen: list[tuple[str, Any]] = []
    names = {id(task_enqueued): "enqueued", id(task_started): "started", id(task_finished): "finished"}

    def receive(signal: Any, task_result: Any, **_: Any) -> None:
        seen.append((names[id(signal)], (task_result.status, sys.exc_info()[0])))

    for signal in signals:
        signal.connect(receive)
    try:
        yield seen
    finally:
        for signal in signals:
            signal.disconnect(receive)


def test_signals_tell_of_each_run_and_of_the_end(use: Callable[..., None], work: Callable[..., None]) -> None:
    """A retry starts again, and the end comes once."""
    with receiving(task_enqueued, task_started, task_finished) as seen:
        tasks.send_mail.using(retry=Fixed(0)).enqueue("ann")
        work()

    running, done = TaskResultStatus.RUNNING, TaskResultStatus.SUCCESSFUL
    assert seen == [
        ("enqueued", (TaskResultStatus.READY, None)),
        ("started", (running, None)),
        ("started", (running, None)),
        ("finished", (done, None)),
    ]


def test_a_failure_is_being_handled_when_it_is_signalled(
    use: Callable[..., None], work: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """Django's own receiver logs the traceback by that."""
    caplog.set_level(logging.ERROR, "django.tasks")

    with receiving(task_finished) as seen:
        tasks.fail.enqueue()
        work()

    assert seen == [("finished", (TaskResultStatus.FAILED, LookupError))]
    assert any("nothing there" in (record.exc_text or "") or record.exc_info for record in caplog.records)


@pytest.mark.parametrize("task", ["query", "aquery"])
def test_no_connection_outlives_its_task(use: Callable[..., None], work: Callable[..., None], task: str) -> None:
    """With Django's default, each run closes what it has opened; no thread opens a second one at a time."""
    opened: list[Any] = []

    def note(connection: Any, **_: Any) -> None:
        opened.append(connection)

    connection_created.connect(note)
    try:
        sent = [getattr(tasks, task).enqueue() for _ in range(40)]
        work()
    finally:
        connection_created.disconnect(note)

    for one in sent:
        one.refresh()
    assert [one.return_value for one in sent] == [1] * 40
    assert len(opened) == 40
    assert [connection.connection for connection in opened] == [None] * 40


def test_a_lasting_connection_serves_all_tasks_of_its_thread(
    use: Callable[..., None], work: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``CONN_MAX_AGE`` a thread keeps one, 100 tasks on four threads open four at most, and all end with it."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", None)
    opened: list[Any] = []

    def note(connection: Any, **_: Any) -> None:
        opened.append(connection)

    connection_created.connect(note)
    for _ in range(100):
        tasks.query.enqueue()
    work()
    connection_created.disconnect(note)

    wait_until(lambda: all(one.connection is None for one in opened), "the threads of the worker end")
    assert len(tasks.SEEN) == 100
    assert len({used for _, used in tasks.SEEN}) <= len({thread for thread, _ in tasks.SEEN}) <= 4


def test_all_that_a_thread_keeps_ends_with_it(
    use: Callable[..., None], work: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a second database that a later task opens, and what a receiver of a signal has asked."""
    for alias in ("default", "archive"):
        monkeypatch.setitem(connections.settings, alias, {**connections.settings["default"], "CONN_MAX_AGE": None})
    opened, asked = list[Any](), list[str]()

    def note(connection: Any, **_: Any) -> None:
        opened.append(connection)

    def ask(task_result: Any, **_: Any) -> None:
        with connections["archive"].cursor() as cursor:
            cursor.execute("SELECT 1")
        asked.append(task_result.id)

    use(worker={"queues": "default", "concurrency": 1})
    for signal, receiver in ((connection_created, note), (task_finished, ask)):
        signal.connect(receiver)
    try:
        tasks.query.enqueue()
        tasks.query.enqueue()
        tasks.double.enqueue(2)
        work()
        assert len(asked) == 3  # a worker tells all before it returns, also of a coroutine function
    finally:
        for signal, receiver in ((connection_created, note), (task_finished, ask)):
            signal.disconnect(receiver)

    assert {one.alias for one in opened} == {"default", "archive"}
    wait_until(lambda: all(one.connection is None for one in opened), "the threads of the worker end")


def test_a_workflow_passes_what_is_not_json(use: Callable[..., None]) -> None:
    """Django's results show the failure of a call as text, and the task gets it as it is."""
    call = tasks.fail.registered.s().options(on_error=[tasks.note.registered.s(3)])

    with queue_of(app_of()) as queue:
        queue.app.send(call)
        assert queue.run(raises=False).done == 1
        (noted,) = [one.id for one in queue.sent if one.task == tasks.note.module_path]
        assert tasks.note.get_result(noted).return_value == "3: nothing there"


@pytest.fixture
def held() -> Iterator[None]:
    """Keep a transaction open, as Django's ``TestCase`` does."""
    atomics = TestCase._enter_atomics()
    yield
    TestCase._rollback_atomics(atomics)


def test_a_test_case_holds_nothing_back(use: Callable[..., None], held: None) -> None:
    """In it a call that no transaction of the code surrounds is sent at once, and a task commits at its end."""
    use(on_commit=True)
    with queue_of(app_of()) as queue:
        tasks.sends_on_commit.enqueue()

        assert queue.run().done == 2

    assert tasks.SEEN == ["committed"]


def test_a_transaction_around_a_task_goes_on(use: Callable[..., None], held: None) -> None:
    """A task leaves the connection of a ``TestCase``, or of a caller whose calls run at once, as it was."""
    with CaptureQueriesContext(connections["default"]) as asked, queue_of(app_of()) as queue:
        tasks.query.enqueue()
        tasks.query.enqueue()

        assert queue.run().done == 2

    assert not connections["default"].needs_rollback
    assert [one["sql"] for one in asked.captured_queries] == ["SELECT 1"] * 2


def test_what_a_commit_sets_off_fails_as_in_production(use: Callable[..., None], held: None) -> None:
    """An error of a callback is that of the task, unless it is robust."""
    with queue_of(app_of()) as queue:
        for robust in (True, False):
            tasks.fails_on_commit.enqueue(robust=robust)
        with pytest.raises(ZeroDivisionError):
            queue.run()

        assert [call.kwargs for call in queue.dead] == [{"robust": False}]
