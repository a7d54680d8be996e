"""Limit the wait for each reply of the server, however many replies a call needs.

The client library supports one deadline for everything inside a block. With a deadline of five seconds, a call of six
commands would always fail on a server that answers each command in one second.
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
"""Limit of a whole call, as a multiple of the limit for one reply."""
_SHORTEST = 0.001
"""Least limit in seconds: for the library, 0 means no deadline."""


class _Current(threading.local):
    """The current call of a thread."""

    call: Replies | None = None


_current = _Current()


class Replies:
    """A block in which each reply may take *seconds*, within the time limit of the caller.

    Args:
        seconds: Limit for one reply.
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
        """Start the limit of the next reply."""
        self._one.__exit__(None, None, None)
        self._one = self._enter(self._seconds)

    def _enter(self, seconds: float) -> AbstractContextManager[Any]:
        made: AbstractContextManager[Any] = pymongo.timeout(max(_SHORTEST, time_left(seconds)))
        made.__enter__()
        return made


def renew() -> None:
    """Start the limit of the next reply, if this thread is in a call."""
    call = _current.call
    if call is not None:
        call.renew()
