"""Declare schedules on an app: ``@app.periodic(every("30s"))``; ``app.schedules`` manages those added later."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from queuekit.errors import OptionError, ScheduleError
from queuekit.signature import Signature
from queuekit.tasks.task import Task
from queuekit.wire.call_options import arguments, known, named

if TYPE_CHECKING:
    from queuekit.schedules.due import Misfire, Overlap
    from queuekit.schedules.manager import Schedules
    from queuekit.schedules.schedule import Schedule
    from queuekit.schedules.triggers import When
    from queuekit.wire.call_options import Duration
    from queuekit.workflows.workflow import Part

__all__ = ["Periodic"]

T = TypeVar("T", bound=Task[..., Any])
_RULES = ("args", "grace", "kwargs", "misfire", "name", "overlap")


class Periodic:
    """The part of an app that declares schedules."""

    def __init__(self) -> None:
        self.declared: dict[str, Schedule] = {}
        """Schedules that the code declares, by name."""

    @overload
    def periodic(
        self,
        when: When,
        /,
        *,
        name: str | None = ...,
        args: Iterable[Any] = ...,
        kwargs: Mapping[str, Any] | None = ...,
        misfire: Misfire = ...,
        overlap: Overlap = ...,
        grace: Duration = ...,
    ) -> Callable[[T], T]: ...
    @overload
    def periodic(
        self,
        when: When,
        call: Task[..., Any],
        /,
        *,
        name: str | None = ...,
        args: Iterable[Any] = ...,
        kwargs: Mapping[str, Any] | None = ...,
        misfire: Misfire = ...,
        overlap: Overlap = ...,
        grace: Duration = ...,
    ) -> Schedule: ...
    @overload
    def periodic(
        self,
        when: When,
        call: Part,
        /,
        *,
        name: str | None = ...,
        misfire: Misfire = ...,
        overlap: Overlap = ...,
        grace: Duration = ...,
    ) -> Schedule: ...
    def periodic(
        self,
        when: When,
        call: Part | Task[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **rules: Any,
    ) -> Any:
        """Send a task, or any call, repeatedly. Use it as a decorator above ``@app.task``, or call it.

        ::

            @app.periodic(cron("0 3 * * *", tz="Europe/Berlin"))
            @app.task
            def tidy() -> None: ...

            app.periodic(every("1h"), chain(fetch.s(), store.s()), name="hourly")

        Workers send the ticks: one of them is the leader, and each tick is sent once, however many workers run.

        Args:
            when: ``every(...)`` or ``cron(...)``.
            call: A task, signature, chain, group or chord; default: the decorated task.
            name: Name of the schedule; default: the name of the task.
            args: Arguments of the task.
            kwargs: Keyword arguments of the task.
            **rules: ``misfire``, ``overlap`` and ``grace``; see :class:`~queuekit.schedules.schedule.Schedule`.

        Raises:
            ScheduleError: Two schedules have the same name, or a workflow has no name.
            ArgumentsError: The task does not accept these arguments.
            OptionError: An option is unknown, or its value is not valid.
        """
        known(rules, _RULES, of="@app.periodic")
        given, by_name = arguments(args), named({} if kwargs is None else kwargs)
        if isinstance(call, Task):
            call = call.si(*given, **by_name)
        elif call is not None and (given or by_name):
            raise OptionError(f"args and kwargs are for a task, got {call!r:.60}", fix="Write task.s(...)")
        if call is not None:
            return self._declare(when, call, name=name, rules=rules)

        def decorate(task: T) -> T:
            if not isinstance(task, Task):
                raise ScheduleError(f"{task!r:.60} is not a task", fix="Write @app.periodic(...) above @app.task")
            self._declare(when, task.si(*given, **by_name), name=name, rules=rules)
            return task

        return decorate

    @property
    def schedules(self) -> Schedules:
        """The schedules in the backend: add, show, change, pause, resume, run and remove them."""
        from queuekit.schedules.manager import Schedules

        source: Any = self
        return Schedules(source)

    def _declare(self, when: When, call: Part, *, name: str | None, rules: dict[str, Any]) -> Schedule:
        from queuekit.schedules.schedule import Schedule

        chosen = call.task if name is None and isinstance(call, Signature) else name
        if chosen is None:
            raise ScheduleError("a periodic workflow needs a name", fix='Write app.periodic(..., name="...")')
        schedule = Schedule(name=chosen, when=when, call=call, **rules)
        # The same declaration may be repeated, e.g. when its module is reloaded.
        if self.declared.get(chosen, schedule) != schedule:
            raise ScheduleError(f"two schedules are named {chosen!r}", fix='Give one of them another name: name="..."')
        self.declared[chosen] = schedule
        return schedule
