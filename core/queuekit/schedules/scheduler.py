"""Send each tick of each schedule once, from the worker that is the leader; if it fails, another takes over.

A tick is first sent, under an id derived from schedule and time, and then recorded. After a crash in between, the next
leader sends it again under the same id, which adds nothing (QK13), and no tick is lost. A tick that a paused leader
sends too late is the same message as well.
"""

from __future__ import annotations

import logging
import os
import threading

import attrs

from queuekit.backend import Backend, Record
from queuekit.client.outage import Outage
from queuekit.errors import UnavailableError
from queuekit.events import SchedulerLeaderElected, SchedulerLeaderLost, TickFailed
from queuekit.failure import in_words
from queuekit.logs.errors import log_error
from queuekit.schedules.dispatcher import Dispatcher
from queuekit.schedules.leadership import Leadership
from queuekit.schedules.manager import SchedulingApp, declare, declaring, scan
from queuekit.schedules.schedule import (
    CHANGES,
    DECLARES,
    Progress,
    StoredSchedule,
    entry_key,
    progress_key,
    read_progress,
)
from queuekit.values import frozen

__all__ = ["Scheduler"]

_LONGEST_LEASE = 15.0
"""Most seconds after which another worker replaces a leader that fails."""
_LOOK = 2.0
"""Seconds between two checks: of the leader for changed schedules, of the others for a free leadership, and without
any schedules for the first one."""
_AFRESH = 10.0
"""Least seconds between two reads of all schedules."""
_RARE = 100
"""The interval between two reads is at least this many times their duration, since some engines scan all records."""
_PRESENCE = 10.0
"""Seconds between two writes of the names that this app's code declares."""
_PRESENCE_TTL = 30.0
_ASLEEP = 7 * 86_400.0
"""Seconds after which a schedule that no live worker's code declares is deleted."""
_AT_ONCE = 100
"""Most schedules whose ticks are sent together."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
_DUTIES = ("presence", "renew", "look", "afresh")
_logger = logging.getLogger("queuekit.schedules")


@frozen
class _Upcoming:
    """A schedule as the leader last read it."""

    entry: StoredSchedule
    next: float | None
    """Its first tick that is not handled, in UTC epoch seconds."""


class Scheduler:
    """A candidate for leadership: a thread of a worker, or the process of ``queuekit scheduler``.

    Args:
        app: The app; its backend stores the schedules.
        name: Name of this candidate.
        is_told: Whether another thread calls :meth:`note_changes`, so that a candidate without schedules reads nothing.
    """

    def __init__(self, app: SchedulingApp, *, name: str, is_told: bool = False) -> None:
        self._app = app
        self._runtime = runtime = app.runtime
        self._clock = runtime.clock
        self._backend: Backend = runtime.need_listing("a schedule")
        self.name = name
        self._lease = lease = min(_LONGEST_LEASE, runtime.config.worker.lease / 2)
        own = f"{name}.{os.urandom(4).hex()}"
        self._presence = Record(key=DECLARES + own, body=" ".join(sorted(app.declared)).encode(), ttl=_PRESENCE_TTL)
        self._leadership = Leadership(self._backend, self._clock, key="leader:crons", name=own, ttl=lease)
        self._dispatcher = Dispatcher(app, now=self._now, may_send=lambda: self._leadership.is_leader)
        self._known: dict[str, _Upcoming] = {}
        self._complaints: dict[str, str] = {}
        """The last reported problem of each schedule that cannot be used here."""
        self._begun = False
        """Whether any schedule exists, and the declared ones are stored."""
        self._led = False
        self._changes = -1
        self._is_told = is_told
        self._noted = 0
        """Version of the record of changes, as last noted."""
        self._duties: dict[str, float] = dict.fromkeys(_DUTIES, float("-inf"))
        """Monotonic time at which each of its duties is due."""
        self._server_time = (0.0, 0.0)
        """The backend's time, and the monotonic time at which it was read."""
        self._stopping = False
        self._woken = threading.Condition()
        self.thread = threading.Thread(target=self.run, name="queuekit-scheduler", daemon=True)

    @property
    def is_leader(self) -> bool:
        """Whether this scheduler sends the ticks now."""
        return self._leadership.is_leader

    # -- start and stop

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Stop, and release the leadership; may be called from any thread, and repeatedly."""
        with self._woken:
            self._stopping = True
            self._woken.notify_all()
        if self.thread.is_alive() and self.thread is not threading.current_thread():
            self.thread.join(timeout)

    def note_changes(self, record: Record | None) -> None:
        """Note the record of changes, which the caller reads with others; look at once at schedules that are new."""
        version = 0 if record is None else record.version
        if version != self._noted:
            with self._woken:
                self._noted = version
                self._duties["look"] = float("-inf")
                self._woken.notify_all()

    def run(self) -> None:
        """Try to become the leader, and send ticks while it is, until :meth:`stop`."""
        outage = Outage(self._runtime, doing="send ticks", first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)
        while not self._stopping:
            try:
                pause = self.turn()
                outage.over()
            except UnavailableError as error:
                pause = outage.failed(error.what)
                self._duties = dict.fromkeys(self._duties, float("-inf"))  # repeat all duties: some of them failed
            except BaseException:  # noqa: BLE001 - also SystemExit, in a middleware's before_send
                log_error(_logger, "unexpected error in the scheduler")
                pause = _LONGEST_PAUSE
            self._sleep(pause)
        self._resign()

    def turn(self) -> float:
        """Do everything that is due now, and return the seconds until the next call."""
        if not self._begin():
            return _LOOK
        if self._presence.body and self._is_time("presence", _PRESENCE):
            self._backend.put([self._presence])
        if not self._seek():
            return self._patience()
        if self._is_time("look", _LOOK):
            self._look()
        self._send_due()
        return self._rest()

    def _send_due(self) -> None:
        now = self._now()
        ready = [name for name, known in self._known.items() if known.next is not None and known.next <= now]
        for first in range(0, len(ready), _AT_ONCE):
            self._tick(ready[first : first + _AT_ONCE])

    def _rest(self) -> float:
        """Return the seconds until the next tick or duty."""
        nexts = [known.next - self._now() for known in self._known.values() if known.next is not None]
        duties = [self._duties[duty] - self._clock.monotonic() for duty in ("look", "renew")]
        return max(0.0, min([*nexts, *duties]))

    def _sleep(self, seconds: float) -> None:
        with self._woken:
            if not self._stopping and seconds > 0:
                self._clock.wait(self._woken, seconds)

    def _resign(self) -> None:
        try:
            self._leadership.resign()
            if self._presence.body:
                self._backend.delete([self._presence.key])
        except UnavailableError:
            return  # the lease ends by itself

    # -- leadership

    def _begin(self) -> bool:
        """Return whether any schedule exists; without schedules, this costs at most one read every two seconds."""
        if not self._begun:
            declare(self._app)
            self._begun = bool(self._app.declared or self._noted) or self._has_changes()
        return self._begun

    def _has_changes(self) -> bool:
        return not self._is_told and CHANGES in self._backend.get([CHANGES])

    def _seek(self) -> bool:
        """Acquire or renew the leadership; return whether this scheduler is the leader."""
        if not self._leadership.is_leader or self._is_time("renew", self._lease / 3):
            self._leadership.seek()
        is_leader = self._leadership.is_leader
        if is_leader and not self._led:
            self._duties = dict.fromkeys(self._duties, float("-inf"))
            self._is_time("renew", self._lease / 3)
            self._runtime.events.emit(SchedulerLeaderElected(worker=self.name))
        elif self._led and not is_leader:
            self._known.clear()
            self._runtime.events.emit(SchedulerLeaderLost(worker=self.name))
        self._led = is_leader
        return is_leader

    def _patience(self) -> float:
        """Return the seconds until the next check for a free leadership: soon after the current lease may end."""
        return min(_LOOK, self._leadership.left + 0.05) * (1.0 + 0.1 * self._runtime.random.random())

    def _is_time(self, duty: str, every: float) -> bool:
        now = self._clock.monotonic()
        if now < self._duties[duty]:
            return False
        self._duties[duty] = now + every
        return True

    def _now(self) -> float:
        """Return the backend's time: all candidates agree on it, whatever their own clocks show (QK11)."""
        server_time, at = self._server_time
        return server_time + self._clock.monotonic() - at

    # -- reading schedules

    def _look(self) -> None:
        """Read all schedules if one was changed, or they have not been read for long."""
        record = self._backend.get([CHANGES]).get(CHANGES)
        version = 0 if record is None else record.version
        self._server_time = (self._runtime.now(), self._clock.monotonic())
        began = self._clock.monotonic()
        if began >= self._duties["afresh"] or version != self._changes:
            declare(self._app)
            self._load()
            self._changes = version
            self._duties["afresh"] = began + max(_AFRESH, _RARE * (self._clock.monotonic() - began))

    def _load(self) -> None:
        """Read all schedules, and find those that are asleep: no live worker's code declares them any more."""
        entries = list(scan(self._runtime, unreadable=self._set_aside))
        keys = [progress_key(entry.name) for entry in entries]
        found = self._backend.get(keys) if keys else {}
        foreign = any(entry.source == "code" and entry.name not in self._app.declared for entry in entries)
        awake = {*self._app.declared, *(declaring(self._backend) if foreign else ())}
        known = {
            entry.name: self._know(entry, read_progress(found.get(progress_key(entry.name))))
            for entry in entries
            if entry.source == "added" or self._is_awake(entry, awake=entry.name in awake)
        }
        self._known = known

    def _is_awake(self, entry: StoredSchedule, *, awake: bool) -> bool:
        """Record since when a schedule is asleep, and delete it after a week; declared again, it continues."""
        since = entry.orphaned
        if awake != (since is None):
            changed = attrs.evolve(entry, orphaned=None if awake else self._now())
            self._backend.put([changed.record(self._runtime.signing)], expect=entry.version)
        elif since is not None and self._now() - since > _ASLEEP:
            self._backend.delete([entry_key(entry.name)], expect=entry.version)
            self._backend.delete([progress_key(entry.name)])
        return awake

    def _know(self, entry: StoredSchedule, progress: Progress) -> _Upcoming:
        if entry.paused:
            return _Upcoming(entry, None)
        try:
            return _Upcoming(entry, entry.when.next_after(max(entry.since, progress.at)))
        except BaseException as error:  # noqa: BLE001 - one schedule must not block the others
            self._complain(entry.name, in_words(error))
            return _Upcoming(entry, None)

    def _set_aside(self, name: str, why: str) -> None:
        self._complain(name, f"it is set aside: its record cannot be read here: {why}")

    def _complain(self, name: str, error: str) -> None:
        """Report that the ticks of a schedule cannot be computed here, unless that is already reported."""
        if self._complaints.get(name) != error:
            self._complaints[name] = error
            self._runtime.events.emit(TickFailed(schedule=name, at=self._now(), error=error))

    def _tick(self, names: list[str]) -> None:
        after = self._dispatcher.tick(names)
        for name in names:
            if name in after:
                self._known[name] = self._know(*after[name])
            else:
                del self._known[name]
