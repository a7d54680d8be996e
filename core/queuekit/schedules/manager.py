"""Manage schedules, from code and for operators: declare, add, show, change, pause, resume, run, remove."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal, Protocol

import attrs

from queuekit.backend import Backend, Record
from queuekit.client.runtime import Runtime
from queuekit.errors import DecodeError, ScheduleError, UnknownScheduleError, did_you_mean
from queuekit.ids import check_id, new_id
from queuekit.schedules.due import Misfire, Overlap
from queuekit.schedules.schedule import (
    CHANGES,
    DECLARES,
    ENTRIES,
    Progress,
    Schedule,
    StoredSchedule,
    entry_key,
    entry_of,
    progress_key,
    read_entry,
    read_progress,
    ticking,
)
from queuekit.schedules.triggers import When
from queuekit.signature import Signature
from queuekit.tasks.registry import Tasks
from queuekit.tasks.resolve import resolve
from queuekit.tasks.task import Task
from queuekit.timelimit import time_limit
from queuekit.values import frozen
from queuekit.wire.call_options import at_least_one
from queuekit.wire.records import Info, read_infos
from queuekit.wire.signing import Signing, UnsignedError
from queuekit.workflows.workflow import Chain, Chord, Group, Part

__all__ = ["ScheduleView", "Schedules"]

_TRIES = 20
"""Most attempts of a change while others change the same schedule."""


class ScheduleSource(Protocol):
    """The part of an app that :class:`Schedules` uses."""

    tasks: Tasks

    @property
    def runtime(self) -> Runtime:
        """Broker, backend and the rest."""
        ...

    def send(self, signature: Any) -> Any:
        """Send a call or a workflow."""
        ...


class SchedulingApp(ScheduleSource, Protocol):
    """The part of an app that the scheduler uses."""

    declared: dict[str, Schedule]
    """Schedules that its code declares, by name."""

    def send_many(self, signatures: Iterable[Signature[Any]]) -> Sequence[Any]:
        """Send calls in batches."""
        ...

    def result(self, id: str) -> Any:
        """Return a handle on a message or workflow."""
        ...


@frozen(kw_only=True)
class ScheduleView:
    """A schedule and its state. Times are UTC epoch seconds.

    Attributes:
        entry: The schedule.
        progress: Its progress.
        next: Its next tick; ``None`` if it is paused or asleep, or has none.
        outcome: State of the call that the last tick sent.
        declared: Whether its ticks are sent: always if it was added, else while the code of a live worker declares it.
    """

    entry: StoredSchedule
    progress: Progress
    next: float | None
    outcome: Info
    declared: bool

    @property
    def state(self) -> str:
        """``active``, ``paused``, or ``asleep`` if no live worker declares it."""
        return "paused" if self.entry.paused else "active" if self.declared else "asleep"


class Schedules:
    """The schedules in the backend of an app.

    Code declares schedules with :meth:`queuekit.schedules.declare.Periodic.periodic`.

    The leader notices a change within two seconds.

    Args:
        app: The app.
    """

    def __init__(self, app: ScheduleSource) -> None:
        self._app = app
        self._runtime = app.runtime

    # -- reading

    def all(self) -> list[ScheduleView]:
        """Return all schedules, by name."""
        with self._in_time():
            return self._views(list(scan(self._runtime)))

    def set_aside(self) -> dict[str, str]:
        """Return the names of schedules whose records cannot be read here, and why. They send no ticks."""
        with self._in_time():
            found = [(record.key.removeprefix(ENTRIES), why) for record, _, why in _records(self._runtime) if why]
        return dict(sorted(found))

    def get(self, name: str) -> ScheduleView:
        """Return one schedule.

        Raises:
            UnknownScheduleError: No schedule has that name.
        """
        return self._views([self._entry(name)])[0]

    def upcoming(self, name: str, count: int) -> list[float]:
        """Return the next *count* ticks of a schedule as if it were not paused, in UTC epoch seconds."""
        view = self.get(name)
        count = at_least_one(count, option="count") if count != 0 else 0
        after = max(self._now(), view.progress.at)
        return list(islice(view.entry.when.ticks(after), count))

    # -- changing

    def add(
        self,
        name: str,
        when: When,
        call: Part | Task[..., Any],
        *,
        misfire: Misfire = "once",
        overlap: Overlap = "allow",
        grace: float = 60.0,
    ) -> ScheduleView:
        """Store a new schedule; its first tick is the next one of *when*.

        Args:
            name: Its name.
            when: ``every(...)`` or ``cron(...)``.
            call: A task, signature, chain, group or chord.
            misfire: What to send of ticks that no scheduler sent in time: ``skip``, ``once`` or ``all``.
            overlap: What to do with a tick while an earlier call has not ended: ``allow`` or ``skip``.
            grace: Seconds by which a tick may be late before it counts as missed.

        Raises:
            ScheduleError: The name is taken, or the schedule is not valid.
            NoBackendError: There is no backend to store it.
        """
        schedule = Schedule(name=name, when=when, call=call, misfire=misfire, overlap=overlap, grace=grace)
        entry = _made(self._app, schedule, "added")
        with self._in_time():
            (added,) = self._backend.put([entry.record(self._runtime.signing)], expect=0)
        if not added:
            fix = f"Change it:  queuekit schedules change {name}"
            raise ScheduleError(f"schedule {name!r} already exists", fix=fix)
        self._changed()
        return self.get(name)

    def change(
        self,
        name: str,
        *,
        when: When | None = None,
        call: Part | Task[..., Any] | None = None,
        misfire: Misfire | None = None,
        overlap: Overlap | None = None,
        grace: float | None = None,
    ) -> ScheduleView:
        """Change the given fields of a schedule that was added; with another *when*, its ticks count from now.

        Raises:
            UnknownScheduleError: No schedule has that name.
            ScheduleError: The code of a live worker declares it: change it there.
        """
        self._reject_declared(name, "change")
        given = {"when": when, "misfire": misfire, "overlap": overlap, "grace": grace}
        changes = {field: value for field, value in given.items() if value is not None}

        def changed(entry: StoredSchedule) -> StoredSchedule:
            old = call if call is not None else entry.call(self._runtime.accepted)
            fields = {field: getattr(entry, field) for field in given} | changes
            made = _made(self._app, Schedule(name=name, call=old, **fields), "added")
            since = made.since if when is not None and when != entry.when else entry.since
            return attrs.evolve(made, since=since, paused=entry.paused)

        self._edit(name, changed)
        return self.get(name)

    def pause(self, name: str) -> ScheduleView:
        """Send no more ticks of a schedule until it is resumed, even if workers restart."""
        self._edit(name, lambda entry: attrs.evolve(entry, paused=True))
        return self.get(name)

    def resume(self, name: str) -> ScheduleView:
        """Send ticks again, from now on; ticks during the pause do not count as missed."""
        self._edit(name, lambda entry: attrs.evolve(entry, paused=False, since=self._now()) if entry.paused else entry)
        return self.get(name)

    def remove(self, name: str) -> None:
        """Remove a schedule.

        Raises:
            UnknownScheduleError: No schedule has that name.
            ScheduleError: The code of a live worker declares it, and would declare it again: remove it there, or
                pause it.
        """
        name = check_id(name, what="schedule")
        if name not in self.set_aside():
            self._reject_declared(name, "remove")
        with self._in_time():
            self._backend.delete([entry_key(name), progress_key(name)])
        self._changed()

    def sign(self, name: str) -> None:
        """Sign the stored schedule with the first key, whoever wrote it: look at it first.

        Raises:
            UnknownScheduleError: No schedule has that name.
            ScheduleError: It cannot be read, or no key is set.
        """
        signing, name = self._runtime.signing, check_id(name, what="schedule")
        if signing is None:
            raise ScheduleError("signing needs a key, and none is set", fix="Set signing_keys")
        with self._in_time():
            record = self._backend.get([entry_key(name)]).get(entry_key(name))
        if record is None:
            self._entry(name)  # raises
            return
        try:
            read_entry(record)
        except DecodeError as error:
            raise ScheduleError(f"schedule {name!r} cannot be read: {error.what}") from error
        with self._in_time():
            (done,) = self._backend.put([signing.signed_record(record)], expect=record.version)
        if not done:
            raise ScheduleError(f"another process has just changed schedule {name!r}", fix="Look at it again")
        self._changed()

    def run(self, name: str) -> Any:
        """Send the call of a schedule now, in addition to its ticks, and return a handle on its result."""
        entry = self._entry(name)
        call = entry.call(self._runtime.accepted)
        return self._app.send(ticking(entry, call, id=new_id(), moment=iso(self._now())))

    # -- parts

    @property
    def _backend(self) -> Backend:
        return self._runtime.need_listing("a schedule")

    def _in_time(self) -> AbstractContextManager[None]:
        """Limit the block to ``send_timeout``, whatever the engine does."""
        return time_limit(self._runtime.config.send_timeout)

    def _now(self) -> float:
        with self._in_time():
            return self._runtime.now()

    def _entry(self, name: str) -> StoredSchedule:
        name = check_id(name, what="schedule")
        with self._in_time():
            record = self._backend.get([entry_key(name)]).get(entry_key(name))
        if record is None:
            known = [entry.name for entry in scan(self._runtime)]
            fix = did_you_mean(name, known) or "List them:  queuekit schedules"
            raise UnknownScheduleError(f"there is no schedule {name!r}", fix=fix[0].upper() + fix[1:])
        try:
            return read_entry(record, self._runtime.signing)
        except UnsignedError as error:
            fix = f"If it is yours:  queuekit schedules sign {name}"
            raise ScheduleError(f"schedule {name!r} is set aside: {error.what}", fix=fix) from error
        except DecodeError as error:
            raise ScheduleError(
                f"schedule {name!r} is set aside: {error.what}", fix=f"Remove it:  queuekit schedules remove {name}"
            ) from error

    def _edit(self, name: str, change: Callable[[StoredSchedule], StoredSchedule]) -> None:
        """Replace a schedule by the result of *change*; repeat it if another process changes the schedule meanwhile."""
        for _ in range(_TRIES):
            entry = self._entry(name)
            with self._in_time():
                (done,) = self._backend.put([change(entry).record(self._runtime.signing)], expect=entry.version)
            if done:
                self._changed()
                return
        raise ScheduleError(f"other processes keep changing schedule {name!r}", fix="Try again")

    def _changed(self) -> None:
        with self._in_time():
            self._backend.put([Record(key=CHANGES)])

    def _reject_declared(self, name: str, what: str) -> None:
        if self._entry(name).source == "code" and name in declaring(self._backend):
            raise ScheduleError(
                f"the code of a live worker declares schedule {name!r}; {what} it there",
                fix=f"Or pause it:  queuekit schedules pause {name}",
            )

    def _views(self, entries: list[StoredSchedule]) -> list[ScheduleView]:
        steps = self._progress(entries)
        ids = [step.id for step in steps.values() if step.id]
        outcomes = {info.id: info for info in read_infos(self._backend, ids)} if ids else {}
        declared, now = self._declared(entries), self._now()
        return [
            ScheduleView(
                entry=entry,
                progress=steps[entry.name],
                next=_next(entry, steps[entry.name], now) if entry.name in declared else None,
                outcome=outcomes.get(steps[entry.name].id, Info(id="")),
                declared=entry.name in declared,
            )
            for entry in sorted(entries, key=lambda entry: entry.name)
        ]

    def _progress(self, entries: list[StoredSchedule]) -> dict[str, Progress]:
        """Return the progress of each schedule by name."""
        found = self._backend.get([progress_key(entry.name) for entry in entries]) if entries else {}
        return {entry.name: read_progress(found.get(progress_key(entry.name))) for entry in entries}

    def _declared(self, entries: list[StoredSchedule]) -> set[str]:
        """Return the names of schedules whose ticks are sent: added ones, and those that a live worker declares."""
        added = {entry.name for entry in entries if entry.source == "added"}
        return added | declaring(self._backend) if any(entry.source == "code" for entry in entries) else added


def declare(app: SchedulingApp) -> None:
    """Store the declared schedules of *app* that differ from the stored ones; paused schedules stay paused."""
    backend = app.runtime.need_listing("a schedule")
    found = backend.get([entry_key(name) for name in app.declared]) if app.declared else {}
    entries = [_made(app, schedule, "code") for schedule in app.declared.values()]
    changed = [_declare(app.runtime, backend, entry, found.get(entry_key(entry.name))) for entry in entries]
    if any(changed):
        backend.put([Record(key=CHANGES)])


def _declare(runtime: Runtime, backend: Backend, entry: StoredSchedule, record: Record | None) -> bool:
    """Replace *record* by *entry*, unless they are equal or another process changes it first."""
    signing = runtime.signing
    old = _readable(record, signing)
    if old is not None:
        current = signing is None or record is None or signing.is_current(record)
        if old.digest == entry.digest and old.source == "code" and current:
            return False
        since = old.since if old.when == entry.when else entry.since
        entry = attrs.evolve(entry, since=since, paused=old.paused)
    return backend.put([entry.record(signing)], expect=record.version if record is not None else 0)[0]


def _made(app: ScheduleSource, schedule: Schedule, source: Literal["added", "code"]) -> StoredSchedule:
    """Return the entry for *schedule* with all options resolved: the leader may not have its tasks."""
    runtime = app.runtime
    call = _resolved(schedule.call, app.tasks, runtime.config.default_queue)
    with time_limit(runtime.config.send_timeout):
        now = runtime.now()
    return entry_of(
        attrs.evolve(schedule, call=call),
        runtime.serializer,
        source=source,
        since=now,
        max_record=runtime.need_listing("a schedule").limits.max_record,
    )


def scan(runtime: Runtime, *, unreadable: Callable[[str, str], object] | None = None) -> Iterable[StoredSchedule]:
    """Yield all schedules that can be read here; call *unreadable* with the names of the others, and why."""
    for record, entry, why in _records(runtime):
        if entry is not None:
            yield entry
        elif unreadable is not None:
            unreadable(record.key.removeprefix(ENTRIES), why)


def _records(runtime: Runtime) -> Iterator[tuple[Record, StoredSchedule | None, str]]:
    """Yield each record of a schedule, with the schedule or the reason why it cannot be read."""
    for record in runtime.need_listing("a schedule").walk(ENTRIES):
        try:
            entry, why = read_entry(record, runtime.signing), ""
        except DecodeError as error:
            entry, why = None, error.what
        yield record, entry, why


def declaring(backend: Backend) -> frozenset[str]:
    """Return the names of all schedules that the code of live workers declares."""
    records = backend.walk(DECLARES)
    return frozenset(name for record in records for name in record.body.decode("utf-8", "replace").split())


def iso(moment: float) -> str:
    """Return a time as in the header ``cron-time``: ISO 8601, UTC."""
    return datetime.fromtimestamp(moment, UTC).isoformat()


def _readable(record: Record | None, signing: Signing | None) -> StoredSchedule | None:
    try:
        return None if record is None else read_entry(record, signing)
    except DecodeError:
        return None


def _next(entry: StoredSchedule, progress: Progress, now: float) -> float | None:
    """Return the next tick; one that is due and not handled yet comes before future ones."""
    if entry.paused:
        return None
    try:
        first = entry.when.next_after(max(entry.since, progress.at))
        return first if first is None or now - first <= entry.grace else entry.when.next_after(now)
    except ScheduleError:  # cronsim or the time zone is missing here; the leader may have them
        return None


def _resolved(part: Any, tasks: Tasks, default_queue: str) -> Any:
    """Return *part* with the options that are decided on send, which need the registered tasks."""
    if isinstance(part, Signature):
        return _resolved_call(part, tasks.get(part.task), default_queue)
    if isinstance(part, Chain):
        return attrs.evolve(part, links=[_resolved(link, tasks, default_queue) for link in part.links], sender=None)
    if isinstance(part, Group):
        members = [_resolved(member, tasks, default_queue) for member in part.members]
        return attrs.evolve(part, members=members, sender=None)
    assert isinstance(part, Chord)  # noqa: S101 - there are no other kinds
    group = _resolved(part.group, tasks, default_queue)
    return attrs.evolve(part, group=group, callback=_resolved(part.callback, tasks, default_queue), sender=None)


def _resolved_call(call: Signature[Any], task: Task[..., Any] | None, default_queue: str) -> Signature[Any]:
    options = resolve(call, task)
    chosen = {name: getattr(options, name) for name in ("priority", "expires", "unique", "fair_by", "ignore_result")}
    if task is not None and task.defaults.broker is not None:
        chosen["broker"] = {**task.defaults.broker, **(call.broker or {})}
    return attrs.evolve(call, queue=options.queue or default_queue, sender=None, **chosen)
