"""The messages between a supervisor and a worker process, over a pipe that only the two hold."""

from __future__ import annotations

import os
import socket
from multiprocessing.connection import Connection, wait

from queuekit.values import frozen
from queuekit.worker.app_ref import AppRef

__all__ = ["HEAD", "Crashed", "Drains", "Lost", "Ready", "Recycle", "Replacement", "Serves", "Start", "Stop", "hears"]

HEAD = 4
"""Bytes that say how long the environment of a forked process is."""
_LOOK = 0.5
"""Seconds between two looks for the parent: what it forked may keep the other end of the pipe open."""


@frozen
class Start:
    """Supervisor to worker, first: what to run."""

    ref: AppRef
    burst: bool
    rows: int
    """Rows of the shared table of :class:`~queuekit.worker.run_table.RunTable`."""
    log_level: str
    log_style: str
    suspects: bool = False
    """Whether it replaces a process that crashed while it ran bodies."""
    name: str | None = None
    """Prefix of the worker's name."""


@frozen
class Stop:
    """Supervisor to worker: stop, or stop at once."""

    reason: str
    at_once: bool = False


@frozen
class Lost:
    """Supervisor to worker: these leases are lost."""

    serials: list[int]


@frozen
class Crashed:
    """Supervisor to worker: another process has crashed, so suspects may come."""


@frozen
class Ready:
    """Worker to supervisor: the app is loaded, and the worker starts."""

    name: str


@frozen
class Serves:
    """Worker to supervisor: the worker takes messages, and can run them at once."""


@frozen
class Recycle:
    """Supervisor to worker: take no more messages, and end when nothing runs; another process has begun."""

    reason: str


@frozen
class Replacement:
    """Worker to supervisor: kill this process, in which nothing but one body is at fault, and start another."""

    reason: str


@frozen
class Drains:
    """Worker to supervisor: an operator drains this process; however it ends, start no other in its place."""


def hears(pipe: Connection | socket.socket, parent: int) -> bool:
    """Wait for something to read, or the end of *pipe*; return false if *parent* is gone before.

    The parent tells its process id. A process that asks for it may already have another parent.
    """
    while not wait([pipe], _LOOK):
        if os.getppid() != parent:
            return False
    return True
