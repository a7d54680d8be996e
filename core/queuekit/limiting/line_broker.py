"""Which broker has the messages that wait in the lines of limits: a backend keeps those of one broker under a name."""

from __future__ import annotations

import json
from collections.abc import Iterable

from queuekit.backend import Record
from queuekit.broker import Broker

__all__ = ["broker_mark", "other_broker"]


def broker_mark(broker: Broker, names: Iterable[str]) -> bytes:
    """Return what a worker writes about itself where it looks after the lines of the limits *names*."""
    return json.dumps({"broker": broker.engine_id, "limits": sorted(names)}).encode()


def other_broker(record: Record, own: bytes) -> str:
    """Return a warning if a worker with another broker has written *record* for lines of the same limits, or ``""``."""
    try:
        theirs, mine = json.loads(record.body), json.loads(own)
        other, shared = theirs["broker"], sorted({*mine["limits"]}.intersection(theirs["limits"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    if not shared or not other or not mine["broker"] or other == mine["broker"]:
        return ""
    return (
        f"workers of {mine['broker']} and {other!r:.200} keep the limit {shared[0]} in one result backend. Unless that "
        "is one broker, the messages of either may wait for an hour. Give each a backend or a key prefix of its own"
    )
