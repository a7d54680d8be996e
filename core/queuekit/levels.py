"""The priorities in use, for plugins whose service has a queue for each: senders announce, receivers read.

A service may list a new queue late, or never. The first sender of each priority writes it to the result backend, and
receivers read it there within seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from queuekit.backend import Backend, Record
from queuekit.errors import QueuekitError

__all__ = ["Levels"]

_TTL = 86_400.0
"""Lifetime of a record in seconds. Senders renew it at half of that."""
_TRIES = 5
_POLL_EVERY = 2.0
"""Seconds between two reads."""
_AGAIN = 30.0
"""Seconds until a priority is announced again if the backend did not answer."""


class Levels:
    """Announces priorities, and reads those that other clients have announced.

    A backend that does not answer delays the messages of a new priority; none is lost.

    Args:
        backend: Stores a record for each queue.
        service: Begins the key of each record, such as "sqs".
    """

    def __init__(self, backend: Backend, service: str) -> None:
        self._backend = backend
        self._service = service
        self._announced: dict[tuple[str, int], float] = {}
        """Monotonic time until which a priority of a queue need not be announced again."""
        self._next_poll = 0.0

    def announce(self, queue: str, level: int) -> None:
        """Announce, unless that is done, that *queue* has messages of the priority *level*, a digit."""
        now = time.monotonic()
        if now < self._announced.get((queue, level), float("-inf")):
            return
        try:
            said = self._add(queue, level)
        except QueuekitError:
            said = False
        self._announced[queue, level] = now + (_TTL / 2 if said else _AGAIN)

    def _add(self, queue: str, level: int) -> bool:
        key = self._key(queue)
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
        """Return the announced priorities of each of *queues*, in one call; none if the backend does not answer."""
        try:
            found = self._backend.get([self._key(queue) for queue in queues])
        except QueuekitError:
            return {}
        return {queue: _read(found[self._key(queue)]) for queue in queues if self._key(queue) in found}

    def _key(self, queue: str) -> str:
        return f"{self._service}:levels:{queue}"


def _read(record: Record) -> set[int]:
    """Return the priorities in a record, whose body may be foreign."""
    return set(_digits(record.body))


def _digits(body: bytes) -> Iterable[int]:
    return (letter - ord("0") for letter in body if ord("0") <= letter <= ord("9"))
