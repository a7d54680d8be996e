"""How a worker sleeps: on the bells of its queues, until one rings, the time is over, or it is interrupted."""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from queuekit_redis.failures import Failures
from queuekit_redis.server import Server

__all__ = ["Interrupts", "Waker", "sleep_on"]

GRACE = 3.0
"""Seconds after which a blocking call that should have ended means that the server is gone."""
_SHORTEST = 0.01
"""Seconds: servers cut a timeout to whole milliseconds, and take one that becomes 0 for eternity."""


class Waker:
    """A pipe that ends a sleep from another thread."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Return what to wait on."""
        return self._read

    def wake(self) -> None:
        """End the sleep, or the next one."""
        with suppress(OSError):  # full is awake enough, and closed needs no waking
            os.write(self._write, b"\0")

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._read)
        os.close(self._write)


class Interrupts:
    """Interrupts of one broker: each ends the sleeps of now or, if there are none, the next one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._heard = 0
        self._asleep: set[Waker] = set()

    def interrupt(self) -> None:
        """Wake all who sleep."""
        with self._lock:
            self._count += 1
            for waker in self._asleep:
                waker.wake()

    def heard(self) -> int:
        """Return how many interrupts have ended a sleep."""
        return self._heard

    def hear(self, before: int) -> bool:
        """Tell whether there was one since *before*, and note that it has been heard."""
        with self._lock:
            if self._count == before:
                return False
            self._heard = self._count
            return True

    @contextmanager
    def asleep(self, before: int) -> Iterator[Waker]:
        """Yield a waker that an interrupt since *before* has woken or will wake."""
        waker = Waker()
        with self._lock:
            self._asleep.add(waker)
            if self._count != before:
                waker.wake()
        try:
            yield waker
        finally:
            with self._lock:
                self._asleep.discard(waker)
            waker.close()


def sleep_on(
    server: Server, bells: Sequence[Sequence[str]], *, seconds: float, waker: Waker, failures: Failures
) -> bool:
    """Block until a bell rings, *seconds* have passed or *waker* is woken; tell whether a bell rang.

    Args:
        server: Who has the bells.
        bells: Their keys; those of one group are served by one node and share a connection.
        seconds: How long.
        waker: Ends it from elsewhere.
        failures: Makes the error for a server that is silent.
    """
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        selector.register(waker, selectors.EVENT_READ)
        links = [stack.enter_context(server.lent(group[0])) for group in bells]
        for link, group in zip(links, bells, strict=True):
            link.send(("BLPOP", *group, f"{max(seconds, _SHORTEST):.3f}"))
            selector.register(link.sock or waker, selectors.EVENT_READ, link)
        events = selector.select(seconds + GRACE)
        answered = [key.data for key, _ in events if key.data is not None]
        rung = [link.read() is not None for link in answered]
        for link in links:
            if link not in answered:
                link.close()  # the quick way to take the call back
    if not events:
        raise failures.silent(GRACE)
    return any(rung)
