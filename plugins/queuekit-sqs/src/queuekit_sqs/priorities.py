"""Which priorities are in use: who uses one first says so in the result backend, and receivers look there.

SQS lists a new queue late, and a listing costs a request for each queue. A record of the backend is read within seconds
of its writing. Where there is no backend, the listing is all there is.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from queuekit.backend import Backend, Record
from queuekit.errors import QueuekitError

__all__ = ["Levels"]

_TTL = 86_400.0
"""Seconds that a record lives: whoever begins later finds the queue in a listing."""
_TRIES = 5
_LOOK = 2.0
"""Seconds between two looks."""
_AGAIN = 30.0
"""Seconds after which a priority is announced again, where the backend did not answer."""


class Levels:
    """Announces priorities and hears of them. Losing a record costs a minute, and no message.

    Args:
        backend: Keeps the records.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._announced: dict[tuple[str, int], float] = {}
        """Until when nothing is to be said of the priority of a line, in monotonic seconds."""
        self._next_look = 0.0

    def announce(self, line: str, level: int) -> None:
        """Say that *level* of the queue whose usual line is *line* is in use, unless that was said before."""
        now = time.monotonic()
        if now < self._announced.get((line, level), float("-inf")):
            return
        try:
            said = self._add(line, level)
        except QueuekitError:
            said = False
        self._announced[line, level] = now + (_TTL / 2 if said else _AGAIN)

    def _add(self, line: str, level: int) -> bool:
        key = _key(line)
        for _ in range(_TRIES):
            record = self._backend.get([key]).get(key)
            levels = set() if record is None else _read(record)
            body = "".join(map(str, sorted(levels | {level}))).encode()
            version = 0 if record is None else record.version
            if self._backend.put([Record(key=key, body=body, ttl=_TTL)], expect=version)[0]:
                return True
        return False

    def is_due(self) -> bool:
        """Tell whether it is time to look; the next look is due a while after that."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + _LOOK
        return True

    def look(self, lines: Sequence[str]) -> dict[str, set[int]]:
        """Return which priorities were announced for each of *lines*; none if the backend does not answer."""
        try:
            found = self._backend.get([_key(line) for line in lines])
        except QueuekitError:
            return {}
        return {line: _read(found[_key(line)]) for line in lines if _key(line) in found}


def _key(line: str) -> str:
    return f"sqs:levels:{line}"


def _read(record: Record) -> set[int]:
    """Return the priorities in a record that may hold anything."""
    return set(_digits(record.body))


def _digits(body: bytes) -> Iterable[int]:
    return (letter - ord("0") for letter in body if ord("0") <= letter <= ord("9"))
