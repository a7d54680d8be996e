"""Bounds of dead letters: drop those that are too old or too many, and remember how many were dropped.

This stands on public methods of a broker, so it holds on every engine that keeps dead letters. What is dropped is
counted in a record of each queue, beside the event of the caller, and its result expires like others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from queuekit.backend import Backend, Record
from queuekit.config.settings import EVERY_QUEUE
from queuekit.errors import DecodeError
from queuekit.operations.admin import Admin
from queuekit.values import frozen
from queuekit.wire.fields import checked, is_count, is_moment, read_object

__all__ = ["Dropped", "dropped_before", "trim"]

_PART = 500
"""Most dead letters to drop in one step."""
_MOST = 2**31 - 1
"""Larger bounds are as good as none, and engines cannot represent all of them; nor a time before 1970."""
_TTL = 30 * 86_400.0
"""Seconds for which it is remembered what was dropped."""
_TRIES = 5


@frozen(kw_only=True)
class Dropped:
    """Dead letters of a queue that were dropped in the last 30 days."""

    queue: str
    age: int = 0
    """How many were too old."""
    count: int = 0
    """How many were too many."""
    at: float = 0.0
    """UTC epoch seconds of the last time."""


def trim(admin: Admin, queue: str) -> Iterator[tuple[str, float, int]]:
    """Drop the dead letters of *queue* beyond its bounds; yield reason, bound and number of each part that was dropped.

    Any number of processes may do so at once: each dead letter is dropped and counted once.
    """
    broker, config = admin.runtime.broker, admin.config.worker
    age, count = _bound(config.dead_max_age, queue), _bound(config.dead_max_count, queue)
    bounds: list[tuple[str, float | None]] = [("age", age), ("count", count)]
    for reason, bound in bounds:
        while bound is not None:
            with admin.in_time():
                before = max(0.0, admin.runtime.now() - bound) if reason == "age" else None
                most = min(int(bound), _MOST) if reason == "count" else None
                ids = broker.dead_beyond(queue, count=most, before=before, limit=_PART)
            number = len(admin.drop(queue, ids)) if ids else 0
            if number:
                _remember(admin, queue, reason, number)
                yield reason, bound, number
            if len(ids) < _PART or not number:
                break


def _bound(table: Mapping[str, Any], queue: str) -> float | None:
    found: float | None = table.get(queue, table.get(EVERY_QUEUE))
    return found


def dropped_before(admin: Admin) -> list[Dropped]:
    """Return what was dropped from each queue; empty without a backend."""
    backend = admin.runtime.backend
    if backend is None:
        return []
    queues = admin.queue_names()
    with admin.in_time():
        records = backend.get([_key(queue) for queue in queues])
    found = [_read(queue, records.get(_key(queue))) for queue in queues]
    return [one for one in found if one.age or one.count]


def _remember(admin: Admin, queue: str, reason: str, number: int) -> None:
    backend = admin.runtime.backend
    for _ in range(_TRIES if backend is not None else 0):
        with admin.in_time():
            if _added(backend, queue, reason, number, admin.now()):
                return


def _added(backend: Backend | None, queue: str, reason: str, number: int, now: float) -> bool:
    if backend is None:
        return True
    record = backend.get([_key(queue)]).get(_key(queue))
    before = _read(queue, record)
    after = attrs.evolve(before, at=now, **{reason: getattr(before, reason) + number})
    body = json.dumps({"age": after.age, "count": after.count, "at": now}).encode()
    made = Record(key=_key(queue), body=body, ttl=_TTL)
    return bool(backend.put([made], expect=0 if record is None else record.version)[0])


def _key(queue: str) -> str:
    return f"dropped:{queue}"


def _read(queue: str, record: Record | None) -> Dropped:
    try:
        fields = {} if record is None else read_object(record.body)
        return Dropped(queue=queue, **checked(fields, {"age": is_count, "count": is_count, "at": is_moment}))
    except DecodeError:
        return Dropped(queue=queue)
