"""Block a worker until one of its queues is notified, the time is over, or it is interrupted."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

from queuekit.interrupts import Interrupts
from queuekit_redis.engine import Engine
from queuekit_redis.failures import Failures
from queuekit_redis.link import Command, Link
from queuekit_redis.server import RedisCall, Server, run

__all__ = ["Sleep", "Waker", "asleep", "sleep_on", "sleep_then"]

GRACE = 3.0
"""Seconds after the expected end of a blocking call at which the server counts as unavailable."""
_SHORTEST = 0.01
"""Least timeout in seconds: servers truncate it to whole milliseconds, and 0 means no timeout."""


class Waker:
    """A pipe by which another thread ends a sleep."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._read

    def wake(self) -> None:
        """End the sleep, or the next one."""
        with suppress(OSError):  # a full pipe already wakes the waiter, and a closed one has none
            os.write(self._write, b"\0")

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._read)
        os.close(self._write)


@contextmanager
def asleep(interrupts: Interrupts, handled: int) -> Iterator[Waker]:
    """Yield a waker that wakes on any interrupt since *handled*."""
    waker = Waker()
    interrupts.join(waker, since=handled)
    try:
        yield waker
    finally:
        interrupts.leave(waker)
        waker.close()


class Sleep(NamedTuple):
    """How long to block."""

    seconds: float
    exact: bool = False
    """Whether something is due at its end. A server checks its timeouts only ten times a second, so the client ends
    such a sleep."""

    @property
    def patience(self) -> float:
        """Seconds to wait for the answer."""
        return self.seconds if self.exact else self.seconds + GRACE


def sleep_on(
    server: Server, notifiers: Sequence[Sequence[str]], *, sleep: Sleep, waker: Waker, failures: Failures
) -> None:
    """Block until one of *notifiers* has an entry, *sleep* is over or *waker* is woken.

    Args:
        server: The server of the notifiers.
        notifiers: Keys of the notifiers, in groups that one node serves and that share a connection.
        sleep: How long to block.
        waker: Ends the sleep early.
        failures: Makes the error for a server that does not answer.
    """
    with ExitStack() as stack:
        links = [stack.enter_context(server.lent(group[0])) for group in notifiers]
        for link, group in zip(links, notifiers, strict=True):
            link.send(_blocking(group, sleep.seconds))
        ready = _first_of([waker, *(link.sock or waker for link in links)], sleep.patience)
        _finish(links, ready)
    if not ready and not sleep.exact:
        raise failures.silent(GRACE)


def _finish(links: Sequence[Link], ready: set[int]) -> None:
    """Read the replies that have arrived, and cancel the other calls by closing their connections."""
    for link in links:
        if link.sock is not None and link.sock.fileno() in ready:
            link.read()
        else:
            link.close()


def sleep_then(engine: Engine, notifiers: Sequence[str], call: RedisCall, *, sleep: Sleep, waker: Waker) -> Any:
    """Block until a notifier has an entry, *sleep* is over or *waker* is woken, and return the reply to *call*.

    *call* is sent together with the blocking command, so the server runs it at once, without another round trip.
    Closing the connection could lose messages that the call claimed, so a sleep is ended through its own notifier.

    Args:
        engine: The server of all notifiers.
        notifiers: Keys of the notifiers; the last one belongs to this sleep only.
        call: The call to run then.
        sleep: How long to block.
        waker: Ends the sleep early.

    Returns:
        The reply, or the error if the call was refused.
    """
    with engine.server.lent(notifiers[0]) as link:
        link.send(_blocking(notifiers, sleep.seconds), call.arguments)
        ends = [waker, link.sock or waker]
        ready = _first_of(ends, sleep.patience)
        if ends[1].fileno() not in ready and (sleep.exact or ready):
            engine.server.one(run("wake", notifiers[-1:], ()), again=True)
            ready = _first_of(ends[1:], GRACE)
        if not ready:
            link.close()
            raise engine.failures.silent(GRACE)
        link.read()
        return link.answer()


def _blocking(notifiers: Sequence[str], seconds: float) -> Command:
    return ("BLPOP", *notifiers, f"{max(seconds, _SHORTEST):.3f}")


def _first_of(ends: Sequence[Waker | socket.socket], seconds: float) -> set[int]:
    """Return the descriptors of *ends* that are readable first; none after *seconds*."""
    poll = select.poll()
    for end in ends:
        poll.register(end, select.POLLIN)
    return {number for number, _ in poll.poll(seconds * 1000)}
