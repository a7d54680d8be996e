"""Log output of the command line: text or JSON on standard error, unless the app has configured logging."""

from __future__ import annotations

import json
import logging
import time
from functools import lru_cache
from typing import Any

from queuekit.context import TaskLogFilter
from queuekit.logs.lines import LineHandler
from queuekit.logs.plaintext import clean

__all__ = ["JsonFormatter", "configure_logging"]

_OF_TASKS = ("task_id", "task", "queue", "attempt", "worker", "pid")
"""Names of the fields that say where a line comes from, on lines of queuekit and of the user alike."""
_USUAL = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "queuekit", "task_name"})
"""Attributes of a record that no ``extra=`` has added."""


class JsonFormatter(logging.Formatter):
    """One JSON object per line.

    It has ``time level logger message``, then what is known of ``task_id task queue attempt worker pid``, then the
    fields of the event, or those that the line was given by ``extra=``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as JSON."""
        had = vars(record)
        row: dict[str, Any] = {
            "time": f"{_in_utc(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: had[name] for name in _OF_TASKS if had.get(name) not in (None, "")},
        }
        event = had.get("queuekit", {})
        row |= {name: value for name, value in event.items() if name != "id" and name not in _OF_TASKS}
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        given = {name: value for name, value in had.items() if name not in _USUAL and name not in _OF_TASKS}
        row |= {name if name not in row else f"extra_{name}": value for name, value in given.items()}
        return _as_json(row)


@lru_cache(maxsize=1)  # a busy worker writes thousands of lines a second
def _in_utc(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


@lru_cache(maxsize=1)
def _here(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))


def _as_json(row: dict[str, Any]) -> str:
    """Return *row* as one line, whatever values it holds."""
    try:
        return json.dumps(row, default=_shown, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        return json.dumps(
            {name: value if isinstance(value, str | int) else _shown(value) for name, value in row.items()}
        )


def _shown(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - whatever a user logs, the line is written
        return f"<{type(value).__name__}>"


class TextFormatter(logging.Formatter):
    """``2026-11-29 12:00:01.123 INFO    pid worker: text [task id]``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as text."""
        source = " ".join(filter(None, [str(record.process), getattr(record, "worker", "")]))
        text = clean(record.getMessage(), lines=True)
        line = f"{_here(int(record.created))}.{int(record.msecs):03d} {record.levelname:<7} {source}: {text}"
        task_id = getattr(record, "task_id", "")
        if task_id and not record.name.startswith("queuekit."):
            line += f" [{clean(str(task_id))}]"
        return f"{line}\n{clean(self.formatException(record.exc_info), lines=True)}" if record.exc_info else line


def configure_logging(*, level: str, style: str, worker: str = "") -> None:
    """Write logs of ``queuekit.*`` and, at the same level, of the user's code to standard error.

    Does nothing if the root logger already has a handler: the user's configuration wins.

    Args:
        level: Name of a level.
        style: ``"text"`` or ``"json"``.
        worker: Name of the worker, for lines outside of tasks.
    """
    root = logging.getLogger()
    if root.handlers:
        return
    handler = LineHandler()
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    handler.addFilter(TaskLogFilter(worker))
    root.addHandler(handler)
    root.setLevel(level)
