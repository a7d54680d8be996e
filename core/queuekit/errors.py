"""Every error that queuekit raises, as one tree.

::

    QueuekitError
    ├── ConfigError            QK101  invalid settings, all of them in one report
    ├── AppError               QK102  the app to run cannot be found or imported
    ├── UnknownTaskError       QK201  no task of that name is registered
    ├── ArgumentsError         QK202  the arguments of a call do not match the task's signature
    ├── EncodeError            QK203  the serializer cannot write a value
    ├── DecodeError            QK204  the serializer rejects the bytes
    ├── NoBackendError         QK205  the operation needs a result backend, and none is configured
    ├── UnknownIdError         QK206  nothing is stored for an id
    ├── TaskFailed             QK207  the task ended in FAILURE, DEAD or EXPIRED
    ├── TaskCancelled          QK208  the task was cancelled
    ├── ResultTimeout          QK209  no outcome within the timeout
    ├── InvalidNameError       QK211  the name of a queue, task or message is not valid
    ├── DurationError          QK212  a value is not a valid duration
    ├── DuplicateTaskError     QK213  two functions are registered under one name
    ├── ScheduleError          QK214  a schedule is not valid
    ├── UnknownScheduleError   QK215  no schedule has that name
    ├── OptionError            QK216  an option does not exist, or its value is not valid
    ├── DeclarationError       QK217  the object given to @app.task cannot be a task
    ├── UniqueKeyError         QK218  a part of a workflow duplicates a message whose outcome it cannot take
    ├── NotReadHereError       QK219  the message needs a worker of a newer release, or another serializer
    ├── MisfitError            QK220  a group does not match the message that asks for its results
    ├── UnsignedError          QK221  a message or record is not signed by a key that is accepted here
    ├── LockTimeout            QK222  a lock did not become free in time
    ├── LockLostError          QK223  a lock was lost before the block that held it had ended
    ├── LimitReachedError      QK224  a rate limit does not let a block start in time
    ├── UniqueConflictError    QK228  another message holds the unique key of a call that is to be refused then
    ├── NotPausedError         QK229  a queue or task that is to be resumed is not paused
    ├── CapabilityError        QK301  a broker or backend does not support what is asked for
    ├── UnavailableError       QK401  a broker or backend did not answer
    ├── TooLargeError          QK403  a body exceeds the limit
    ├── PartialSendError       QK404  the broker refused some messages of a batch
    └── PluginError            QK502  a plugin is installed but cannot be used
        ├── UnknownSchemeError QK501  no plugin serves the scheme of a URL
        ├── SchemeConflictError QK503 two distributions claim one scheme
        └── NotInstalledError   QK504 an optional distribution of queuekit is not installed

An error says what is wrong and, if known, where the value comes from, how to fix it and which values are valid.
Errors cross processes, so they can be pickled.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

__all__ = [
    "AppError",
    "ArgumentsError",
    "CapabilityError",
    "ConfigError",
    "DecodeError",
    "EncodeError",
    "LimitReachedError",
    "LockLostError",
    "LockTimeout",
    "NoBackendError",
    "NotInstalledError",
    "NotReadHereError",
    "OptionError",
    "PartialSendError",
    "PluginError",
    "QueuekitError",
    "ResultTimeout",
    "ScheduleError",
    "SchemeConflictError",
    "TaskCancelled",
    "TaskFailed",
    "TooLargeError",
    "UnavailableError",
    "UniqueConflictError",
    "UnknownIdError",
    "UnknownScheduleError",
    "UnknownSchemeError",
    "UnknownTaskError",
    "bare",
    "did_you_mean",
    "with_article",
    "without_stop",
]

E = TypeVar("E", bound=BaseException)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"did you mean 'x'?"`` for the nearest of *known*, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def with_article(noun: str) -> str:
    """Return *noun*, such as the name of a type, after the article that it takes."""
    low = noun.lower()
    vowel = low.startswith(("a", "e", "i", "o")) or (low.startswith("un") and not low.startswith("uni"))
    return f"an {noun}" if vowel else f"a {noun}"


def without_stop(text: str) -> str:
    """Return *text* without its final full stop, so that more text can follow."""
    return text[:-1] if text.endswith(".") and not text.endswith("..") else text


def bare(error: E) -> E:
    """Return *error* without its traceback and causes, for use as the cause of another error."""
    error.__cause__ = error.__context__ = error.__traceback__ = None
    return error


class QueuekitError(Exception):
    """Base of all errors of queuekit.

    Args:
        what: One line: what is wrong.
        where: Where the value comes from: file and key, or the URL without its password.
        fix: What to do, ready to paste.
        available: Valid values.
    """

    code: ClassVar[str] = "QK100"
    exit_code: int = 1
    """Exit code of a command that ends with this error; 3 instead of 1 if importing the app raised it."""

    def __init__(self, what: str, *, where: str = "", fix: str = "", available: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix
        self.available = available

    def lines(self) -> list[str]:
        """Return the message as lines, most important first."""
        rows = [self.what, *self.where.splitlines(), *self.fix.splitlines()]
        if self.available:
            rows.append(f"Available: {self.available}")
        return rows

    def __str__(self) -> str:
        *rows, last = [row.strip() for row in self.lines()]
        return "; ".join([*map(without_stop, rows), last])

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call __init__ with the text alone, and subclasses take other arguments.
        return _rebuild, (type(self), self.what, dict(self.__dict__))


def _rebuild(kind: type[QueuekitError], what: str, state: Mapping[str, Any]) -> QueuekitError:
    """Rebuild a pickled error."""
    error = kind.__new__(kind, what)
    error.args = (what,)
    error.__dict__.update(state)
    return error


class ConfigError(QueuekitError):
    """Some settings are not valid; ``where`` holds one line per problem, shortened if there are many."""

    code = "QK101"
    exit_code = 3
    problems: tuple[Any, ...] = ()
    """All problems: objects with ``key``, ``text`` and ``source``."""


class AppError(QueuekitError):
    """The app to run cannot be found or imported."""

    code = "QK102"
    exit_code = 3


class UnknownTaskError(QueuekitError):
    """No task of that name is registered."""

    code = "QK201"


class ArgumentsError(QueuekitError, TypeError):
    """The arguments of a call do not match the task's signature; also a ``TypeError``, as for a plain call."""

    code = "QK202"


class EncodeError(QueuekitError, TypeError):
    """The serializer cannot write a value; names the task, the argument and the path inside it."""

    code = "QK203"


class DecodeError(QueuekitError, ValueError):
    """The bytes cannot be read: malformed, too large, nested too deep, or in a format that is not accepted."""

    code = "QK204"


class NotReadHereError(DecodeError):
    """The bytes are valid, but only another worker can read them: they need a newer release or another serializer."""

    code = "QK219"


class NoBackendError(QueuekitError):
    """A result, a cancel mark or a workflow needs a result backend, and none is configured."""

    code = "QK205"


class UnknownIdError(QueuekitError, LookupError):
    """Nothing is stored for an id: never sent, results ignored, or expired after ``results_expire``."""

    code = "QK206"


class TaskFailed(QueuekitError):
    """The task ended without a result.

    The original exception class is not rebuilt: importing a name that a record holds would not be safe.
    """

    code = "QK207"
    task_id: str = ""
    """Id of the message."""
    error_type: str = ""
    """Name of the exception's class, e.g. ``"ValueError"``."""
    traceback: str = ""
    """Traceback of the worker, as text; empty if there was none."""


class TaskCancelled(QueuekitError):
    """The task was cancelled before it finished."""

    code = "QK208"


class ResultTimeout(QueuekitError, TimeoutError):
    """No outcome within the timeout; the task may still finish."""

    code = "QK209"


class LockTimeout(QueuekitError, TimeoutError):
    """A lock did not become free in time; names its holder."""

    code = "QK222"


class LockLostError(QueuekitError):
    """A lock was lost before the block that held it had ended, so another holder may have entered its own block."""

    code = "QK223"


class LimitReachedError(QueuekitError, TimeoutError):
    """A rate limit does not let a block start in time."""

    code = "QK224"

    retry_after: float = 0.0
    """Seconds until the block could start."""


class UniqueConflictError(QueuekitError):
    """Another message holds the unique key of a call with ``on_conflict="raise"``; the call was not sent."""

    code = "QK228"

    id: str = ""
    """Id of the message that holds the key."""
    holders: Mapping[int, str] = {}
    """Of several calls that were sent at once, those that were not sent: the holder's id by the position of the call.
    The others are on their queues."""


class ScheduleError(QueuekitError, ValueError):
    """A schedule is not valid: a bad cron expression, an unknown time zone, or a name that is taken."""

    code = "QK214"


class UnknownScheduleError(QueuekitError, LookupError):
    """No schedule has that name."""

    code = "QK215"


class OptionError(QueuekitError, ValueError, TypeError):
    """An option does not exist, or the value of an option or argument is not valid."""

    code = "QK216"


class CapabilityError(QueuekitError):
    """A broker or backend does not support what a task or the app asks for; raised at start."""

    code = "QK301"
    exit_code = 3


class UnavailableError(QueuekitError, ConnectionError):
    """A broker or backend did not answer in time. Nothing is known to be lost; call again.

    Args:
        what: One line: what is wrong.
        where: Where the value comes from.
        fix: What to do.
        available: Valid values.
        passing: Whether the same call may succeed later; False if only a person can fix the cause.
    """

    code = "QK401"
    exit_code = 4
    passing: bool = True
    """Whether the same call may succeed later. An engine sets False if only a person can fix the cause, such as a wrong
    password: then sends and waits do not retry, and a worker does not start."""

    def __init__(self, what: str, *, where: str = "", fix: str = "", available: str = "", passing: bool = True) -> None:
        super().__init__(what, where=where, fix=fix, available=available)
        self.passing = passing


class TooLargeError(QueuekitError, ValueError):
    """A body exceeds the broker's or the app's limit."""

    code = "QK403"


class PartialSendError(QueuekitError):
    """The broker refused some messages of a batch; the others are on their queues."""

    code = "QK404"

    def __init__(self, what: str, *, failures: Mapping[str, str], fix: str = "") -> None:
        super().__init__(what, fix=fix)
        self.failures = dict(failures)
        """Reason of each refusal, by message id."""


class PluginError(QueuekitError):
    """A plugin is installed but cannot be used: its import failed, it is disabled, or it needs another plugin API."""

    code = "QK502"
    exit_code = 5


class UnknownSchemeError(PluginError):
    """No installed plugin serves the scheme of a configured URL."""

    code = "QK501"


class SchemeConflictError(PluginError):
    """Two distributions claim one scheme, and the config does not choose one."""

    code = "QK503"


class NotInstalledError(PluginError, ImportError):
    """An optional distribution of queuekit is not installed; also an ``ImportError``, as for any missing module."""

    code = "QK504"
