"""The time of the file, which all processes of the machine share and none can change.

The first process that uses the file after a boot of the machine writes down how far the time of day of the machine is
ahead of its boot clock. From then on the time is the boot clock and that, for everyone, whatever their own time of day
says or is set to: leases and delays have their length, and a process whose clock is wrong does no harm. After another
boot all leases are over, since their holders are gone, and time continues at the time of day, or where it stopped if
that is later.

If the time of the file is wrong, stop everything that uses it and run::

    python -m queuekit.engines.sqlite.settime jobs.db
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import attrs

from queuekit.clock import Clock
from queuekit.engines.sqlite.boot_clock import OF_A_TEST, UNKNOWN, boot_clock

__all__ = ["Anchor", "FileTime", "next_version"]

SAVE_EVERY = 1.0
"""Seconds between two writes of the mark."""
_TRIES = 5
_MOMENT = 0.01
"""Seconds between two readings of a clock that do not matter."""


@attrs.frozen
class Anchor:
    """What the time of a file rests on."""

    offset: float
    """Seconds by which the time of the file is ahead of the boot clock."""
    boot: str
    """The boot of the machine for which that holds."""
    seen: float = 0.0
    """What the boot clock showed when it was written."""

    def __str__(self) -> str:
        """Return it as it stands in the file."""
        return f"{self.offset!r} {self.seen!r} {self.boot}"

    @classmethod
    def read(cls, value: object) -> Anchor | None:
        """Return the anchor that the file holds, or ``None`` if it is not valid."""
        parts = str(value).split(" ", 2)
        try:
            offset, seen, boot = parts
            anchor = cls(float(offset), boot, float(seen))
        except ValueError:
            return None
        return anchor if math.isfinite(anchor.offset) and math.isfinite(anchor.seen) else None


class FileTime:
    """UTC epoch seconds that go as the boot clock goes, so that nothing is released early (QK11).

    Args:
        clock: The machine's clock; a test's clock must have monotonic seconds that all users of the file share.
        begin: Called when the time is asked for before it was set; it calls :meth:`follow`.
    """

    def __init__(self, clock: Clock, begin: Callable[[], object] | None = None) -> None:
        self._boot = boot_clock(clock)
        self._now = self._boot.now
        self._begin = begin
        self._offset: float | None = None
        self._saved = float("-inf")

    def now(self) -> float:
        """Return the time."""
        offset = self._offset
        if offset is None:
            offset = self._first()
        return self._now() + offset

    def _first(self) -> float:
        if self._begin is not None:
            self._begin()
        if self._offset is None:
            self._offset = self.anchor().offset
        return self._offset

    def anchor(self, mark: float = float("-inf")) -> Anchor:
        """Return an anchor by the machine's time of day, and not before *mark*, the last time that is known."""
        seen, now = self._now(), self._boot.time()
        for _ in range(_TRIES):
            if self._now() - seen < _MOMENT:
                break
            seen, now = self._now(), self._boot.time()  # this process was stopped in between
        return Anchor(max(now, mark) - seen, self._boot.boot, seen)

    def holds(self, anchor: Anchor) -> bool:
        """Return whether *anchor* was written since the machine has started."""
        if anchor.boot != self._boot.boot:
            return False
        return anchor.boot not in (UNKNOWN, OF_A_TEST) or anchor.seen <= self._now()

    def forget(self) -> None:
        """Read the anchor again before the next use, since the file is not open any more."""
        if self._begin is not None:
            self._offset = None

    def follow(self, anchor: Anchor) -> None:
        """Go by *anchor* from now on."""
        self._offset = anchor.offset

    def ahead(self) -> float:
        """Return by how many seconds it is ahead of the machine's time of day; below 0 if it is behind."""
        return self.now() - self._boot.time()

    def mark_to_save(self) -> float | None:
        """Return the time if it is to be written now, once a second: after another boot it goes on from there."""
        latest = self.now()
        if latest - self._saved < SAVE_EVERY:
            return None
        self._saved = latest
        return latest


_counter_lock = threading.Lock()
_last_version = 0


def next_version(now: float, count: int = 1) -> int:
    """Return the first of *count* record versions that this process has not used, near *now* in microseconds.

    So a key that was gone does not show a version again that a holder of a lock still expects.
    """
    global _last_version  # noqa: PLW0603 - one source for all backends of the process
    with _counter_lock:
        first = max(_last_version + 1, int(now * 1_000_000))
        _last_version = first + count - 1
        return first
