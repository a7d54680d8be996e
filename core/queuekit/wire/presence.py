"""Presence records of live workers, which refresh them until the records expire."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from queuekit.backend import Record

__all__ = ["EVERY", "LIVE", "TTL", "read_workers"]

EVERY = 10.0
"""Seconds between two refreshes."""
LIVE = 30.0
"""Seconds without a refresh after which a worker counts as gone."""
TTL = 120.0
"""Seconds after which its record expires; until then operators can see that the worker stopped responding."""


def read_workers(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Return the content of *records*, for each worker at least ``name, queues, ages, begun, silent, quiet``.

    ``silent`` is the time for which the broker had not answered when the worker wrote the record. ``quiet`` is the age
    of the record; above :data:`LIVE` the worker counts as gone. Invalid records are skipped.
    """
    read = (_read(record) for record in records)
    return [worker for worker in read if worker is not None]


def _read(record: Record) -> dict[str, Any] | None:
    try:
        fields = json.loads(record.body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or not isinstance(fields.get("name"), str):
        return None
    ages = fields.get("ages")
    return {
        **fields,
        "queues": _texts(fields.get("queues")),
        "begun": _texts(fields.get("begun")),
        "ages": {key: value for key, value in ages.items() if _is_number(value)} if isinstance(ages, Mapping) else {},
        "silent": fields["silent"] if _is_number(fields.get("silent")) else 0.0,
        "quiet": 0.0 if record.ttl is None else max(0.0, TTL - record.ttl),
    }


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
