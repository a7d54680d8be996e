"""The time of the file, which all processes of the machine share and none can change.

The first process that uses the file after a boot stores the offset of the machine's time of day from its boot clock.
From then on, the file's time is the boot clock plus this offset, for every process and whatever its time of day is set
to. So leases and delays keep their length, and a process with a wrong clock does no harm. After another boot all leases
have ended, since their holders are gone; the time continues at the time of day, or where it stopped if that is later.

If the time of the file is wrong, stop everything that uses it and run::

    python -m queuekit.engines.sqlite.settime jobs.db
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from queuekit.clock import Clock
from queuekit.engines.sqlite.boot_clock import OF_A_TEST, UNKNOWN, boot_clock
from queuekit.values import frozen

__all__ = ["Anchor", "FileTime", "next_version"]

SAVE_EVERY = 1.0
"""Seconds between two writes of the mark."""
_TRIES = 5
_MOMENT = 0.01
"""Seconds between two clock readings that are negligible."""


@frozen
class Anchor:
    """The base of a file's time."""

    offset: float
    """Seconds by which the time of the file is ahead of the boot clock."""
    boot: str
    """The boot of the machine for which the offset holds."""
    seen: float = 0.0
    """Reading of the boot clock when the anchor was stored."""

    def __str__(self) -> str:
        """Return the form stored in the file."""
        return f"{self.offset!r} {self.seen!r} {self.boot}"

    @classmethod
    def read(cls, value: object) -> Anchor | None:
        """Return the anchor stored in the file, or ``None`` if it is not valid."""
        parts = str(value).split(" ", 2)
        try:
            offset, seen, boot = parts
            anchor = cls(float(offset), boot, float(seen))
        except ValueError:
            return None
        return anchor if math.isfinite(anchor.offset) and math.isfinite(anchor.seen) else None


class FileTime:
    """UTC epoch seconds that advance with the boot clock, so that nothing is released early (QK11).

    Args:
        clock: The machine's clock; a test's clock must have monotonic seconds that all users of the file share.
        begin: Called if the time is read before it is set; it calls :meth:`follow` or :meth:`recall`.
    """

    def __init__(self, clock: Clock, begin: Callable[[], object] | None = None) -> None:
        self._boot = boot_clock(clock)
        self._now = self._boot.now
        self._begin = begin
        self._offset: float | None = None
        self._before: float | None = None
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
        """Return an anchor at the machine's time of day, but not before *mark*, the last known time."""
        seen, now = self._now(), self._boot.time()
        for _ in range(_TRIES):
            if self._now() - seen < _MOMENT:
                break
            seen, now = self._now(), self._boot.time()  # the process was suspended between the readings: read again
        return Anchor(max(now, mark) - seen, self._boot.boot, seen)

    def holds(self, anchor: Anchor) -> bool:
        """Return whether *anchor* was stored since the machine was started."""
        if anchor.boot != self._boot.boot:
            return False
        return anchor.boot not in (UNKNOWN, OF_A_TEST) or anchor.seen <= self._now()

    def forget(self) -> None:
        """Read the anchor again before the next use, since the file was closed."""
        if self._begin is not None:
            self._before = self._before if self._offset is None else self._offset
            self._offset = None

    def recall(self) -> None:
        """Use the anchor from before :meth:`forget` until the file is opened again."""
        self._offset = self._before

    def follow(self, anchor: Anchor) -> None:
        """Use *anchor* from now on."""
        self._offset = anchor.offset

    def ahead(self) -> float:
        """Return the seconds by which it is ahead of the machine's time of day; negative if it is behind."""
        return self.now() - self._boot.time()

    def mark_to_save(self) -> float | None:
        """Return the time if it is due to be stored (once a second), so that it continues there after another boot."""
        latest = self.now()
        if latest - self._saved < SAVE_EVERY:
            return None
        self._saved = latest
        return latest


_counter_lock = threading.Lock()
_last_version = 0


def next_version(now: float, count: int = 1) -> int:
    """Return the first of *count* record versions that this process has not used, near *now* in microseconds.

    So a key that was deleted never gets a version again that a holder of a lock still expects.
    """
    global _last_version  # noqa: PLW0603 - one source for all backends of the process
    with _counter_lock:
        first = max(_last_version + 1, int(now * 1_000_000))
        _last_version = first + count - 1
        return first
