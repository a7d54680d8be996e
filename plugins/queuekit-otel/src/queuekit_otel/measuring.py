"""The metrics of the conventions: messages sent and consumed, and how long sends and runs take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from opentelemetry.util.types import AttributeValue

from queuekit_otel.conventions import BUCKETS, DESTINATION, ERROR, NAME
from queuekit_otel.providers import meter

__all__ = ["Measuring"]

_MOST_KNOWN = 1_000
"""Most queues and errors whose attributes are kept."""


class Measuring:
    """Records sends and runs for the broker that *about* describes."""

    def __init__(self, about: dict[str, str | int]) -> None:
        made = meter()
        self._sent = made.create_counter(
            "messaging.client.sent.messages",
            "{message}",
            "Number of messages producer attempted to send to the broker.",
        )
        self._consumed = made.create_counter(
            "messaging.client.consumed.messages",
            "{message}",
            "Number of messages that were delivered to the application.",
        )
        self._operations = made.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "Duration of messaging operation initiated by a producer or consumer client.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self._processes = made.create_histogram(
            "messaging.process.duration",
            "s",
            "Duration of processing operation.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self._about = about
        self._known: dict[tuple[str, str, str], dict[str, AttributeValue]] = {}
        """Attributes by operation, queue and error: a process has few of them."""

    def sent(self, queues: Iterable[str], *, seconds: float, error: str) -> None:
        """Record a send of a message to each of *queues*."""
        counts = Counter(queues)
        for queue, count in counts.items():
            self._sent.add(count, self._attributes("send", queue, error))
        one = next(iter(counts)) if len(counts) == 1 else ""
        self._operations.record(seconds, self._attributes("send", one, error))

    def processed(self, queue: str, *, seconds: float, error: str) -> None:
        """Record a run."""
        attributes = self._attributes("process", queue, error)
        self._consumed.add(1, attributes)
        self._processes.record(seconds, attributes)

    def _attributes(self, operation: str, queue: str, error: str) -> dict[str, AttributeValue]:
        found = self._known.get((operation, queue, error))
        if found is None:
            found = {**self._about, NAME: operation}
            if queue:
                found[DESTINATION] = queue
            if error:
                found[ERROR] = error
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[operation, queue, error] = found
        return found
