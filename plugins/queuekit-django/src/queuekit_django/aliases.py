"""The apps that the setting ``TASKS`` describes, one for each alias, and the tasks that they run."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from django.core.exceptions import ImproperlyConfigured
from django.tasks import task_backends
from django.tasks.base import Task

from queuekit.app import Queuekit
from queuekit.backend import Record
from queuekit.client.sender import Sent
from queuekit.context import Context
from queuekit.errors import OptionError
from queuekit.forks import renew_in_forks
from queuekit.signature import Signature
from queuekit_django.running import InDjango, arguments_of
from queuekit_django.task_class import task_options

__all__ = ["OWN", "AliasApp", "app_of", "declared_for", "holder_of", "task_of"]

OWN = ("on_commit", "middlewares")
"""Entries of ``OPTIONS`` that are not settings of queuekit."""


@attrs.define(kw_only=True, eq=False)
class AliasApp:
    """The app of one alias."""

    alias: str
    params: tuple[Any, ...]
    """What it was made of: queues and options."""
    made: Queuekit
    problem: str
    """Why the app cannot be used; empty if it can.

    Modules of tasks are imported all the same, so that ``manage.py check`` can say it.
    """
    tasks: dict[str, Task] = attrs.field(factory=dict)
    """The tasks as they are declared, by name."""

    @property
    def app(self) -> Queuekit:
        """The app.

        Raises:
            OptionError: A value of ``OPTIONS`` that is not a setting is not valid, e.g. a middleware.
        """
        if self.problem:
            raise OptionError(self.problem)
        return self.made

    def declare(self, task: Task) -> None:
        """Register *task*, unless its function is registered already: the first declaration holds for workers.

        Raises:
            QueuekitError: Its name or an option is not valid.
        """
        name = task.module_path
        known = self.tasks.get(name)
        if known is not None and known.func is task.func:
            return
        self.made.tasks.declare(_body(task), app=self.made, name=name, options=task_options(task))
        self.tasks[name] = task

    def send(self, call: Signature[Any], record: Record | None) -> Sent:
        """Put *call* on its queue, and *record* beside it: in the same step if the engines can."""
        sending = self.app.sending
        (sent,) = sending.send_ready([sending.prepare(call)], ahead=() if record is None else (record,))
        return sent


class _Aliases:
    """The apps of this process by alias, and all tasks that modules have declared for them."""

    def __init__(self) -> None:
        self.apps: dict[str, AliasApp] = {}
        self.declared: dict[str, dict[str, Task]] = {}
        self.renew_in_fork()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Create a new lock: another thread of the parent may have held the old one."""
        self.lock = threading.RLock()


_aliases = _Aliases()


def holder_of(alias: str, queues: frozenset[str], options: Mapping[str, Any]) -> AliasApp:
    """Return the app of *alias*: a new one if the settings have changed, as in a test that overrides them."""
    found, params = _aliases.apps.get(alias), (queues, dict(options))
    if found is not None and found.params == params:
        return found
    with _aliases.lock:
        found = _aliases.apps.get(alias)
        if found is None or found.params != params:
            if found is not None:
                found.made.close()
            found = _aliases.apps[alias] = _made(alias, params)
        return found


def declared_for(alias: str, task: Task) -> None:
    """Remember that a module has declared *task* for *alias*, for an app that is made later."""
    _aliases.declared.setdefault(alias, {}).setdefault(task.module_path, task)


def task_of(alias: str, name: str) -> Task | None:
    """Return the task of that *name*, as it is declared; ``None`` if Django does not know it."""
    found = _aliases.apps.get(alias)
    return None if found is None else found.tasks.get(name)


def app_of(alias: str = "default") -> Queuekit:
    """Return the app of *alias* in ``TASKS``: for schedules, resources, workflows and subscribers.

    Raises:
        ImproperlyConfigured: The alias does not exist, or has another backend.
    """
    if alias not in task_backends.settings:
        raise ImproperlyConfigured(f"TASKS has no entry {alias!r}; it has {', '.join(task_backends.settings)}")
    backend: Any = task_backends[alias]
    holder = getattr(backend, "holder", None)
    if not isinstance(holder, AliasApp):
        raise ImproperlyConfigured(
            f"TASKS[{alias!r}] has the backend {type(backend).__qualname__}, and this needs QueuekitBackend"
        )
    return holder.app


def _made(alias: str, params: tuple[frozenset[str], dict[str, Any]]) -> AliasApp:
    queues, options = params
    settings = {name: value for name, value in options.items() if name not in OWN}
    if queues:
        worker = settings.get("worker")
        settings["worker"] = {"queues": sorted(queues), **(worker if isinstance(worker, Mapping) else {})}
    inner = InDjango(alias)
    given, problem = options.get("middlewares", ()), ""
    try:
        app = Queuekit(middlewares=[inner, *(given if isinstance(given, list | tuple) else [given])], **settings)
    except OptionError as error:
        problem = f"TASKS[{alias!r}]['OPTIONS']: {error}"
        app = Queuekit(middlewares=[inner])
    inner.app = app
    made = AliasApp(alias=alias, params=params, made=app, problem=problem)
    for task in list(_aliases.declared.get(alias, {}).values()):
        made.declare(task)
    return made


def _body(task: Task) -> Callable[..., Any]:
    """Return the function that workers call: that of *task*, whose context is Django's if it takes one."""
    function = task.func
    if not task.takes_context:
        return function

    async def run_async(context: Context, *args: Any, **kwargs: Any) -> Any:
        return await function(arguments_of(context), *args, **kwargs)

    def run(context: Context, *args: Any, **kwargs: Any) -> Any:
        return function(arguments_of(context), *args, **kwargs)

    body: Callable[..., Any] = functools.wraps(function)(run_async if inspect.iscoroutinefunction(function) else run)
    first, *others = inspect.signature(function).parameters.values()
    vars(body)["__signature__"] = inspect.Signature([first.replace(annotation=Context), *others])
    return body
