"""Log output of the command line: text or JSON on standard error, unless the app has configured logging."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from queuekit.context import TaskLogFilter
from queuekit.logs.plaintext import clean

__all__ = ["JsonFormatter", "configure_logging"]


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ``time level logger message``, ``task_id`` inside tasks, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as JSON."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        row: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if task_id := getattr(record, "task_id", ""):
            row["task_id"], row["task_name"] = task_id, getattr(record, "task_name", "")
        row.update(getattr(record, "queuekit", {}))
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row, default=str)


class TextFormatter(logging.Formatter):
    """``12:00:01 INFO    text [task id]``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as text."""
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{moment} {record.levelname:<7} {clean(record.getMessage(), lines=True)}"
        task_id = getattr(record, "task_id", "")
        if task_id and not record.name.startswith("queuekit."):
            line += f" [{task_id}]"
        return f"{line}\n{clean(self.formatException(record.exc_info), lines=True)}" if record.exc_info else line


def configure_logging(*, level: str, style: str) -> None:
    """Write logs of ``queuekit.*`` and, at the same level, of the user's code to standard error.

    Does nothing if the root logger already has a handler: the user's configuration wins.

    Args:
        level: Name of a level.
        style: ``"text"`` or ``"json"``.
    """
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    handler.addFilter(TaskLogFilter())
    root.addHandler(handler)
    root.setLevel(level)
