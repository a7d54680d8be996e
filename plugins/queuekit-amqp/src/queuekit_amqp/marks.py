"""Mark the deliveries that were handed back and are no crashes; RabbitMQ counts both alike.

A mark is a record of the result backend. It is written before an uncounted hand-back, and read only for messages that
RabbitMQ has delivered before. Without a backend, such a message is published again instead, with its counts.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence

import attrs

from queuekit.backend import Backend, Record
from queuekit.envelope import Envelope
from queuekit.errors import QueuekitError
from queuekit_amqp.messages import Counts, Received

__all__ = ["Mark", "Marks", "key_of"]

_TTL = 1_209_600.0
"""Lifetime of a mark in seconds; without it, hand-backs of the message before that count as crashes."""


@attrs.frozen
class Mark:
    """What is known of a message when it is handed back."""

    deliveries: int
    """Deliveries that RabbitMQ counts until then."""
    number: int
    crashes: int

    def applied(self, deliveries: int) -> Counts:
        """Return the counts of a message that RabbitMQ has delivered *deliveries* times before."""
        more = deliveries - self.deliveries
        return Counts(number=self.number + more, crashes=self.crashes + more)


class Marks:
    """Keeps marks in the result backend."""

    def __init__(self) -> None:
        self._backend: Backend | None = None

    def share(self, backend: Backend) -> None:
        """Keep marks in *backend*."""
        self._backend = backend

    def note(self, marks: Sequence[tuple[str, Mark]]) -> bool:
        """Write *marks*, each under its key; return false if they are not kept."""
        if self._backend is None:
            return False
        records = [
            Record(key=key, body=f"{mark.deliveries} {mark.number} {mark.crashes}".encode(), ttl=_TTL)
            for key, mark in marks
        ]
        try:
            self._backend.put(records)
        except QueuekitError:
            return False
        return True

    def count(self, received: Sequence[Received]) -> list[Counts]:
        """Return the counts before the present delivery of each of *received*."""
        again = {key_of(one.envelope, one.counts) for one in received if one.deliveries}
        found = self._find(list(again)) if again else {}
        return [_counted(one, found) for one in received]

    def _find(self, keys: Sequence[str]) -> dict[str, Mark] | None:
        """Return the marks with *keys*; ``None`` if the backend does not answer."""
        if self._backend is None:
            return {}
        try:
            records = self._backend.get(keys)
        except QueuekitError:
            return None
        marks = {key: _read(record.body) for key, record in records.items()}
        return {key: mark for key, mark in marks.items() if mark is not None}

    def forget(self, keys: Sequence[str]) -> None:
        """Delete the marks of messages that have left their queue; one that stays expires."""
        if self._backend is not None and keys:
            with contextlib.suppress(QueuekitError):
                self._backend.delete(keys)


def key_of(envelope: Envelope, counts: Counts) -> str:
    """Return the key of the mark of one copy of a message."""
    step = (envelope.queue, envelope.id, envelope.generation, envelope.attempt, envelope.hop, counts.number)
    return f"amqp:mark:{hashlib.sha256(repr(step).encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


def _counted(one: Received, marks: dict[str, Mark] | None) -> Counts:
    if not one.deliveries:
        return one.counts
    number, crashes = one.counts.number + one.deliveries, one.counts.crashes
    if marks is None:
        # A suspect, but not for that a dead letter: which of them were crashes is seen when the backend answers again.
        return attrs.evolve(one.counts, number=number, crashes=crashes + 1)
    mark = marks.get(key_of(one.envelope, one.counts))
    if mark is None or mark.deliveries > one.deliveries:
        return attrs.evolve(one.counts, number=number, crashes=crashes + one.deliveries)
    return attrs.evolve(mark.applied(one.deliveries), sent_at=one.counts.sent_at)


def _read(body: bytes) -> Mark | None:
    """Return a mark; ``None`` if the body is foreign."""
    try:
        deliveries, number, crashes = map(int, body.split())
    except ValueError:
        return None
    return Mark(deliveries, number, crashes) if min(deliveries, number, crashes) >= 0 else None
