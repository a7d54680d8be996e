"""The metrics of the conventions: messages sent and consumed, and how long sends and runs take."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.util.types import AttributeValue

from queuekit.forks import renew_in_forks
from queuekit_otel.conventions import BUCKETS, DESTINATION, ERROR, NAME
from queuekit_otel.providers import meter

__all__ = ["Measuring"]

_MOST_KNOWN = 1_000
"""Most queues and errors whose attributes are kept."""
_Attributes = dict[str, AttributeValue]
_Place = tuple[str, str, tuple[tuple[str, str | int], ...]]
"""Queue, error and broker."""


class _Count:
    """A number for each set of attributes, which the SDK asks for when it exports.

    So a message costs a tenth of what it costs to tell a counter of the SDK of it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[_Place, tuple[_Attributes, int]] = {}
        renew_in_forks(self)

    def add(self, count: int, place: _Place, attributes: _Attributes) -> None:
        """Add to the number of *attributes*, which *place* stands for."""
        with self._lock:
            before = self._found.get(place)
            if before is None and len(self._found) >= _MOST_KNOWN:
                place, attributes = ("", "", ()), {NAME: str(attributes[NAME])}
                before = self._found.get(place)
            self._found[place] = attributes, count if before is None else before[1] + count

    def __call__(self, _options: CallbackOptions) -> Iterator[Observation]:
        """Yield the numbers."""
        with self._lock:
            found = list(self._found.values())
        for attributes, count in found:
            yield Observation(count, attributes)

    def renew_in_fork(self) -> None:
        """Begin at nothing: what was counted before is the parent's."""
        self._lock, self._found = threading.Lock(), {}


@cache
def _counting(name: str, text: str) -> _Count:
    """Return the count of instrument *name*: one for all apps of a process, since the SDK keeps the first of a name."""
    made = _Count()
    meter().create_observable_counter(name, [made], "{message}", text)
    return made


class Measuring:
    """Records sends and runs for the broker that *about* describes."""

    def __init__(self, about: dict[str, str | int]) -> None:
        made = meter()
        self._sent = _counting(
            "messaging.client.sent.messages", "Number of messages producer attempted to send to the broker."
        )
        self._consumed = _counting(
            "messaging.client.consumed.messages", "Number of messages that were delivered to the application."
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
        self._about, self._broker = about, tuple(about.items())
        self._known: dict[tuple[str, str, str], dict[str, AttributeValue]] = {}
        """Attributes by operation, queue and error: a process has few of them."""

    def sent(self, queues: Iterable[str], *, seconds: float, error: str) -> None:
        """Record a send of a message to each of *queues*."""
        counts = Counter(queues)
        for queue, count in counts.items():
            self._sent.add(count, (queue, error, self._broker), self._attributes("send", queue, error))
        one = next(iter(counts)) if len(counts) == 1 else ""
        self._operations.record(seconds, self._attributes("send", one, error))

    def processed(self, queue: str, *, seconds: float, error: str) -> None:
        """Record a run."""
        attributes = self._attributes("process", queue, error)
        self._consumed.add(1, (queue, error, self._broker), attributes)
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
