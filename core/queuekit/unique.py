"""Unique keys, as options of a task or a call."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

import attrs

__all__ = ["UniqueKey"]


@attrs.frozen(kw_only=True)
class UniqueKey:
    """A key that at most one live message may hold; a value of the option ``unique``, which validates it.

    Attributes:
        key: Unique across all queues of the broker, or within its queue if queues are spread over servers (Redis
            Cluster).
        until: What frees the key: the start of the task, its end (a retry does not count), or only time.
        ttl: Seconds, or text such as ``"1h"``, after which the key is free in any case.
    """

    key: str
    until: Literal["start", "done", "ttl"] = "done"
    ttl: float | str | timedelta = 86_400.0
