"""Presence records of live workers, which refresh them until the records expire."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from queuekit.backend import Record
from queuekit.logs.plaintext import clean
from queuekit.values import frozen

__all__ = ["EVERY", "LIVE", "MOST_RUNS", "TTL", "Presence", "RunningTask", "read_workers"]

EVERY = 10.0
"""Seconds between two refreshes."""
LIVE = 30.0
"""Seconds without a refresh after which a worker counts as gone."""
TTL = 120.0
"""Seconds after which its record expires; until then operators can see that the worker stopped responding."""
MOST_RUNS = 200
"""Most running tasks that a record names."""
_MOST_COUNT = 2**53


@frozen(kw_only=True)
class RunningTask:
    """A body that a worker runs, as of its last presence record."""

    id: str
    """Id of the message."""
    task: str
    queue: str
    seconds: float
    """How long the body had been running when the record was written, plus the age of the record."""


@frozen(kw_only=True)
class Presence:
    """What a worker process last reported of itself. What an older release leaves out is empty or ``None``."""

    name: str
    queues: tuple[str, ...] = ()
    """Queues that it serves."""
    host: str = ""
    pid: int | None = None
    version: str = ""
    """Version of queuekit."""
    app_version: str = ""
    """The setting ``app_version`` of its app; empty if that is not set."""
    slots: int | None = None
    """Tasks that it runs at a time."""
    pool: str = ""
    """Where its plain functions run: ``thread`` or ``process``."""
    rss: int | None = None
    """Bytes of memory of the process, without its child processes."""
    uptime: float | None = None
    """Seconds since its start; up to the record if the worker is not live."""
    rate: float | None = None
    """Messages per second that it finished between its last two records."""
    draining: bool = False
    """Whether it takes no more messages."""
    recycling: str = ""
    """Why another process has taken its place, so that it drains; empty if none has."""
    runs: tuple[RunningTask, ...] = ()
    """The bodies that it runs, oldest first, at most :data:`MOST_RUNS`."""
    unknown: tuple[str, ...] = ()
    """Names of tasks that arrived lately and that its code does not have."""
    begun: tuple[str, ...] = ()
    """Ids of messages whose bodies it runs."""
    paused: tuple[str, ...] = ()
    """Marks of the pauses that it obeys, see :class:`queuekit.wire.pauses.Pause`."""
    gate: str = ""
    """Why a gate of its app holds all messages back; empty if none does."""
    ages: Mapping[str, float] = attrs.field(factory=dict)
    """Seconds that the oldest message of its last batch had waited, by queue."""
    silent: float = 0.0
    """Seconds for which the broker had not answered when the record was written."""
    quiet: float = 0.0
    """Age of the record, in seconds; above :data:`LIVE` the worker counts as gone."""

    @property
    def live(self) -> bool:
        """Whether the worker counts as running."""
        return self.quiet <= LIVE

    @property
    def leaving(self) -> str:
        """How it ends, in a word: ``draining`` or ``recycling``; empty if it takes messages."""
        return "recycling" if self.recycling else "draining" if self.draining else ""


def read_workers(records: Iterable[Record]) -> list[Presence]:
    """Return the content of *records*; those that are not valid are skipped."""
    read = (_read(record) for record in records)
    return [worker for worker in read if worker is not None]


def _read(record: Record) -> Presence | None:
    try:
        fields = json.loads(record.body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or not isinstance(fields.get("name"), str):
        return None
    quiet = 0.0 if record.ttl is None else max(0.0, TTL - record.ttl)
    runs = _runs(fields.get("runs"), quiet)
    return Presence(
        name=clean(fields["name"]),
        queues=_texts(fields.get("queues")),
        pid=_count(fields.get("pid")),
        slots=_count(fields.get("slots")),
        rss=_count(fields.get("rss")),
        uptime=_uptime(fields.get("uptime"), quiet),
        rate=_number(fields.get("rate")),
        draining=fields.get("draining") is True,
        runs=runs,
        unknown=_texts(fields.get("unknown")),
        paused=_texts(fields.get("paused")),
        begun=tuple(dict.fromkeys([*_texts(fields.get("begun")), *(run.id for run in runs)])),
        ages=_ages(fields.get("ages")),
        silent=_number(fields.get("silent")) or 0.0,
        quiet=quiet,
        **{name: _text(fields.get(name)) for name in ("host", "version", "app_version", "pool", "gate", "recycling")},
    )


def _uptime(value: object, quiet: float) -> float | None:
    """Return for how long a worker runs, by a record that is *quiet* seconds old."""
    number = _number(value)
    return None if number is None else number + (quiet if quiet <= LIVE else 0.0)


def _runs(value: object, quiet: float) -> tuple[RunningTask, ...]:
    """Return the running tasks of a record that is *quiet* seconds old."""
    rows = value if isinstance(value, list) else []
    read = (_run(row, quiet) for row in rows[:MOST_RUNS] if isinstance(row, list))
    return tuple(run for run in read if run is not None)


def _run(row: list[Any], quiet: float) -> RunningTask | None:
    match row:
        case [str(id), str(task), str(queue), int() | float() as seconds] if _number(seconds) is not None:
            return RunningTask(id=clean(id), task=clean(task), queue=clean(queue), seconds=seconds + quiet)
        case _:
            return None


def _ages(value: object) -> dict[str, float]:
    items = value.items() if isinstance(value, dict) else ()
    return {key: number for key, item in items if (number := _number(item)) is not None}


def _text(value: object) -> str:
    return clean(value) if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(clean(item) for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _number(value: object) -> float | None:
    """Return *value* if it is a number that a duration or rate may have, and not negative."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if 0 <= value <= _MOST_COUNT else None


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= _MOST_COUNT else None
