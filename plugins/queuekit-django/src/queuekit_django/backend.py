"""The backend of ``django.tasks``: sends calls of Django's tasks by queuekit, and reads their results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any

from django.core.checks import CheckMessage, Error
from django.db import connections, transaction
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.base import Task, TaskResult
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
from django.tasks.signals import task_enqueued
from django.utils import timezone

from queuekit.backend import Condition, Record
from queuekit.client.requirements import look_up, require_shared, unmet_requirements
from queuekit.client.runtime import Runtime
from queuekit.client.sender import Sent, conflict_in
from queuekit.errors import QueuekitError
from queuekit.ids import is_name, new_id
from queuekit.signature import Signature
from queuekit.states import State
from queuekit.timelimit import time_limit
from queuekit.unique import UniqueKey
from queuekit.wire.records import Info, read_info, result_key
from queuekit_django.aliases import AliasApp, declared_for, holder_of
from queuekit_django.results import fill, new_result, result_of
from queuekit_django.stored import DjangoCall, call_key, read_call
from queuekit_django.task_class import QueuekitTask, call_options, task_options
from queuekit_django.transactions import in_transaction

__all__ = ["QueuekitBackend"]


class QueuekitBackend(BaseTaskBackend):
    """Puts calls on queues of queuekit, at once, also inside of ``atomic()``; delivery is at least once.

    ``OPTIONS`` in ``TASKS`` holds settings of queuekit, e.g. ``{"broker": "redis://host/0"}``, and:

    - ``on_commit``: ``True``, or the alias of a database: a call inside of its ``atomic()`` is sent after the commit,
      and is lost if the process ends between the two. Tasks then cannot have a unique key with
      ``on_conflict="raise"``.
    - ``middlewares``: objects of :class:`~queuekit.middleware.Middleware`.

    ``QUEUES`` are the queues that calls may name, and that a worker serves unless the setting ``worker.queues`` names
    others.

    Args:
        alias: Alias in ``TASKS``.
        params: What ``TASKS`` says of it.
    """

    task_class = QueuekitTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)

    @cached_property
    def holder(self) -> AliasApp:
        """The app of the alias, which all threads share. Django makes another backend when the settings change."""
        return holder_of(self.alias, frozenset(self.queues), self.options)

    def validate_task(self, task: Task) -> None:
        """Raise if *task* cannot be sent, and register it: a worker knows the tasks that are declared where it looks.

        Raises:
            InvalidTask: A value is not valid; says which.
        """
        super().validate_task(task)
        key = getattr(task, "unique", None)
        if self._database and isinstance(key, UniqueKey) and key.on_conflict == "raise":
            raise InvalidTask(
                f"{task.module_path}: on_conflict='raise' does not go with the option on_commit of "
                f"TASKS[{self.alias!r}]: a call is sent after the commit, where nobody can catch UniqueConflictError; "
                "choose on_conflict='skip', or check for a row of the database"
            )
        holder = self.holder
        known = holder.tasks.get(task.module_path)
        if known is task:
            return
        try:
            task_options(task)
            holder.declare(task)
        except QueuekitError as error:
            raise InvalidTask(f"{task.module_path}: {error}") from error
        declared_for(self.alias, task)

    def enqueue(self, task: Task, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskResult:
        """Put a call on its queue; it is stored when this returns, unless ``on_commit`` puts it off.

        Returns:
            Its result, which is finished with the setting ``eager``; that of another message if it holds the unique
            key of the call.

        Raises:
            InvalidTask: The settings do not allow the task.
            TypeError: An argument is not JSON, or the arguments do not match the function.
            OptionError: A value of ``OPTIONS`` is not valid.
            UnavailableError: The broker did not answer within ``send_timeout``.
            UniqueConflictError: Another message holds the key of a call with ``on_conflict="raise"``.
        """
        self.validate_task(task)
        result = new_result(task, new_id(), args, kwargs, alias=self.alias)
        call = self._call(task, result)
        database = self._database
        if database and in_transaction(connections[database]):
            transaction.on_commit(partial(self._send_late, call, result), using=database)
            return result
        sent = self._send(call, result)
        eager = self.holder.app.config.eager and self.holder.app.runtime.backend is not None
        return self.get_result(sent.id) if eager else sent

    def get_result(self, result_id: str) -> TaskResult:
        """Return the result of call *result_id*; one round trip, and a second one if another message stands for it.

        Raises:
            TaskResultDoesNotExist: Nothing is stored for the id, or the task is not known here.
            NoBackendError: No results are stored.
            UnavailableError: The engine did not answer within ``send_timeout``.
        """
        holder = self.holder
        runtime = holder.app.runtime
        info, call = self._stored(result_id)
        if call is not None and call.held_by:
            result_id = call.held_by
            info, call = self._stored(result_id)
        if info.state is State.UNKNOWN and not _is_fresh(call, runtime):
            raise TaskResultDoesNotExist(result_id)
        name = call.task if call is not None else info.task
        task = holder.tasks.get(name)
        if task is None:
            raise TaskResultDoesNotExist(f"{result_id} (its task {name!r} is not known here)")
        return result_of(task, info, call, alias=self.alias, accepted=runtime.accepted)

    def _stored(self, id: str) -> tuple[Info, DjangoCall | None]:
        """Return what is stored of the result and of the call of *id*."""
        runtime = self.holder.app.runtime
        backend = runtime.need_backend("a result")
        if not is_name(id):
            raise TaskResultDoesNotExist(id)
        keys = [result_key(id), call_key(id)]
        with time_limit(runtime.config.send_timeout):
            found = backend.get(keys)
        return read_info(id, found.get(keys[0])), read_call(found.get(keys[1]), runtime)

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """Return what cannot work, without asking an engine."""
        return list(self._problems())

    def _problems(self) -> Iterator[CheckMessage]:
        if self._database and self._database not in list(connections):
            known = ", ".join(connections)
            yield self._problem("E004", f"on_commit is {self._database!r}, and DATABASES has only {known}")
        try:
            runtime = self.holder.app.runtime
            require_shared(runtime)
        except QueuekitError as error:
            yield self._problem("E001", str(error))
            return
        if runtime.backend is None:
            yield self._problem("E002", "no results are stored, and get_result() needs them; set the option backend")
        for line in unmet_requirements(runtime, self.holder.app.tasks, self.holder.app.declared):
            yield self._problem("E003", line)

    def _problem(self, id: str, text: str) -> CheckMessage:
        place = f"TASKS[{self.alias!r}]"
        return Error(text if text.startswith(place) else f"{place}: {text}", id=f"queuekit_django.{id}")

    @property
    def _database(self) -> str:
        """The alias of the database whose commit calls wait for; empty if they do not."""
        chosen = self.options.get("on_commit", False)
        return "default" if chosen is True else chosen or ""

    def _call(self, task: Task, result: TaskResult) -> Signature[Any]:
        holder = self.holder
        declared = holder.tasks[task.module_path]
        registered = holder.app.tasks[task.module_path]
        registered.parameters.check(tuple(result.args), result.kwargs)
        options = call_options(task, declared)
        if task.run_after is not None:
            options["eta"] = (
                task.run_after if timezone.is_aware(task.run_after) else timezone.make_aware(task.run_after)
            )
        return Signature(task.module_path, tuple(result.args), result.kwargs, id=result.id, **options)

    def _send_late(self, call: Signature[Any], result: TaskResult) -> None:
        """Send a call after the commit. If another message stands for it, the id that its caller has leads there."""
        given, runtime = result.id, self.holder.app.runtime
        sent = self._send(call, result)
        if sent.id == given or runtime.backend is None:
            return
        made = DjangoCall(task=call.task, queue=result.task.queue_name, held_by=sent.id)
        with time_limit(runtime.config.send_timeout):
            runtime.backend.put([made.record(given, runtime)])

    def _send(self, call: Signature[Any], result: TaskResult) -> TaskResult:
        holder = self.holder
        fill(result, enqueued_at=datetime.now(UTC))
        record = self._record(call, result)
        unique = call.unique if call.unique is not None else holder.app.tasks[call.task].defaults.unique
        if unique:
            result = self._send_unique(call, result, record)
        else:
            holder.send(call, record)
        task_enqueued.send(type(self), task_result=result)
        return result

    def _send_unique(self, call: Signature[Any], result: TaskResult, record: Record | None) -> TaskResult:
        """Send a call that another message may stand for; its record follows when it is known that none does."""
        sent = self.holder.send(call, None)
        if sent.rejected:
            look = partial(look_up, self.holder.app.runtime)
            raise conflict_in([sent], look) or RuntimeError("nothing was sent")
        if record is None or (sent.duplicate and not sent.merged):
            return self._of_holder(sent, result)
        runtime = self.holder.app.runtime
        if runtime.backend is not None:
            fill(result, id=sent.id)
            written = self._record(call, result) or record
            with time_limit(runtime.config.send_timeout):
                runtime.backend.put([written], condition=Condition.ALWAYS if sent.merged else Condition.NEWER)
        return result

    def _of_holder(self, sent: Sent, result: TaskResult) -> TaskResult:
        """Return the result of the message that stands for a call."""
        fill(result, id=sent.id)
        if not (sent.duplicate and sent.stored):
            return result
        try:
            return self.get_result(sent.id)
        except TaskResultDoesNotExist:
            return result

    def _record(self, call: Signature[Any], result: TaskResult) -> Record | None:
        """Return what is stored beside the message; ``None`` if its result is not stored."""
        runtime, task = self.holder.app.runtime, result.task
        ignored = call.ignore_result
        if ignored is None:
            ignored = self.holder.app.tasks[call.task].defaults.ignore_result
        if runtime.backend is None or ignored:
            return None
        made = DjangoCall(
            task=call.task,
            args=result.args,
            kwargs=result.kwargs,
            priority=task.priority,
            queue=task.queue_name,
            run_after=task.run_after,
            enqueued_at=result.enqueued_at,
        )
        delay = 0.0 if call.eta is None else max(0.0, call.eta.timestamp() - runtime.clock.time())
        return made.record(result.id, runtime, delay=delay)


def _is_fresh(call: DjangoCall | None, runtime: Runtime) -> bool:
    """Return whether *call* may just be on its way to the queue, or is recent enough to have a record of its own."""
    if call is None or call.enqueued_at is None:
        return False
    due = max(call.enqueued_at, call.run_after or call.enqueued_at)
    return runtime.clock.time() - due.timestamp() < runtime.config.results_expire
