"""Sends each tick of each schedule once, from whichever worker leads; another takes over when it falls silent.

A tick is sent first, under an id that follows from schedule and time, and then recorded. So whoever comes after a
crash in between sends it again under the same id, which adds nothing (QK13), and no tick is lost. What a leader that
stood still sends too late is the same message as well.
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
from queuekit.schedules.manager import Schedules, SchedulingApp, declaring, scan
from queuekit.schedules.schedule import (
    CHANGES,
    DECLARES,
    Progress,
    StoredSchedule,
    entry_key,
    progress_key,
    read_progress,
)

__all__ = ["Scheduler"]

_LONGEST_LEASE = 15.0
"""Seconds after which another worker leads in place of one that fell silent, at most."""
_LOOK = 2.0
"""Seconds between two looks: of the leader whether a schedule was changed, of the others whether the lead is free, and
where there are no schedules whether there are any now."""
_AFRESH = 10.0
"""Seconds between two readings of everything, at least."""
_RARE = 100
"""How many times as long as it takes: an engine that walks over all that it holds is not to do so all the time."""
_PRESENCE = 10.0
"""Seconds between two writings of what this app's code declares."""
_PRESENCE_TTL = 30.0
_ASLEEP = 7 * 86_400.0
"""Seconds after which a schedule that no live worker's code declares is forgotten."""
_AT_ONCE = 100
"""Schedules whose ticks are sent together."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
_DUTIES = ("presence", "renew", "look", "afresh")
_logger = logging.getLogger("queuekit.schedules")


@attrs.frozen
class _Upcoming:
    """A schedule as the leader last saw it."""

    entry: StoredSchedule
    next: float | None
    """Its first tick that is not dealt with, in UTC epoch seconds."""


class Scheduler:
    """One of those who may lead: a thread of a worker, or the whole of ``queuekit scheduler``.

    Args:
        app: The app; its backend keeps the schedules.
        name: Who this is.
    """

    def __init__(self, app: SchedulingApp, *, name: str) -> None:
        self._app = app
        self._runtime = runtime = app.runtime
        self._clock = runtime.clock
        self._backend: Backend = runtime.need_backend("a schedule")
        self._schedules = Schedules(app)
        self.name = name
        self._lease = lease = min(_LONGEST_LEASE, runtime.config.worker.lease / 2)
        own = f"{name}.{os.urandom(4).hex()}"
        self._presence = Record(key=DECLARES + own, body=" ".join(sorted(app.declared)).encode(), ttl=_PRESENCE_TTL)
        self._leadership = Leadership(self._backend, self._clock, key="leader:crons", name=own, ttl=lease)
        self._dispatcher = Dispatcher(app, now=self._now, may_send=lambda: self._leadership.is_leader)
        self._known: dict[str, _Upcoming] = {}
        self._complaints: dict[str, str] = {}
        """What was told of schedules that cannot be read here."""
        self._begun = False
        """Whether there is anything to lead, and what this app's code declares is stored."""
        self._led = False
        self._changes = -1
        self._duties: dict[str, float] = dict.fromkeys(_DUTIES, float("-inf"))
        """Monotonic seconds at which each of its duties is due."""
        self._server_time = (0.0, 0.0)
        """The backend's time, and the monotonic seconds at which it told."""
        self._stopping = False
        self._woken = threading.Condition()
        self.thread = threading.Thread(target=self.run, name="queuekit-scheduler", daemon=True)

    @property
    def is_leader(self) -> bool:
        """Whether it is this one that sends the ticks now."""
        return self._leadership.is_leader

    # -- life

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self.thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End, and give the lead back; may be called from any thread, and again."""
        with self._woken:
            self._stopping = True
            self._woken.notify_all()
        if self.thread.is_alive() and self.thread is not threading.current_thread():
            self.thread.join(timeout)

    def run(self) -> None:
        """Seek the lead, and send ticks while holding it, until told to stop."""
        outage = Outage(self._runtime, doing="send ticks", first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)
        while not self._stopping:
            try:
                pause = self.turn()
                outage.over()
            except UnavailableError as error:
                pause = outage.failed(error.what)
                self._duties = dict.fromkeys(self._duties, float("-inf"))  # what has failed is not done
            except BaseException:  # noqa: BLE001 - also SystemExit, in a middleware's before_send
                log_error(_logger, "the scheduler met an error that it does not know")
                pause = _LONGEST_PAUSE
            self._sleep(pause)
        self._resign()

    def turn(self) -> float:
        """Do what is to be done now, and return how many seconds later to come again."""
        if not self._begin():
            return _LOOK
        if self._presence.body and self._is_time("presence", _PRESENCE):
            self._backend.put([self._presence])
        if not self._seek():
            return self._patience()
        if self._is_time("look", _LOOK):
            self._look()
        now = self._now()
        ready = [name for name, known in self._known.items() if known.next is not None and known.next <= now]
        for first in range(0, len(ready), _AT_ONCE):
            self._tick(ready[first : first + _AT_ONCE])
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

    # -- leading

    def _begin(self) -> bool:
        """Return whether there are schedules at all: whoever uses none pays one question in two seconds."""
        if not self._begun:
            declared = self._app.declared
            self._schedules.declare(declared)
            self._begun = bool(declared) or CHANGES in self._backend.get([CHANGES])
        return self._begun

    def _seek(self) -> bool:
        """Return whether this one leads, and keep it so."""
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
        """Return when to look again whether the lead is free: soon after the lease is over if nobody renews it."""
        return min(_LOOK, self._leadership.left + 0.05) * (1.0 + 0.1 * self._runtime.random.random())

    def _is_time(self, duty: str, every: float) -> bool:
        now = self._clock.monotonic()
        if now < self._duties[duty]:
            return False
        self._duties[duty] = now + every
        return True

    def _now(self) -> float:
        """Return the backend's time: all who may lead agree on it, whatever their own clocks say (QK11)."""
        server_time, at = self._server_time
        return server_time + self._clock.monotonic() - at

    # -- knowing

    def _look(self) -> None:
        """Read the schedules if one was changed, or they were not read for long."""
        record = self._backend.get([CHANGES]).get(CHANGES)
        version = 0 if record is None else record.version
        self._server_time = (self._runtime.now(), self._clock.monotonic())
        began = self._clock.monotonic()
        if began >= self._duties["afresh"] or version != self._changes:
            self._schedules.declare(self._app.declared)
            self._load()
            self._changes = version
            self._duties["afresh"] = began + max(_AFRESH, _RARE * (self._clock.monotonic() - began))

    def _load(self) -> None:
        """Read all schedules, and see which of them sleep: those of code that no live worker's code declares."""
        entries = list(scan(self._backend, unreadable=self._set_aside))
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
        """Note since when a schedule sleeps, and forget it after a week; its ticks wait until it is declared again."""
        since = entry.orphaned
        if awake != (since is None):
            changed = attrs.evolve(entry, orphaned=None if awake else self._now())
            self._backend.put([changed.record()], expect=entry.version)
        elif since is not None and self._now() - since > _ASLEEP:
            self._backend.delete([entry_key(entry.name)], expect=entry.version)
            self._backend.delete([progress_key(entry.name)])
        return awake

    def _know(self, entry: StoredSchedule, progress: Progress) -> _Upcoming:
        if entry.paused:
            return _Upcoming(entry, None)
        try:
            return _Upcoming(entry, entry.when.next_after(max(entry.since, progress.at)))
        except BaseException as error:  # noqa: BLE001 - one schedule must not keep the others from theirs
            self._complain(entry.name, in_words(error))
            return _Upcoming(entry, None)

    def _set_aside(self, name: str, why: str) -> None:
        self._complain(name, f"it is set aside, since its record cannot be read here: {why}")

    def _complain(self, name: str, error: str) -> None:
        """Tell that the ticks of a schedule cannot be told here, but not each time that it is read."""
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
