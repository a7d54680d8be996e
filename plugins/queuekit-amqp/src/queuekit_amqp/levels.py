"""Announce the priorities in use: the first sender of each writes it to the result backend, where receivers read it.

SQS lists a new queue late, and a listing costs a request per queue. A record of the backend is read within seconds.
Without a backend, receivers only have the listing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from queuekit.backend import Backend, Record
from queuekit.errors import QueuekitError

__all__ = ["Levels"]

_TTL = 86_400.0
"""Lifetime of a record in seconds; later clients find the queue in a listing."""
_TRIES = 5
_POLL_EVERY = 2.0
"""Seconds between two reads."""
_AGAIN = 30.0
"""Seconds until a priority is announced again if the backend did not answer."""


class Levels:
    """Announces priorities, and reads those of other clients. A lost record delays messages by a minute, loses none.

    Args:
        backend: Stores the records.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._announced: dict[tuple[str, int], float] = {}
        """Monotonic time until which a priority of a queue need not be announced again."""
        self._next_poll = 0.0

    def announce(self, queue: str, level: int) -> None:
        """Announce, unless already done, that *level* of the queue with the default SQS queue *queue* is in use."""
        now = time.monotonic()
        if now < self._announced.get((queue, level), float("-inf")):
            return
        try:
            said = self._add(queue, level)
        except QueuekitError:
            said = False
        self._announced[queue, level] = now + (_TTL / 2 if said else _AGAIN)

    def _add(self, queue: str, level: int) -> bool:
        key = _key(queue)
        for _ in range(_TRIES):
            record = self._backend.get([key]).get(key)
            levels = set() if record is None else _read(record)
            body = "".join(map(str, sorted(levels | {level}))).encode()
            version = 0 if record is None else record.version
            if self._backend.put([Record(key=key, body=body, ttl=_TTL)], expect=version)[0]:
                return True
        return False

    def is_due(self) -> bool:
        """Return whether a read is due; if so, schedule the next one."""
        now = time.monotonic()
        if now < self._next_poll:
            return False
        self._next_poll = now + _POLL_EVERY
        return True

    def read(self, queues: Sequence[str]) -> dict[str, set[int]]:
        """Return the announced priorities of each of *queues*; none if the backend does not answer."""
        try:
            found = self._backend.get([_key(queue) for queue in queues])
        except QueuekitError:
            return {}
        return {queue: _read(found[_key(queue)]) for queue in queues if _key(queue) in found}


def _key(queue: str) -> str:
    return f"amqp:levels:{queue}"


def _read(record: Record) -> set[int]:
    """Return the priorities in a record, whose body may be foreign."""
    return set(_digits(record.body))


def _digits(body: bytes) -> Iterable[int]:
    return (letter - ord("0") for letter in body if ord("0") <= letter <= ord("9"))
