"""Unique keys, as a task or a call asks for them."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

import attrs

__all__ = ["UniqueKey"]


@attrs.frozen(kw_only=True)
class UniqueKey:
    """A key of your own that at most one live message may hold: for the option ``unique``, which checks it."""

    key: str
    """Taken across all queues of the broker; where these are on several servers (a Redis Cluster), within its queue."""
    until: Literal["start", "done", "ttl"] = "done"
    """What frees it: the start of the task, its end (a retry is none), or only time."""
    ttl: float | str | timedelta = 86_400.0
    """Seconds, or text such as ``"1h"``, after which the key is free whatever happened."""
