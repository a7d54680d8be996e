"""Bounds the wait of a call for each reply of the server by the options, however many replies it takes.

The client library knows one deadline for all that is done inside a block. A server that answers each command in a
second would never get through a call of six commands under a deadline of five.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

import pymongo

from queuekit.timelimit import time_left

__all__ = ["Replies", "renew"]

_MOST = 20
"""Replies that a call may wait for as long as it may wait for one: with that it ends in any case."""
_SHORTEST = 0.001
"""Seconds: the library takes 0 for no deadline."""


class _Current(threading.local):
    """The calls of a thread."""

    call: Replies | None = None


_current = _Current()


class Replies:
    """A block in which each reply may take *seconds*, and all of them together as long as the caller has left.

    Args:
        seconds: For one reply.
    """

    __slots__ = ("_all", "_before", "_one", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> Self:
        self._before, _current.call = _current.call, self
        self._all = self._enter(_MOST * self._seconds)
        self._one = self._enter(self._seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._one.__exit__(None, None, None)
        self._all.__exit__(None, None, None)
        _current.call = self._before

    def renew(self) -> None:
        """Begin to wait for the next reply."""
        self._one.__exit__(None, None, None)
        self._one = self._enter(self._seconds)

    def _enter(self, seconds: float) -> AbstractContextManager[Any]:
        made: AbstractContextManager[Any] = pymongo.timeout(max(_SHORTEST, time_left(seconds)))
        made.__enter__()
        return made


def renew() -> None:
    """Begin to wait for the next reply, if this thread is in a call."""
    call = _current.call
    if call is not None:
        call.renew()
