"""Every error that queuekit raises, as one tree.

::

    QueuekitError
    ├── ConfigError            QK101  settings that cannot be used, all of them in one report
    ├── AppError               QK102  the app to run cannot be found or imported
    ├── UnknownTaskError       QK201  no task of that name is registered
    ├── ArgumentsError         QK202  a call does not fit the task's signature
    ├── EncodeError            QK203  a value cannot be written by the serializer
    ├── DecodeError            QK204  bytes that the serializer refuses
    ├── NoBackendError         QK205  a result is asked for where none is stored
    ├── UnknownIdError         QK206  nothing is known of an id
    ├── TaskFailed             QK207  the task ended in FAILURE, DEAD or EXPIRED
    ├── TaskCancelled          QK208  the task was cancelled
    ├── ResultTimeout          QK209  no outcome within the time allowed
    ├── InvalidNameError       QK211  a name that no queue, task or message can have
    ├── DurationError          QK212  text or a number that is no duration
    ├── DuplicateTaskError     QK213  two functions are registered under one name
    ├── ScheduleError          QK214  a schedule that cannot be
    ├── UnknownScheduleError   QK215  no schedule has that name
    ├── OptionError            QK216  an option that does not exist, or a value that it cannot have
    ├── DeclarationError       QK217  what was given to @app.task cannot be a task
    ├── UniqueKeyError         QK218  a part of a workflow is a duplicate, and cannot have the outcome of its holder
    ├── NotReadHereError       QK219  bytes for a worker of a newer release, or with another serializer
    ├── MisfitError            QK220  a group that does not fit the message that asks for its results
    ├── CapabilityError        QK301  a broker or backend cannot carry what is asked
    ├── UnavailableError       QK401  a broker or backend did not answer
    ├── TooLargeError          QK403  a body above the limit
    ├── PartialSendError       QK404  some messages of a batch were refused
    └── PluginError            QK502  a plugin is installed but cannot be used
        ├── UnknownSchemeError QK501  nothing serves the scheme of a URL
        ├── SchemeConflictError QK503 two distributions claim one scheme
        └── NotInstalledError   QK504 a part of queuekit that is a distribution of its own is missing

Each one says what is wrong and, where it can, where that comes from, how to mend it and what would work.
They can be pickled, since they cross processes.
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
    "UnknownIdError",
    "UnknownScheduleError",
    "UnknownSchemeError",
    "UnknownTaskError",
    "bare",
    "did_you_mean",
    "without_stop",
]

E = TypeVar("E", bound=BaseException)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"did you mean 'x'?"`` for the nearest of *known*, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def without_stop(text: str) -> str:
    """Return *text*, which goes on, without a full stop at its end; client libraries write one, and core does not."""
    return text[:-1] if text.endswith(".") and not text.endswith("..") else text


def bare(error: E) -> E:
    """Return *error*, of a client library or the like, as the cause of ours: its text, without what it went through."""
    error.__cause__ = error.__context__ = error.__traceback__ = None
    return error


class QueuekitError(Exception):
    """Base of all errors here.

    Args:
        what: One line: what is wrong.
        where: Where it came from: file and key, URL without its password.
        fix: What to do, ready to paste.
        available: What would have worked.
    """

    code: ClassVar[str] = "QK100"
    exit_code: int = 1
    """What a command ends with; 3 in place of 1 for what the import of an app has raised."""

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
        return _rebuild, (type(self), self.what, dict(self.__dict__))


def _rebuild(kind: type[QueuekitError], what: str, state: Mapping[str, Any]) -> QueuekitError:
    """Make an error again on the other side of a pipe."""
    error = kind.__new__(kind, what)
    error.args = (what,)
    error.__dict__.update(state)
    return error


class ConfigError(QueuekitError):
    """Settings that cannot be used; ``where`` holds one line per problem, shortened if there are many."""

    code = "QK101"
    exit_code = 3
    problems: tuple[Any, ...] = ()
    """Every problem of a report: objects with ``key``, ``text`` and ``source``."""


class AppError(QueuekitError):
    """The app to run cannot be found or imported."""

    code = "QK102"
    exit_code = 3


class UnknownTaskError(QueuekitError):
    """No task of that name is registered."""

    code = "QK201"


class ArgumentsError(QueuekitError, TypeError):
    """A call does not fit the task's signature; also a ``TypeError``, as for a plain call."""

    code = "QK202"


class EncodeError(QueuekitError, TypeError):
    """A value cannot be written by the serializer; names task, argument and the path inside it."""

    code = "QK203"


class DecodeError(QueuekitError, ValueError):
    """Bytes that cannot be read: malformed, too large, too deep, or in a format not accepted."""

    code = "QK204"


class NotReadHereError(DecodeError):
    """Bytes that are in order but for another worker: of a newer release, or of a serializer that is missing here."""

    code = "QK219"


class NoBackendError(QueuekitError):
    """A result, a cancel mark or a workflow was asked for where no result backend is configured."""

    code = "QK205"


class UnknownIdError(QueuekitError, LookupError):
    """Nothing is known of an id: never sent, results ignored, or forgotten after ``results_expire``."""

    code = "QK206"


class TaskFailed(QueuekitError):
    """The task ended without a result.

    Never rebuilt into the original class: a name in a record is text, and is not imported.
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
    """No outcome within the time allowed; the task may still finish."""

    code = "QK209"


class ScheduleError(QueuekitError, ValueError):
    """A schedule that cannot be: no cron expression, an unknown time zone, a name that is taken."""

    code = "QK214"


class UnknownScheduleError(QueuekitError, LookupError):
    """No schedule has that name."""

    code = "QK215"


class OptionError(QueuekitError, ValueError, TypeError):
    """An option that does not exist, or a value that it cannot have; also an argument of a call into queuekit."""

    code = "QK216"


class CapabilityError(QueuekitError):
    """A broker or backend cannot carry what a task or the app asks for; raised at start."""

    code = "QK301"
    exit_code = 3


class UnavailableError(QueuekitError, ConnectionError):
    """A broker or backend did not answer in time. Nothing is known to be lost; call again.

    Args:
        what: One line: what is wrong.
        where: Where it came from.
        fix: What to do.
        available: What would have worked.
        passing: Whether the same call may succeed later; False for what only a person can fix.
    """

    code = "QK401"
    exit_code = 4
    passing: bool = True
    """Whether the same call may succeed later. An engine says False for what only a person can fix, such as a wrong
    password: sends and waits do not try that again, and a worker does not start."""

    def __init__(self, what: str, *, where: str = "", fix: str = "", available: str = "", passing: bool = True) -> None:
        super().__init__(what, where=where, fix=fix, available=available)
        self.passing = passing


class TooLargeError(QueuekitError, ValueError):
    """A body above the broker's or the app's limit."""

    code = "QK403"


class PartialSendError(QueuekitError):
    """Some messages of a batch were refused; the others are on their queue."""

    code = "QK404"

    def __init__(self, what: str, *, failures: Mapping[str, str], fix: str = "") -> None:
        super().__init__(what, fix=fix)
        self.failures = dict(failures)
        """Id of each refused message and the reason."""


class PluginError(QueuekitError):
    """A plugin is installed but cannot be used: import failed, disabled, or made for another API."""

    code = "QK502"
    exit_code = 5


class UnknownSchemeError(PluginError):
    """No installed plugin serves the scheme of a configured URL."""

    code = "QK501"


class SchemeConflictError(PluginError):
    """Two distributions claim one scheme, and the config does not say which is meant."""

    code = "QK503"


class NotInstalledError(PluginError, ImportError):
    """A part of queuekit that is a distribution of its own is missing; also an ``ImportError``, as for any module."""

    code = "QK504"
