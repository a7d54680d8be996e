"""The states of a message's record and the legal transitions between them.

::

    PENDING -> RECEIVED -> STARTED -> SUCCESS | FAILURE
                              |
                              +-> RETRY -> RECEIVED -> STARTED -> ...
    any of them -> CANCELLED | EXPIRED | DEAD

A record never moves back. Engines do not know the states, they compare ranks: :func:`rank` turns (generation, attempt,
state) into one number, so that a late STARTED cannot overwrite SUCCESS.
"""

from __future__ import annotations

import enum

__all__ = ["FINAL", "State", "is_legal", "rank"]


class State(enum.StrEnum):
    """The stage that a message has reached, according to its record."""

    UNKNOWN = "UNKNOWN"
    """Nothing is stored for the id. Never written."""
    PENDING = "PENDING"
    """Sent and waiting, or delayed."""
    RECEIVED = "RECEIVED"
    """A worker holds it; recorded only for tasks with ``track=True``."""
    STARTED = "STARTED"
    """Its body runs; recorded only for tasks with ``track=True``."""
    RETRY = "RETRY"
    """An attempt failed and the next is scheduled."""
    SUCCESS = "SUCCESS"
    """The task returned."""
    FAILURE = "FAILURE"
    """The last attempt failed; the message is a dead letter."""
    CANCELLED = "CANCELLED"
    """Cancelled before it finished."""
    EXPIRED = "EXPIRED"
    """Not started before ``expires``, or dropped by a worker that does not know the task (``on_unknown="drop"``)."""
    DEAD = "DEAD"
    """Dead-lettered without an outcome of its own: crashed, malformed, unknown task."""


FINAL = frozenset({State.SUCCESS, State.FAILURE, State.CANCELLED, State.EXPIRED, State.DEAD})
"""States after which nothing is written within the same generation."""

_ORDER = {State.UNKNOWN: 0, State.PENDING: 1, State.RECEIVED: 2, State.STARTED: 3, State.RETRY: 4}
_FINAL_ORDER = 99
_ATTEMPTS = 100_000
_GENERATION = _ATTEMPTS * 100
MAX_ATTEMPT = _ATTEMPTS - 1
"""Highest attempt that a rank can distinguish within one generation."""
MAX_COUNT = 2**29 - 1
"""Largest generation, attempt or hop of a message: with a larger one, a rank would not stay below 2**53."""
_FINAL_RANK = MAX_ATTEMPT * 100 + _FINAL_ORDER


def rank(state: State, *, attempt: int = 0, generation: int = 0) -> int:
    """Return the position of a record in its history; a higher rank is newer.

    Final states outrank every attempt of their generation and are equal to each other, so the first one stays (QK5).
    The number stays below 2**53, so that Lua and JSON numbers hold it exactly.
    """
    order = _ORDER.get(state)
    generation = min(generation, MAX_COUNT)
    if order is None:
        return generation * _GENERATION + _FINAL_RANK
    return generation * _GENERATION + min(attempt, MAX_ATTEMPT) * 100 + order


def is_legal(old: State, new: State, *, next_attempt: bool = False) -> bool:
    """Return whether a record may move from *old* to *new*; *next_attempt* says whether a new attempt begins."""
    attempt = 1 if next_attempt else 0
    return new is not State.UNKNOWN and rank(new, attempt=attempt) > rank(old)
