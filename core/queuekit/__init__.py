"""A task queue whose brokers, result backends and serializers are plugins, chosen by the scheme of a URL."""

from queuekit.app import Queuekit
from queuekit.context import Context, current
from queuekit.control import Cancel, Cancelled, Reject, Retry, Snooze, TaskTimeout
from queuekit.errors import QueuekitError, ResultTimeout, TaskCancelled, TaskFailed
from queuekit.failure import Failure
from queuekit.middleware import Middleware
from queuekit.result import Result
from queuekit.retry import Delays, Exponential, Fibonacci, Fixed
from queuekit.schedules.triggers import cron, every
from queuekit.secret import Secret
from queuekit.signature import Signature
from queuekit.states import State
from queuekit.tasks.task import Task
from queuekit.unique import UniqueKey
from queuekit.workflows.canvas import chain, chord, group

__all__ = [
    "Cancel",
    "Cancelled",
    "Context",
    "Delays",
    "Exponential",
    "Failure",
    "Fibonacci",
    "Fixed",
    "Middleware",
    "Queuekit",
    "QueuekitError",
    "Reject",
    "Result",
    "ResultTimeout",
    "Retry",
    "Secret",
    "Signature",
    "Snooze",
    "State",
    "Task",
    "TaskCancelled",
    "TaskFailed",
    "TaskTimeout",
    "UniqueKey",
    "chain",
    "chord",
    "cron",
    "current",
    "every",
    "group",
]
