"""Bounds a caller's wait for an outcome by its timeout, also while an engine is unavailable."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from queuekit.clock import Clock
from queuekit.durations import parse as parse_duration
from queuekit.errors import ResultTimeout, UnavailableError
from queuekit.timelimit import time_limit

__all__ = ["Timeout", "Wait"]

Timeout = float | str | timedelta | None
"""Seconds, or text such as ``"5s"``; ``None`` for no limit."""
_GRACE = 1.0
"""Seconds beyond the end that a last read from a slow or silent engine may take."""
_LONGEST = 5.0
"""Seconds between two checks for an unknown id."""
_FIRST = 0.5
"""Seconds before the first of these checks, so that a wrong id is reported soon."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class Wait:
    """One wait; it begins at construction.

    Args:
        timeout: Longest wait.
        clock: Clock that measures it.
    """

    def __init__(self, timeout: Timeout, clock: Clock) -> None:
        self._timeout = timeout
        self._clock = clock
        seconds = math.inf if timeout is None else parse_duration(timeout)
        self._end = clock.monotonic() + seconds
        self._step = _FIRST
        self._pause = _FIRST_PAUSE
        self._trouble: UnavailableError | None = None

    @property
    def left(self) -> float:
        """Seconds until the end, at least 0; infinite without a timeout."""
        return max(0.0, self._end - self._clock.monotonic())

    @property
    def step(self) -> float:
        """Seconds of the next single wait."""
        return min(self._step, self.left)

    @property
    def over(self) -> bool:
        """Whether the timeout has passed."""
        return self.left <= 0

    @property
    def allowed(self) -> float:
        """Seconds that an engine call may take from now; infinite without a timeout."""
        return self.left + _GRACE

    @contextmanager
    def limit(self) -> Iterator[None]:
        """Limit the engine calls inside to the allowed time."""
        with time_limit(self.allowed):
            yield

    def answered(self) -> None:
        """Record that the engine answers."""
        self._step = _LONGEST
        self._pause = _FIRST_PAUSE
        self._trouble = None

    def rest(self, error: UnavailableError) -> float:
        """Return the seconds to pause after the engine has failed with *error*.

        Raises:
            UnavailableError: A retry cannot help, e.g. with a wrong password.
        """
        if not error.passing:
            raise error
        self._trouble = error
        pause, self._pause = self._pause, min(_LONGEST_PAUSE, 2 * self._pause)
        return min(pause, self.left)

    def ended(self, what: str, *, fix: str = "") -> ResultTimeout:
        """Return the error to raise on timeout: *what* and *fix*, or the reason if the engine does not answer."""
        trouble = self._trouble
        text = f"{what} within {self._timeout} s"
        if trouble is None:
            return ResultTimeout(text, fix=fix)
        error = ResultTimeout(f"{text}: {trouble.what}", where=trouble.where, fix=trouble.fix)
        error.__cause__ = trouble
        return error
