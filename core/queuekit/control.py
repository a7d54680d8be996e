"""What a task may raise to steer its own message: control flow, not failures."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from queuekit import durations

__all__ = ["Cancel", "Cancelled", "Interruption", "Reject", "Retry", "Snooze", "TaskTimeout", "matches"]


Duration = float | str | timedelta


def _seconds(value: Duration, *, of: str) -> float:
    """Return *value* in seconds; a moment that has passed is at once."""
    if isinstance(value, int | float) and value < 0:
        return 0.0
    try:
        return durations.parse(value)
    except durations.DurationError as error:
        raise durations.DurationError(f"{of}: {error.what}") from None


class Control(Exception):
    """Base of the exceptions that steer; the worker never reports them as errors."""


class Retry(Control):
    """Run again, using up one of the task's retries; when none is left the task has failed.

    Args:
        reason: Kept as the error's text.
        after: Seconds to wait, or text such as ``"5m"``; ``None`` leaves it to the retry policy.

    Raises:
        DurationError: *after* is no duration.
    """

    def __init__(self, reason: str = "retry asked for by the task", *, after: Duration | None = None) -> None:
        super().__init__(reason)
        self.after = None if after is None else _seconds(after, of="Retry: after")


class Snooze(Control):
    """Run again after *seconds* without using up a retry: the work cannot be done yet.

    Args:
        seconds: Seconds to wait, or text such as ``"5m"``.

    Raises:
        DurationError: It is no duration.
    """

    def __init__(self, seconds: Duration) -> None:
        self.seconds = _seconds(seconds, of="Snooze")
        super().__init__(f"snoozed for {self.seconds:g} s")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.seconds,)


class Cancel(Control):
    """End as CANCELLED: the work is no longer wanted."""


class Reject(Control):
    """Go to the dead letters at once, whatever retries are left: the message can never be worked off."""


class Interruption(BaseException):
    """Base of what a worker raises inside a body from outside.

    Like ``asyncio.CancelledError`` it is no ``Exception``, so that a body's ``except Exception`` does not swallow it.
    """


class Cancelled(Interruption):
    """Raised inside a task that runs in a thread when somebody has cancelled its message, which then is CANCELLED."""


class TaskTimeout(Interruption):
    """Raised inside a task that ran longer than its ``timeout``; retried like any error.

    ``retry_on`` and ``dont_retry`` count it among the exceptions that ``Exception`` stands for.
    """


def matches(error: BaseException, kinds: tuple[type, ...]) -> bool:
    """Return whether ``retry_on`` or ``dont_retry`` with these *kinds* means *error*."""
    return isinstance(error, kinds) or (isinstance(error, TaskTimeout) and Exception in kinds)
