"""Write the log lines of a batch together: each write costs a system call, and gives up the interpreter."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["LineHandler", "lines_together"]

_LONGEST = 0.1
"""Seconds after which lines are written although their batch goes on."""


class _Batch:
    """The lines that one thread holds back."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.handler: LineHandler | None = None
        self.due = time.monotonic() + _LONGEST

    def add(self, handler: LineHandler, line: str) -> None:
        self.handler = handler
        self.lines.append(line)
        if time.monotonic() >= self.due:
            self.write()

    def write(self) -> None:
        lines, self.lines = self.lines, []
        self.due = time.monotonic() + _LONGEST
        if lines and self.handler is not None:
            self.handler.write(lines)


class _Held(threading.local):
    batch: _Batch | None = None


_held = _Held()


@contextmanager
def lines_together() -> Iterator[None]:
    """Let a :class:`LineHandler` write the lines of this thread together, at the end or after a tenth of a second."""
    _held.batch = batch = _Batch()
    try:
        yield
    finally:
        _held.batch = None
        batch.write()


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes each line to standard error at once, except within :func:`lines_together`."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write *record*, or add it to the lines that are held back."""
        batch = _held.batch
        if batch is None:
            super().emit(record)
            return
        try:
            batch.add(self, self.format(record))
        except Exception:  # noqa: BLE001 - as the base class does
            self.handleError(record)

    def write(self, lines: list[str]) -> None:
        """Write *lines* at once."""
        with self.lock or threading.Lock():
            try:
                self.stream.write("".join(line + self.terminator for line in lines))
                self.flush()
            except Exception:  # noqa: BLE001 - logging must not end a thread
                self.handleError(logging.makeLogRecord({"msg": lines[0]}))
