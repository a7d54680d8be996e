"""The metric of limits: deliveries that one has let wait. The conventions have none, so its name is our own."""

from __future__ import annotations

from collections import Counter
from typing import Any

from queuekit.events import MessagesLimited
from queuekit_otel import conventions as names
from queuekit_otel.providers import meter

__all__ = ["Limiting"]


class Limiting:
    """Counts the messages of each event :class:`~queuekit.events.MessagesLimited`, by limit and queue."""

    def __init__(self, config: Any) -> None:
        text = "Number of deliveries that a limit has let wait."
        self._limited = meter().create_counter("queuekit.limit.refused", "{message}", text)
        self._about = names.about_broker(config.url("broker"))

    def __call__(self, event: MessagesLimited) -> None:
        """Count the messages; keys of limits, which may name customers, are no attribute."""
        for (limit, queue), count in Counter((one.limit, one.queue) for one in event.messages).items():
            self._limited.add(count, {**self._about, names.LIMIT: limit, names.DESTINATION: queue})
