"""The record of what operators have paused, and the requests that a worker drains.

Workers read both in the round trip in which they look for cancel marks, so a pause costs nothing per message. All
pauses are in one record. It stores how long each will last, and the record's own remaining life tells how much of that
has passed, so a pause ends by the clock of the backend and no other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import attrs

from queuekit.backend import Record
from queuekit.errors import DecodeError
from queuekit.logs.plaintext import clean
from queuekit.values import frozen
from queuekit.wire.fields import checked, is_list, is_moment, is_span, is_text, or_none, read_object

__all__ = [
    "LONGEST_PAUSES",
    "LONGEST_WHY",
    "PAUSED",
    "Drain",
    "Pause",
    "drain_key",
    "drain_record",
    "pauses_record",
    "read_drain",
    "read_pauses",
]

PAUSED = "paused"
"""Key of the record of all pauses."""
LONGEST_WHY = 500
"""Most characters of the reason of a pause."""
LONGEST_PAUSES = 64_000
"""Most bytes of the record of all pauses, which each worker reads every two seconds."""
_FOREVER = 10 * 365 * 86_400.0
"""Seconds for which the record is kept if a pause has no end."""
_DRAIN_TTL = 86_400.0
"""Seconds for which a request to drain is kept; names of workers may be used again."""


@frozen(kw_only=True)
class Pause:
    """A queue or a task that workers leave alone."""

    mark: str
    """Names this pause, and no later one of the same queue or task."""
    queue: str = ""
    """Name of the queue; empty if a task is paused."""
    task: str = ""
    """Name of the task, in which ``*`` and ``?`` stand for any characters; empty if a queue is paused."""
    where: tuple[tuple[str, str], ...] = ()
    """Names of arguments or headers and their values as text: only messages that have them all are paused."""
    by: str = attrs.field(default="", converter=clean)
    """Who paused it."""
    at: float = 0.0
    """UTC epoch seconds."""
    left: float | None = None
    """Seconds until it ends by itself; ``None`` if it does not."""
    why: str = attrs.field(default="", converter=clean)
    """The reason that the operator gave."""

    @property
    def what(self) -> str:
        """The queue or task in words."""
        if self.queue:
            return f"the queue {self.queue!r}"
        where = clean(" and ".join(f"{name}={value}" for name, value in self.where))
        return f"the task {self.task!r}" + (f" where {where}" if where else "")

    @property
    def target(self) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        """What is paused; there is at most one pause of each."""
        return self.queue, self.task, self.where

    def names(self, *tasks: str) -> bool:
        """Return whether it pauses one of *tasks*, at least those of its messages that match ``where``."""
        return bool(self.task) and any(fnmatchcase(task, self.task) for task in tasks)

    def fits(self, values: Mapping[str, Any]) -> bool:
        """Return whether *values*, arguments and headers by name, are those of ``where``."""
        return all(_text(_inside(values, name)) == value for name, value in self.where)


@frozen(kw_only=True)
class Drain:
    """A request that a worker takes no more messages, finishes and ends."""

    by: str = attrs.field(default="", converter=clean)
    """Who asked for it."""
    at: float = 0.0
    """UTC epoch seconds."""


def pauses_record(pauses: Sequence[Pause], *, now: float) -> Record:
    """Return the record of *pauses*; *now* is UTC epoch seconds."""
    lasting = [_FOREVER if pause.left is None else pause.left for pause in pauses]
    ttl = max(lasting, default=1.0)
    rows = [attrs.asdict(pause) for pause in pauses]
    return Record(key=PAUSED, body=json.dumps({"v": 1, "ttl": ttl, "at": now, "pauses": rows}).encode(), ttl=ttl)


def read_pauses(record: Record | None, *, now: float) -> tuple[Pause, ...]:
    """Return the pauses in *record* that still last, oldest first; what is not valid is left out.

    *now*, UTC epoch seconds, is used only if the backend does not report how long the record will live.
    """
    if record is None:
        return ()
    try:
        fields = checked(read_object(record.body), {"at": is_moment, "ttl": is_span, "pauses": is_list})
        passed = now - fields["at"] if record.ttl is None else fields["ttl"] - record.ttl
        rows = fields["pauses"]
    except (DecodeError, KeyError):
        return ()
    read = (_read(row, max(0.0, passed)) for row in rows)
    return tuple(pause for pause in read if pause is not None)


def _read(row: Any, passed: float) -> Pause | None:
    """Return the pause in a row that is valid; ``None`` for another row, and for a pause that has ended."""
    match row:
        case {
            "mark": str(mark),
            "queue": str(queue),
            "task": str(task),
            "where": list(where),
            "at": at,
            "left": left,
            **more,
        } if (queue or task) and is_moment(at) and or_none(is_span)(left):
            rest = None if left is None else left - passed
            if rest is not None and rest <= 0:
                return None
            by, why = str(more.get("by") or ""), str(more.get("why") or "")
            return Pause(
                mark=mark, queue=queue, task=task, where=_pairs(where), by=by, at=float(at), left=rest, why=why
            )
    return None


def _pairs(where: list[Any]) -> tuple[tuple[str, str], ...]:
    return tuple((str(pair[0]), str(pair[1])) for pair in where if isinstance(pair, list) and len(pair) == 2)  # noqa: PLR2004 - pairs


def drain_key(worker: str) -> str:
    """Return the key of the request that *worker* drains."""
    return "drain:" + worker


def drain_record(worker: str, wish: Drain) -> Record:
    """Return the request that *worker* drains."""
    return Record(key=drain_key(worker), body=json.dumps(attrs.asdict(wish)).encode(), ttl=_DRAIN_TTL)


def read_drain(record: Record) -> Drain:
    """Return the content of a request to drain; empty if it is damaged."""
    try:
        return Drain(**checked(read_object(record.body), {"by": is_text, "at": is_moment}))
    except DecodeError:
        return Drain()


def _inside(values: Mapping[str, Any], name: str) -> Any:
    """Return the value of *name*, which may be a dotted path into it; a missing one is an object equal to nothing."""
    if name in values:
        return values[name]
    first, dot, rest = name.partition(".")
    inner = values.get(first) if dot else None
    return _inside(inner, rest) if isinstance(inner, Mapping) else _MISSING


_MISSING = object()


def _text(value: Any) -> str | None:
    """Return a value as an operator writes it: text as it is, others as in JSON; ``None`` for what JSON cannot hold."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return None
