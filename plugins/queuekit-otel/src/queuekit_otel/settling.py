"""Spans of settling: one for each batch that a worker has settled in one round trip."""

from __future__ import annotations

import time
from typing import Any

from opentelemetry.trace import SpanKind

from queuekit.events import MessagesSettled
from queuekit_otel import conventions as names
from queuekit_otel.providers import begin, end, tracer

__all__ = ["Settling"]

_SECOND = 1_000_000_000


class Settling:
    """Makes a span of each event :class:`~queuekit.events.MessagesSettled`."""

    def __init__(self, config: Any) -> None:
        self._tracer = tracer()
        self._about = {**names.about_broker(config.url("broker")), names.NAME: "settle", names.TYPE: "settle"}

    def __call__(self, event: MessagesSettled) -> None:
        """Make a span that ends now and took as long as the round trip."""
        messages = [message for message in event.messages if message.outcome != "lost"]
        if not messages:
            return
        attributes: dict[str, Any] = {**self._about, names.BATCH: len(messages), names.CLIENT: event.worker}
        queues, name = {message.queue for message in messages}, "settle"
        if len(queues) == 1:
            attributes[names.DESTINATION] = messages[0].queue
            name = f"settle {messages[0].queue}"
        ended = time.time_ns()
        begun = ended - int(event.seconds * _SECOND)
        end(begin(self._tracer, name, None, SpanKind.CLIENT, attributes, at=begun), at=ended)
