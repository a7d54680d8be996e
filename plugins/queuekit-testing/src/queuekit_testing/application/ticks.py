"""Sends the ticks of an app's schedules as the scheduler of a worker does, one after the other."""

from __future__ import annotations

from queuekit.app import Queuekit
from queuekit.clock import Clock
from queuekit.schedules.dispatcher import Dispatcher
from queuekit.schedules.manager import declare, scan
from queuekit.schedules.schedule import CHANGES, Progress, StoredSchedule, progress_key, read_progress

__all__ = ["Ticks"]


class Ticks:
    """The schedules of one app, on the clock of a test.

    Args:
        app: The app; its backend stores the schedules.
        clock: The clock of the test.
    """

    def __init__(self, app: Queuekit, clock: Clock) -> None:
        self._app = app
        self._clock = clock
        self._runtime, self._backend = app.runtime, app.runtime.backend
        self._dispatcher = None if self._backend is None else Dispatcher(app, now=clock.time, may_send=lambda: True)
        self._next: dict[str, float] = {}
        self._version = -1
        if self._backend is not None and app.declared:
            declare(app)

    def look(self) -> None:
        """Read the schedules again if one of them has changed."""
        backend = self._backend
        if backend is None:
            return
        record = backend.get([CHANGES]).get(CHANGES)
        version = 0 if record is None else record.version
        if version == self._version:
            return
        self._version, self._next = version, {}
        for entry in scan(self._runtime):
            key = progress_key(entry.name)
            self._know(entry, read_progress(backend.get([key]).get(key)))

    @property
    def next(self) -> float | None:
        """When the next tick is due, in UTC epoch seconds."""
        return min(self._next.values(), default=None)

    def send_due(self) -> None:
        """Send all ticks that are due."""
        now = self._clock.time()
        names = [name for name, at in self._next.items() if at <= now]
        if names and self._dispatcher is not None:
            for name in names:
                del self._next[name]
            for entry, progress in self._dispatcher.tick(names).values():
                self._know(entry, progress)

    def _know(self, entry: StoredSchedule, progress: Progress) -> None:
        if not entry.paused:
            after = entry.when.next_after(max(entry.since, progress.at))
            if after is not None:
                self._next[entry.name] = after
