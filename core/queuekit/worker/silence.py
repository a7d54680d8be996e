"""Detect, in the supervisor, that a worker process is silent, and which bodies are the cause."""

from __future__ import annotations

import math
from collections.abc import Mapping

from queuekit.execution.run import SILENCE_GRACE
from queuekit.worker.holder import Activity, activities, may_hold
from queuekit.worker.lease_table import LeaseTable
from queuekit.worker.run_table import Inside, RunTable

__all__ = ["LOOK", "Silence"]

LOOK = 1.0
"""Seconds between two checks, and between two heartbeats of a process."""
_SILENT = 4.0
"""Seconds without a heartbeat after which a process counts as silent: one body holds the interpreter."""
_HUNG = 15.0
"""Seconds without a heartbeat after which a process that runs no body counts as hung."""


class Silence:
    """Measures how long a process has sent no heartbeat.

    Only the time between checks counts, so that a pause of supervisor and process together, as in a frozen container,
    does not.

    Args:
        run_table: The heartbeats and running bodies of the process.
        pid: Id of the process.
        longest: Seconds of silence after which the process must end in any case: it renews its leases itself, and has
            lost them. Infinite if its supervisor renews them.
    """

    def __init__(self, run_table: RunTable, pid: int, *, longest: float = math.inf) -> None:
        self._run_table = run_table
        self._pid = pid
        self._longest = max(longest, _SILENT + 2 * LOOK)
        self._seen: dict[int, Activity] = {}
        """Activity of the bodies' threads at the last check."""
        self._beat = 0.0
        self._looked = 0.0
        self.seconds = 0.0
        """How long the process has been silent, as far as observed."""

    def look(self, now: float) -> None:
        """Check once, at the monotonic time *now*."""
        beat = self._run_table.last_beat
        passed = min(now - self._looked, 2 * LOOK) if self._looked else 0.0
        self.seconds = self.seconds + passed if beat == self._beat and beat else 0.0
        self._beat, self._looked = beat, now

    def forget(self) -> None:
        """Start counting again: a process that was stopped by a signal sends no heartbeats."""
        self._looked = self.seconds = 0.0

    def suspects(self, now: float, leases: LeaseTable) -> list[int] | None:
        """Return the serials of the bodies for which a silent process must end; ``None`` if it may go on.

        These are the bodies past their time limit, except those that wait for the interpreter themselves. A body
        without a time limit may hold the interpreter forever, and keeps its lease, unless only this process can renew
        it. A silent process that runs no body has hung: the list is empty.
        """
        if self.seconds < _SILENT:
            self._seen = {}
            return None
        entered = self._run_table.entered()
        limits = self._holder_limits(entered, leases)
        overdue = [serial for serial, limit in limits.items() if now >= limit + SILENCE_GRACE]
        if overdue:
            return overdue
        if self.has_lost_leases:
            return [*limits]
        return [] if not entered and self.seconds >= _HUNG else None

    @property
    def has_lost_leases(self) -> bool:
        """Whether it has been silent for so long that leases which only it can renew have ended."""
        return self.seconds >= self._longest

    def _holder_limits(self, entered: Mapping[int, Inside], leases: LeaseTable) -> dict[int, float]:
        """Return the time limits of the bodies that may hold the interpreter of this process, by serial."""
        apart = {held_lease.serial for held_lease in leases.held() if held_lease.apart}
        here = {serial: inside for serial, inside in entered.items() if serial not in apart}
        holders = self._holders({inside.thread for inside in here.values()})
        return {serial: inside.limit for serial, inside in here.items() if inside.thread in holders}

    def _holders(self, threads: set[int]) -> set[int]:
        """Return the threads that may hold the interpreter; none at the first check, which has nothing to compare."""
        before, self._seen = self._seen, activities(self._pid, threads)
        return may_hold(before, self._seen, threads) if before or not self._seen else set()
