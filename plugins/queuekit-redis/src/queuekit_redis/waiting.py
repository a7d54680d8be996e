"""How a worker sleeps: on the bells of its queues, until one rings, the time is over, or it is interrupted."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

from queuekit_redis.engine import Engine
from queuekit_redis.failures import Failures
from queuekit_redis.link import Command
from queuekit_redis.server import Call, Server, run

__all__ = ["Interrupts", "Waker", "sleep_on", "sleep_then"]

GRACE = 3.0
"""Seconds after which a blocking call that should have ended means that the server is gone."""
_SHORTEST = 0.01
"""Seconds: servers cut a timeout to whole milliseconds, and take one that becomes 0 for eternity."""


class Waker:
    """A pipe that ends a sleep from another thread."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

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
        self._count = 0
        self._heard = 0
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._asleep: set[Waker] = set()
        self._pid = os.getpid()

    def _lock_of_this_process(self) -> threading.Lock:
        """Return the lock; in a child, leave it and those asleep to the parent: whoever holds it is not there."""
        if self._pid != os.getpid():
            self._start()
        return self._lock

    def interrupt(self) -> None:
        """Wake all who sleep."""
        with self._lock_of_this_process():
            self._count += 1
            for waker in self._asleep:
                waker.wake()

    def heard(self) -> int:
        """Return how many interrupts have ended a sleep."""
        return self._heard

    def hear(self, before: int) -> bool:
        """Tell whether there was one since *before*, and note that it has been heard."""
        if self._count == before:
            return False
        with self._lock_of_this_process():
            self._heard = self._count
        return True

    @contextmanager
    def asleep(self, before: int) -> Iterator[Waker]:
        """Yield a waker that an interrupt since *before* has woken or will wake."""
        waker = Waker()
        with self._lock_of_this_process():
            self._asleep.add(waker)
            if self._count != before:
                waker.wake()
        try:
            yield waker
        finally:
            with self._lock_of_this_process():
                self._asleep.discard(waker)
            waker.close()


class Sleep(NamedTuple):
    """How long to block."""

    seconds: float
    exact: bool = False
    """Whether something is due at the end of it. A server looks at its timeouts ten times a second only, so that such
    a sleep is ended from here."""

    @property
    def patience(self) -> float:
        """Seconds to wait here for the answer."""
        return self.seconds if self.exact else self.seconds + GRACE


def sleep_on(server: Server, bells: Sequence[Sequence[str]], *, sleep: Sleep, waker: Waker, failures: Failures) -> None:
    """Block until a bell rings, *sleep* is over or *waker* is woken.

    Args:
        server: Who has the bells.
        bells: Their keys; those of one group are served by one node and share a connection.
        sleep: How long.
        waker: Ends it from elsewhere.
        failures: Makes the error for a server that is silent.
    """
    with ExitStack() as stack:
        links = [stack.enter_context(server.lent(group[0])) for group in bells]
        for link, group in zip(links, bells, strict=True):
            link.send(_blocking(group, sleep.seconds))
        ready = _first_of([waker, *(link.sock or waker for link in links)], sleep.patience)
        for link in links:
            if link.sock is not None and link.sock.fileno() in ready:
                link.read()
            else:
                link.close()  # the quick way to take the call back
    if not ready and not sleep.exact:
        raise failures.silent(GRACE)


def sleep_then(engine: Engine, bells: Sequence[str], call: Call, *, sleep: Sleep, waker: Waker) -> Any:
    """Block until a bell rings, *sleep* is over or *waker* is woken, and return the reply to *call*.

    It goes with the call that blocks, so that it begins where the bell rings, without another way there and back. To
    close the connection would lose what it has taken, so a sleep is ended by ringing a bell of its own.

    Args:
        engine: The server, which has all bells.
        bells: Their keys; the last one is of this sleep alone.
        call: What to do then.
        sleep: How long.
        waker: Ends it from elsewhere.

    Returns:
        The reply; an error if it was refused.
    """
    with engine.server.lent(bells[0]) as link:
        link.send(_blocking(bells, sleep.seconds), call.arguments)
        ends = [waker, link.sock or waker]
        ready = _first_of(ends, sleep.patience)
        if ends[1].fileno() not in ready and (sleep.exact or ready):
            engine.server.one(run("wake", bells[-1:], ()), again=True)
            ready = _first_of(ends[1:], GRACE)
        if not ready:
            link.close()
            raise engine.failures.silent(GRACE)
        link.read()
        return link.answer()


def _blocking(bells: Sequence[str], seconds: float) -> Command:
    return ("BLPOP", *bells, f"{max(seconds, _SHORTEST):.3f}")


def _first_of(ends: Sequence[Waker | socket.socket], seconds: float) -> set[int]:
    """Return which of *ends* can be read first; none if *seconds* pass."""
    poll = select.poll()
    for end in ends:
        poll.register(end, select.POLLIN)
    return {number for number, _ in poll.poll(seconds * 1000)}
