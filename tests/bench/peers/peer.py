"""What the comparison asks of each queue, and the tasks' own clock."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import attrs

URL = os.environ.get("BENCH_URL", "")
RESULTS = bool(os.environ.get("BENCH_RESULTS"))
THREADS = 8
"""Tasks that a worker runs at once, for each queue whose worker has threads."""
READ_AHEAD = 1_000
"""Messages that a worker fetches before it needs them, where that can be set: what queuekit does by default."""
STAMP = struct.Struct("d")

Rows = list[dict[str, Any]]


@attrs.frozen(kw_only=True)
class Peer:
    """A queue under measurement."""

    distributions: Sequence[str]
    """Whose versions count, its own first."""
    send: Callable[[int], Any]
    """Send one task that does nothing; returns what :attr:`wait` takes."""
    send_many: Callable[[int], object]
    """Send that many, in the way that its documentation names for many."""
    send_rows: Callable[[Rows], object]
    """Send one task with a large argument."""
    wait: Callable[[Any], object] | None = None
    """Return once a sent task has ended; ``None`` if results are not stored."""
    opened: Callable[[], AbstractContextManager[object]] = nullcontext
    """What a sender enters first, if connections must be opened."""
    worker: Sequence[str]
    """The command that runs one worker process: ``python`` or an installed program, and its arguments."""
    environ: Mapping[str, str] = attrs.Factory(dict)
    """What the worker needs in its environment."""
    settings: Mapping[str, str]
    """Each setting that is not the default, and why."""
    many: str
    """Which call :attr:`send_many` makes."""


def stamp() -> None:
    """Note the present moment, in monotonic seconds, at the end of the file of stamps: the body of each task.

    One write of eight bytes in append mode is whole, whoever else writes, so the file counts the runs as well.
    """
    os.write(_FILE, STAMP.pack(time.monotonic()))


_FILE = os.open(os.environ.get("BENCH_STAMPS", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
