"""The time of the file: never earlier than any process that used it has seen."""

from __future__ import annotations

import threading

from queuekit.clock import Clock

__all__ = ["FileTime", "next_version"]

SAVE_EVERY = 1.0
"""Seconds between two writes of the mark."""


class FileTime:
    """UTC epoch seconds from *clock* that never step back, so that nothing is released early (QK11).

    After the clock was set back, time goes on from where it was, as fast as the monotonic clock: leases and delays
    keep their length, instead of standing still until the clock has caught up.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._base = (float("-inf"), 0.0)
        self._latest = self._saved = float("-inf")
        self._behind = False
        self._stepped = False

    def now(self) -> float:
        """Return the time."""
        wall = self._clock.time()
        at = self._clock.monotonic()  # read after the wall clock: a pause in between must not push time ahead
        base, since = self._base
        estimate = base + max(0.0, at - since)
        if wall >= estimate:
            self._base = (wall, at)
            self._latest = wall
            self._behind = False
            return wall
        if not self._behind and wall < estimate - SAVE_EVERY:
            self._behind = self._stepped = True
        self._latest = estimate
        return estimate

    def ahead(self) -> float:
        """Return by how many seconds it is ahead of the machine's clock."""
        return max(0.0, self.now() - self._clock.time())

    def observe(self, mark: float) -> None:
        """Go on from *mark*, which another process has seen, if that is later."""
        if mark > self.now():
            self._base = (mark, self._clock.monotonic())

    def mark_to_save(self) -> float | None:
        """Return the mark if it is to be written now: after a second, or once the clock was set back."""
        latest = self._latest
        if latest - self._saved < SAVE_EVERY and not self._stepped:
            return None
        self._saved, self._stepped = latest, False
        return latest


_counter_lock = threading.Lock()
_last_version = 0


def next_version(now: float, count: int = 1) -> int:
    """Return the first of *count* record versions that this process has not used, near *now* in microseconds.

    So a key that was gone does not show a version again that some holder of a lock still expects.
    """
    global _last_version  # noqa: PLW0603 - one source for all backends of the process
    with _counter_lock:
        first = max(_last_version + 1, int(now * 1_000_000))
        _last_version = first + count - 1
        return first
