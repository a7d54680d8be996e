"""What happens around the body of a task in a worker: connections of the database, signals, failed runs."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from time import time
from typing import TYPE_CHECKING, Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.tasks.base import Task, TaskContext, TaskError, TaskResult, TaskResultStatus
from django.tasks.signals import task_finished, task_started
from django.utils import timezone
from django.utils.json import normalize_json

from queuekit.backend import Condition
from queuekit.context import Context
from queuekit.control import Cancel, Cancelled, Snooze
from queuekit.errors import QueuekitError
from queuekit.middleware import Middleware
from queuekit.timelimit import time_limit
from queuekit_django.results import fill, new_result, plain, sent_at
from queuekit_django.stored import DjangoCall, FailedRun, call_key, own_frames, read_call
from queuekit_django.transactions import committing

if TYPE_CHECKING:
    from queuekit.app import Queuekit
    from queuekit_django.backend import QueuekitBackend

__all__ = ["InDjango", "arguments_of"]

_logger = logging.getLogger("queuekit.django")
_running: contextvars.ContextVar[TaskResult | None] = contextvars.ContextVar("queuekit_django_running", default=None)
"""The result of the task that runs here."""
_UNCOUNTED = (Snooze, Cancel, Cancelled)
"""What a body raises without having failed."""


def arguments_of(context: Context) -> TaskContext:
    """Return the context that Django's tasks take, in the run of *context*."""
    result = _running.get()
    if result is None or result.id != context.id:  # called outside of a worker
        raise RuntimeError(f"{context.task} takes a context, and no worker runs it")
    return TaskContext(task_result=result)


class InDjango(Middleware):
    """Stands around each task as Django does around each request.

    Before and after each body it closes connections of the database that are too old or broken, in the thread that runs
    the body; a thread keeps at most one connection for each database. It sends the signals ``task_started`` and
    ``task_finished``, the latter only after the last attempt, and stores the error of each failed run.

    Args:
        alias: Alias of the backend in ``TASKS``.
    """

    app: Queuekit
    """The app that it belongs to."""

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def around_run(self, context: Context) -> Iterator[None]:
        """Run around a plain body."""
        with _own_connections():
            result = self._start(context)
            begun = time()
            try:
                with committing():
                    value = yield
                _keep(result, value)
            except BaseException as error:
                self._failed(context, result, error, begun)
                raise

    async def around_async_run(self, context: Context) -> AsyncIterator[None]:
        """Run around the body of a coroutine function, whose queries have a thread of their own, as in a request."""
        result = await asyncio.to_thread(self._start_apart, context)
        _running.set(result)  # the thread has variables of its own
        begun, space = time(), ThreadSensitiveContext()
        async with space:
            try:
                value = yield
                _keep(result, value)
            except BaseException as error:
                if not isinstance(error, asyncio.CancelledError):
                    await asyncio.to_thread(self._failed, context, result, error, begun)
                raise
            finally:
                if space in SyncToAsync.context_to_thread_executor:  # that thread exists, and ends now
                    await sync_to_async(connections.close_all)()

    def after_run(self, context: Context, state: str, error: BaseException | None) -> None:
        """Send ``task_finished`` if the message has ended."""
        result = _running.get()
        if result is None or result.id != context.id or state not in {"SUCCESS", "FAILURE", "CANCELLED"}:
            return
        status = TaskResultStatus.SUCCESSFUL if state == "SUCCESS" else TaskResultStatus.FAILED
        fill(result, status=status, finished_at=timezone.now())
        if state == "CANCELLED" and not result.errors:
            ended = TaskError(exception_class_path="queuekit.errors.TaskCancelled", traceback="cancelled\n")
            fill(result, errors=[ended])
        loop = _loop()
        if loop is None:
            self._finish(result, error)
        else:  # receivers may query the database, which must not happen on a loop
            loop.run_in_executor(None, self._finish, result, error)

    def _finish(self, result: TaskResult, error: BaseException | None) -> None:
        """Send the signal; receivers find *error* as the exception that is being handled."""
        with _own_connections():
            if error is None:
                task_finished.send(sender=self._sender, task_result=result)
            else:
                self._finish_handling(result, error)

    def _finish_handling(self, result: TaskResult, error: BaseException) -> None:
        try:
            raise own_frames(error)
        except type(error):
            task_finished.send(sender=self._sender, task_result=result)

    @property
    def _sender(self) -> type[QueuekitBackend]:
        from queuekit_django.backend import QueuekitBackend

        return QueuekitBackend

    def _start_apart(self, context: Context) -> TaskResult | None:
        """Do what :meth:`_start` does, in a thread of its own."""
        with _own_connections():
            return self._start(context)

    def _start(self, context: Context) -> TaskResult | None:
        """Return the result of the run that begins, which is now the current one, and send ``task_started``.

        ``None`` if the task is not Django's.
        """
        from queuekit_django.aliases import task_of

        task, call = task_of(self._alias, context.task), context.signature
        result = None
        if task is not None and call is not None:
            result = self._result(context, task, call.args, call.kwargs)
        _running.set(result)
        if result is not None:
            task_started.send(sender=self._sender, task_result=result)
        return result

    def _result(self, context: Context, task: Task, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> TaskResult:
        again = context.attempt > 0 or context.generation > 0
        before = self._stored(context) if again else None
        runs = () if before is None else before.runs
        shown = [plain(value) for value in args], {name: plain(value) for name, value in kwargs.items()}
        result, now = new_result(task, context.id, *shown, alias=self._alias), timezone.now()
        first = runs[0].at if runs else None
        fill(
            result,
            status=TaskResultStatus.RUNNING,
            enqueued_at=sent_at(context.id),
            started_at=now if first is None else type(now).fromtimestamp(first, now.tzinfo),
            last_attempted_at=now,
            errors=[run.error for run in runs],
            worker_ids=[*(run.worker for run in runs), context.worker],
        )
        return result

    def _failed(self, context: Context, result: TaskResult | None, error: BaseException, begun: float) -> None:
        """Store that the body raised *error*; an engine that does not answer then changes nothing else."""
        if result is None or isinstance(error, _UNCOUNTED):
            return
        place = (context.generation, context.attempt)
        run = FailedRun.of(error, place=place, worker=context.worker, at=begun)
        fill(result, errors=[*result.errors, run.error])
        runtime = self.app.runtime
        backend, task = runtime.backend, self.app.tasks.get(context.task)
        if backend is None or task is None or task.defaults.ignore_result:
            return
        call = self._stored(context) or DjangoCall(
            task=context.task, args=result.args, kwargs=result.kwargs, queue=context.queue
        )
        try:
            with time_limit(runtime.config.send_timeout):
                backend.put([call.failed(run).record(context.id, runtime)], condition=Condition.NEWER)
        except QueuekitError as problem:
            _logger.warning("the error of %s %s is not stored for Django: %s", context.task, context.id, problem)

    def _stored(self, context: Context) -> DjangoCall | None:
        runtime, key = self.app.runtime, call_key(context.id)
        if runtime.backend is None:
            return None
        try:
            with time_limit(runtime.config.send_timeout):
                return read_call(runtime.backend.get([key]).get(key), runtime)
        except QueuekitError:
            return None


def _keep(result: TaskResult | None, value: Any) -> None:
    """Keep the *value* that a body has returned.

    Raises:
        TypeError: It is not JSON, which Django asks of it.
    """
    if result is not None:
        fill(result, _return_value=normalize_json(value))


def _loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread."""
    with contextlib.suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None


class _Kept:
    """The connections that a thread keeps for its next task. It belongs to the thread, and closes them with it."""

    def __init__(self) -> None:
        self.connections: list[BaseDatabaseWrapper] = []

    def __del__(self) -> None:
        for connection in self.connections:
            with contextlib.suppress(Exception):
                connection.close()


_of_thread = threading.local()


@contextlib.contextmanager
def _own_connections() -> Iterator[None]:
    """Close the connections of this thread that are too old or broken, before and after, as around a request.

    One in a transaction that has begun before, of a test case or of a caller whose calls run at once, is left to that.
    """
    held = [one for one in connections.all(initialized_only=True) if one.in_atomic_block]
    _close_old(held)
    try:
        yield
    finally:
        kept = [one for one in _close_old(held) if one.connection is not None]
        if threading.current_thread() is not threading.main_thread() and (kept or hasattr(_of_thread, "kept")):
            if not hasattr(_of_thread, "kept"):
                _of_thread.kept = _Kept()
            _of_thread.kept.connections = kept


def _close_old(held: Sequence[BaseDatabaseWrapper]) -> list[BaseDatabaseWrapper]:
    """Prepare all connections but those that are *held* for the next task, and return them."""
    others = [one for one in connections.all(initialized_only=True) if one not in held]
    for one in others:
        one.queries_log.clear()
        one.close_if_unusable_or_obsolete()
    return others
