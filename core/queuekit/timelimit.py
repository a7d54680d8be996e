"""The time limit of engine calls, per thread; engines read it before they wait for a service.

A send must not take longer than ``send_timeout``, whatever a service does. The sender sets the end here, and a broker
or backend cuts its own timeouts to the time left (:func:`time_left`). At 0 seconds left an engine need not raise; a
wait of 0 seconds is enough.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["LIMITS", "end_of_time", "made_progress", "progress_limit", "time_left", "time_limit", "until"]


class CallLimit:
    """The time by which the calls of one thread must end."""

    __slots__ = ("each", "end")

    def __init__(self) -> None:
        self.end: float | None = None
        """On ``time.monotonic()``; ``None`` for no limit."""
        self.each: float | None = None
        """Seconds for each part of the work; ``None`` if the limit applies to all of it."""


class _Limits(threading.local):
    """The limit of each thread, in an object so that one thread-local lookup is enough to read and set it."""

    def __init__(self) -> None:
        self.here = CallLimit()
        """The limit of the calling thread."""


LIMITS = _Limits()
"""For code that handles every message; other code uses :func:`time_limit`."""


def time_left(usual: float) -> float:
    """Return the seconds that a call may wait: *usual*, or the caller's time left if that is less; at least 0."""
    end = LIMITS.here.end
    return usual if end is None else max(0.0, min(usual, end - time.monotonic()))


def end_of_time() -> float | None:
    """Return the time by which calls of this thread must end, to pass to another thread's :func:`until`."""
    return LIMITS.here.end


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Limit the calls inside, in this thread, to *seconds*; an earlier limit stays in effect."""
    with until(time.monotonic() + seconds):
        yield


@contextmanager
def progress_limit(seconds: float) -> Iterator[None]:
    """Limit each part of the work inside, in this thread, to *seconds*; :func:`made_progress` ends a part.

    A limit that is already set stays in effect, and applies to all of the work.
    """
    limit = LIMITS.here
    if limit.end is not None:
        yield
        return
    limit.end, limit.each = time.monotonic() + seconds, seconds
    try:
        yield
    finally:
        limit.end = limit.each = None


def made_progress() -> None:
    """Restart the limit for the next part, if the caller has set one per part; see :func:`progress_limit`."""
    limit = LIMITS.here
    if limit.each is not None:
        limit.end = time.monotonic() + limit.each


@contextmanager
def until(end: float | None) -> Iterator[None]:
    """Limit the calls inside, in this thread, to end by *end* on ``time.monotonic()``; see :func:`time_limit`."""
    limit = LIMITS.here
    before, each = limit.end, limit.each
    limit.end, limit.each = before if end is None else end if before is None else min(before, end), None
    try:
        yield
    finally:
        limit.end, limit.each = before, each
