"""Process one batch of due schedules: read them again, decide, send, and record the progress of each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from queuekit.backend import Backend, Condition, Record
from queuekit.errors import DecodeError, ScheduleError, UnavailableError, UniqueConflictError
from queuekit.events import TickFailed, TickSent, TickSkipped, TicksMissed
from queuekit.failure import in_words
from queuekit.schedules.due import Due, due, tick_id
from queuekit.schedules.manager import SchedulingApp, iso
from queuekit.schedules.schedule import (
    Progress,
    StoredSchedule,
    entry_key,
    progress_key,
    read_entry,
    read_progress,
    ticking,
)
from queuekit.signature import Signature
from queuekit.states import State
from queuekit.values import define
from queuekit.wire.records import read_infos, result_key
from queuekit.workflows.workflow import Part

__all__ = ["Dispatcher"]

_OF_THE_CALL = (Exception, SystemExit)
"""Errors that user code may raise while a call is sent, e.g. a middleware, or code that converts an argument."""
_MOST_KNOWN = 1_000
"""Schedules that are kept as they were read."""


@define
class _Turn:
    """The work for one schedule."""

    entry: StoredSchedule
    progress: Progress
    due: Due
    known: frozenset[float] = frozenset()
    """Ticks that were sent but not recorded."""
    calls: list[tuple[float, Part]] = attrs.field(factory=list)
    """Ticks to send, each with its call."""


class Dispatcher:
    """Sends due ticks. Two dispatchers at the same time do no harm: what both send is one message.

    Args:
        app: The app.
        now: Returns the time in UTC epoch seconds.
        may_send: Called right before the send; false cancels it.
    """

    def __init__(self, app: SchedulingApp, *, now: Callable[[], float], may_send: Callable[[], bool]) -> None:
        self._app = app
        self._runtime = app.runtime
        self._backend: Backend = app.runtime.need_listing("a schedule")
        self._now = now
        self._may_send = may_send
        self._entries: dict[str, StoredSchedule] = {}
        """Schedules as they were read last, by the keys of their records."""
        self._calls: dict[str, tuple[int, Part]] = {}
        """The calls of these schedules, by name, each with the version of the record."""

    def tick(self, names: Sequence[str]) -> dict[str, tuple[StoredSchedule, Progress]]:
        """Send the due ticks of *names*, record them, and return each schedule with its progress.

        Schedules that were removed, or cannot be read, are left out.

        Raises:
            UnavailableError: An engine does not answer. Ticks that were sent but not recorded are sent again, which
                adds nothing.
        """
        turns = list(self._read(names))
        ready = [turn for turn in turns if turn.due.upto is not None]
        self._look_back(ready)
        for turn in ready:
            self._prepare(turn)
        if ready and self._may_send():
            self._send(ready)
            records = [turn.progress.record(turn.entry.name) for turn in ready]
            self._backend.put(records, condition=Condition.NEWER)
        return {turn.entry.name: (turn.entry, turn.progress) for turn in turns}

    def _read(self, names: Sequence[str]) -> Iterator[_Turn]:
        """Yield the due ticks of schedules in their current state: one may just have been paused."""
        found = self._backend.get([key(name) for name in names for key in (entry_key, progress_key)])
        now = self._now()
        for name in names:
            record = found.get(entry_key(name))
            if record is None:
                continue
            # An unreadable schedule must not block the others; the leader reports it when it reads all schedules.
            with contextlib.suppress(DecodeError, ScheduleError):
                yield self._turn(self._entry(record), read_progress(found.get(progress_key(name))), now)

    def _entry(self, record: Record) -> StoredSchedule:
        """Return the schedule in *record*, which is read anew only if it has changed."""
        known = self._entries.get(record.key)
        if known is None or known.version != record.version:
            if len(self._entries) >= _MOST_KNOWN:
                self._entries.clear()
                self._calls.clear()
            known = self._entries[record.key] = read_entry(record, self._runtime.signing)
        return known

    def _call(self, entry: StoredSchedule) -> Part:
        """Return the call of a schedule, which is decoded anew only if that has changed."""
        known = self._calls.get(entry.name)
        if known is None or known[0] != entry.version:
            known = self._calls[entry.name] = entry.version, entry.call(self._runtime.accepted)
        return known[1]

    def _turn(self, entry: StoredSchedule, progress: Progress, now: float) -> _Turn:
        plan = Due()
        if not entry.paused:
            after = max(entry.since, progress.at)
            plan = due(entry.when, after=after, now=now, misfire=entry.misfire, grace=entry.grace)
        return _Turn(entry, progress, plan)

    def _look_back(self, turns: Sequence[_Turn]) -> None:
        """Find late ticks that were sent before a crash, so long ago that the broker may not deduplicate them."""
        horizon = self._now() - self._runtime.broker.limits.dedup_window / 2
        ids = {
            result_key(tick_id(turn.entry.name, tick)): (turn, tick)
            for turn in turns
            for tick in turn.due.send
            if tick < horizon
        }
        for key in self._backend.get(list(ids)) if ids else ():
            turn, tick = ids[key]
            turn.known |= {tick}

    def _prepare(self, turn: _Turn) -> None:
        """Create the calls of the due ticks."""
        name, plan, progress = turn.entry.name, turn.due, turn.progress
        upto, first = plan.upto or 0.0, plan.first or 0.0
        if plan.missed:
            self._runtime.events.emit(TicksMissed(schedule=name, count=plan.missed, first=first, last=upto))
        turn.progress = attrs.evolve(progress, at=upto, missed=progress.missed + plan.missed)
        if not plan.send:
            return
        try:
            call = self._call(turn.entry)
            turn.calls = [
                (tick, ticking(turn.entry, call, id=tick_id(name, tick), moment=iso(tick)))
                for tick in plan.send
                if tick not in turn.known
            ]
        except Exception as error:  # noqa: BLE001 - one schedule must not block the others
            self._failed(turn, plan.send[-1], error)

    def _send(self, turns: Sequence[_Turn]) -> None:
        """Send single calls in one batch, and workflows one by one."""
        for turn in turns:
            for tick in sorted(turn.known):
                self._sent(turn, tick, tick_id(turn.entry.name, tick))
        calls = [(turn, tick, call) for turn in turns for tick, call in turn.calls]
        self._send_singles([(turn, tick, call) for turn, tick, call in calls if isinstance(call, Signature)])
        for turn, tick, call in calls:
            if not isinstance(call, Signature):
                self._try(turn, tick, call, self._start)

    def _send_singles(self, singles: Sequence[tuple[_Turn, float, Signature[Any]]]) -> None:
        try:
            sent = self._app.send_many([call for _, _, call in singles])
        except UnavailableError:
            raise
        except _OF_THE_CALL:  # send one by one to find the bad call; sending the others again adds nothing
            for turn, tick, call in singles:
                self._try(turn, tick, call, self._send_one)
        else:
            for (turn, tick, _), one in zip(singles, sent, strict=True):
                self._sent(turn, tick, one.id)

    def _try(self, turn: _Turn, tick: float, call: Part, send: Callable[[_Turn, Any], str]) -> None:
        try:
            self._sent(turn, tick, send(turn, call))
        except UnavailableError:
            raise
        except _OF_THE_CALL as error:  # one schedule must not block the others
            self._failed(turn, tick, error)

    def _send_one(self, _turn: _Turn, call: Any) -> str:
        try:
            return str(self._app.send(call).id)
        except UniqueConflictError as error:  # the tick is skipped
            return error.id

    def _start(self, turn: _Turn, workflow: Any) -> str:
        """Start a workflow unless the previous one still runs and must not overlap; return the id that runs."""
        last = turn.progress.id
        if turn.entry.overlap == "skip" and last and last != workflow.id and self._runs(last):
            return last
        self._app.send(workflow)
        return str(workflow.id)

    def _runs(self, id: str) -> bool:
        """Return whether workflow *id* has not ended."""
        infos = read_infos(self._backend, getattr(self._app.result(id), "ids", [id]))
        return any(info.state is not State.UNKNOWN and not info.done for info in infos)

    def _sent(self, turn: _Turn, tick: float, id: str) -> None:
        """Record a tick as sent, or as skipped because *id* has not ended."""
        name, progress = turn.entry.name, turn.progress
        if id == tick_id(name, tick):
            turn.progress = attrs.evolve(progress, last=tick, id=id, sent=progress.sent + 1, error="")
            self._runtime.events.emit(TickSent(schedule=name, at=tick, id=id, late=max(0.0, self._now() - tick)))
        else:
            turn.progress = attrs.evolve(progress, skipped=progress.skipped + 1)
            self._runtime.events.emit(TickSkipped(schedule=name, at=tick, holder=id))

    def _failed(self, turn: _Turn, tick: float, error: BaseException) -> None:
        text = in_words(error)[:1000]
        turn.progress = attrs.evolve(turn.progress, failed=turn.progress.failed + 1, error=text)
        self._runtime.events.emit(TickFailed(schedule=turn.entry.name, at=tick, error=text))
