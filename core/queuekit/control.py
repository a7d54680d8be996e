"""Exceptions that a task raises to control its own message; they are not failures."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from queuekit import durations
from queuekit.ids import check_name

__all__ = ["Cancel", "Cancelled", "Interruption", "Reject", "Retry", "Snooze", "TaskTimeout", "matches"]


Duration = float | str | timedelta


def _seconds(value: Duration, *, of: str) -> float:
    """Return *value* in seconds; a negative number counts as 0."""
    if isinstance(value, int | float) and value < 0:
        return 0.0
    try:
        return durations.parse(value)
    except durations.DurationError as error:
        raise durations.DurationError(f"{of}: {error.what}") from None


class Control(Exception):
    """Base of these exceptions; the worker never reports them as errors."""


class Retry(Control):
    """Run again and use up one of the task's retries; if none is left, the task has failed.

    Args:
        reason: Stored as the error's text.
        after: Seconds to wait, or text such as ``"5m"``; ``None`` leaves it to the retry policy.
        limit: Name of a rate limit, e.g. of the service that answered "too many requests". No message of the same key
            starts before this one, in any worker.

    Raises:
        DurationError: *after* is not a valid duration.
        InvalidNameError: *limit* is not the name of a limit.
    """

    def __init__(
        self, reason: str = "the task asked for a retry", *, after: Duration | None = None, limit: str | None = None
    ) -> None:
        super().__init__(reason)
        self.limit = None if limit is None else check_name(limit, what="limit")
        self.after = None if after is None else _seconds(after, of="Retry: after")


class Snooze(Control):
    """Run again after *seconds* without using up a retry, because the work cannot be done yet.

    Args:
        seconds: Seconds to wait, or text such as ``"5m"``.

    Raises:
        DurationError: *seconds* is not a valid duration.
    """

    def __init__(self, seconds: Duration) -> None:
        self.seconds = _seconds(seconds, of="Snooze")
        super().__init__(f"snoozed for {self.seconds:g} s")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.seconds,)


class Cancel(Control):
    """End as CANCELLED, because the work is not needed anymore."""


class Reject(Control):
    """Dead-letter the message at once, without further retries, because no run can ever succeed."""


class Interruption(BaseException):
    """Base of the exceptions that a worker raises inside a body from outside.

    Like ``asyncio.CancelledError`` it does not derive from ``Exception``, so a body's ``except Exception`` does not
    swallow it.
    """


class Cancelled(Interruption):
    """Raised inside a task that runs in a thread when its message is cancelled; the message ends as CANCELLED."""


class TaskTimeout(Interruption):
    """Raised inside a task that runs longer than its ``timeout``; retried like any error.

    In ``retry_on`` and ``dont_retry``, ``Exception`` includes it.
    """


def matches(error: BaseException, kinds: tuple[type, ...]) -> bool:
    """Return whether ``retry_on`` or ``dont_retry`` with these *kinds* covers *error*."""
    return isinstance(error, kinds) or (isinstance(error, TaskTimeout) and Exception in kinds)
