"""Whether a worker process has fallen silent, as its supervisor sees it, and whose fault that is."""

from __future__ import annotations

import math

from queuekit.worker.holder import Activity, activities, may_hold
from queuekit.worker.lease_table import LeaseTable
from queuekit.worker.run_table import RunTable

__all__ = ["LOOK", "Silence"]

LOOK = 1.0
"""Seconds between two looks, and between two beats of a process."""
_SILENT = 4.0
"""Seconds without a beat after which no thread of a process gets to run: one body holds the interpreter."""
_GRACE = 2.0
"""Seconds that a body of a silent process may be over its time: it may just be about to end."""
_HUNG = 15.0
"""Seconds without a beat after which a process has hung that runs no body at all."""


class Silence:
    """Counts for how long a process has not said that it is alive.

    Only time that passes between looks counts: where supervisor and process have stood still together, as in a frozen
    container, nothing is concluded from it.

    Args:
        run_table: Where the process says that it is alive, and what it runs.
        pid: Its number.
        longest: Seconds of silence after which it must end whatever it does: it renews its leases itself, and has lost
            them. Infinite where its supervisor renews them.
    """

    def __init__(self, run_table: RunTable, pid: int, *, longest: float = math.inf) -> None:
        self._run_table = run_table
        self._pid = pid
        self._longest = max(longest, _SILENT + 2 * LOOK)
        self._seen: dict[int, Activity] = {}
        """What the threads of bodies had done at the last look."""
        self._beat = 0.0
        self._looked = 0.0
        self.seconds = 0.0
        """How long it has been silent, as far as was seen."""

    def look(self, now: float) -> None:
        """Look once, at *now*, monotonic seconds."""
        beat = self._run_table.last_beat
        passed = min(now - self._looked, 2 * LOOK) if self._looked else 0.0
        self.seconds = self.seconds + passed if beat == self._beat and beat else 0.0
        self._beat, self._looked = beat, now

    def forget(self) -> None:
        """Count from now on: what was stopped by a signal has reason to be silent."""
        self._looked = self.seconds = 0.0

    def suspects(self, now: float, leases: LeaseTable) -> list[int] | None:
        """Return the serials of the bodies because of which a silent process must end; ``None`` if it may go on.

        Bodies past their time limit are to blame, but not those that wait for the interpreter themselves. A body
        without time limit may hold it for as long as it likes, and keeps its lease, unless only this process can renew
        it. A process that runs no body and is silent has hung: nobody is to blame.
        """
        if self.seconds < _SILENT:
            self._seen = {}
            return None
        apart = {held_lease.serial for held_lease in leases.held() if held_lease.apart}
        entered = self._run_table.entered()
        holders = self._holders({inside.thread for serial, inside in entered.items() if serial not in apart})
        overdue = [serial for serial, inside in entered.items() if now >= inside.limit + _GRACE and serial not in apart]
        blocking = [serial for serial in overdue if entered[serial].thread in holders]
        if blocking:
            return blocking
        if self.has_lost_leases:
            return [serial for serial in entered if serial not in apart and entered[serial].thread in holders]
        return [] if not entered and self.seconds >= _HUNG else None

    @property
    def has_lost_leases(self) -> bool:
        """Whether it has been silent for so long that leases have ended that only this process could renew."""
        return self.seconds >= self._longest

    def _holders(self, threads: set[int]) -> set[int]:
        """Return the threads that may hold the interpreter; none at the first look, which has nothing to compare."""
        before, self._seen = self._seen, activities(self._pid, threads)
        return may_hold(before, self._seen, threads) if before or not self._seen else set()
