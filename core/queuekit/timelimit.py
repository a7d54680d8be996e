"""The time that a caller gives to the calls of engines in its thread; engines ask before they wait for a service.

A send must not take longer than ``send_timeout``, whatever a service does: whoever sends notes here when it has to be
over, and a broker or backend cuts its own timeouts to what is left (:func:`time_left`). It need not fail by itself
when nothing is left: any wait of 0 seconds will do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["LIMITS", "end_of_time", "time_left", "time_limit", "until"]


class CallLimit:
    """When the calls of one thread have to be over."""

    __slots__ = ("end",)

    def __init__(self) -> None:
        self.end: float | None = None
        """On ``time.monotonic()``; ``None`` for no limit."""


class _Limits(threading.local):
    """The limit of each thread, which is looked up once and then costs next to nothing."""

    def __init__(self) -> None:
        self.here = CallLimit()
        """That of the calling thread."""


LIMITS = _Limits()
"""For those on the way of every message; others use :func:`time_limit`."""


def time_left(usual: float) -> float:
    """Return for how many seconds a call may wait: *usual*, or what the caller has left if that is less; at least 0."""
    end = LIMITS.here.end
    return usual if end is None else max(0.0, min(usual, end - time.monotonic()))


def end_of_time() -> float | None:
    """Return when calls of this thread have to be over, to hand on to a helper's thread with :func:`until`."""
    return LIMITS.here.end


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Give what is done inside, in this thread, *seconds*; an earlier end that is set already stays."""
    with until(time.monotonic() + seconds):
        yield


@contextmanager
def until(end: float | None) -> Iterator[None]:
    """Let what is done inside, in this thread, be over by *end* on ``time.monotonic()``; see :func:`time_limit`."""
    limit = LIMITS.here
    before = limit.end
    limit.end = before if end is None else end if before is None else min(before, end)
    try:
        yield
    finally:
        limit.end = before
