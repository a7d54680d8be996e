"""Clients that wait, reconnect, tell the time and clean up wrongly on purpose; and the right ones beside them."""

# The docstring of a class says what each of its methods does wrong.
# ruff: noqa: D102

from __future__ import annotations

import atexit
import contextlib
import hashlib
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from queuekit.backend import Condition, Record
from queuekit.broker import Ack, Delivery, Place, Replace, Settlement
from queuekit.clock import SystemClock
from queuekit.engines.memory import MemoryBackend, MemoryBroker
from queuekit.engines.sqlite import SqliteBackend
from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit.urls import EngineURL
from support.broker_defects import Defective
from support.waiting import PATIENCE


class FoldsCase(Defective):
    """Keeps queues under names without capitals, as some file systems do."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        return [self.resent([each], queue=each.queue.lower())[0] for each in envelopes]

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        return super().receive([name.lower() for name in queues], limit=limit, wait=wait, lease=lease)


class Truncates(Defective):
    """Keeps 64 KiB of a body."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        return [self.resent([each], body=each.body[:65_536])[0] for each in envelopes]


# -- waiting -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def burning() -> Iterator[None]:
    """Use so much CPU, in threads without the interpreter's lock, that it shows on a busy machine as well."""
    stopped, block = threading.Event(), bytes(1_000_000)

    def burn() -> None:
        while not stopped.is_set():
            hashlib.sha256(block).digest()

    threads = [threading.Thread(target=burn) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


class Spins(Defective):
    """Waits by looking all the time."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        deadline = time.monotonic() + min(wait, self.limits.max_wait)
        with burning():
            while not (found := super().receive(queues, limit=limit, wait=0, lease=lease)):
                if time.monotonic() >= deadline:
                    break
        return found


class SpinsWhileDelayed(Spins):
    """Takes the next due time for one that has passed."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        delayed = any(self.peek(queue, place=Place.DELAYED).items for queue in queues)
        if delayed:
            return super().receive(queues, limit=limit, wait=wait, lease=lease)
        return super(Spins, self).receive(queues, limit=limit, wait=wait, lease=lease)


class DoesNotWait(Defective):
    """Returns at once, so that a worker spins."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        return super().receive(queues, limit=limit, wait=0, lease=lease)


class LeaksThreads(Defective):
    """Starts a thread for itself, and forgets it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        threading.Thread(target=threading.Event().wait, args=(PATIENCE,), daemon=True, name="forgotten").start()


class TokensOfItsOwn(Defective):
    """Right: takes tokens from the system, which gives no two processes the same. The memory broker needs no such."""

    def _token(self) -> str:
        return uuid.uuid4().hex


class MarksByChance(SqliteBackend):
    """Knows what it has written by a mark, and draws the marks of a fork."""

    def __init__(self, url: EngineURL) -> None:
        super().__init__(url)
        self._chance = random.Random(1)

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        marked = [attrs.evolve(record, error=str(self._chance.getrandbits(64))) for record in records]
        answers = super().put(marked, condition=condition, expect=expect)
        found = self.get([record.key for record in records])
        return [yes or found[each.key].error == each.error for yes, each in zip(answers, marked, strict=True)]


# -- connections ---------------------------------------------------------------------------------------------------

_PEER = socket.create_server(("127.0.0.1", 0), backlog=100)
"""Never accepts: who connects is connected all the same."""
atexit.register(_PEER.close)


class Reconnects(Defective):
    """Right: sends each request over a connection, and opens another when that has ended."""

    _connection: socket.socket | None = None

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        self.request()
        return super().receive(queues, limit=limit, wait=min(wait, 0.05), lease=lease)

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        self.request()
        return super().send(envelopes)

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        self.request()
        return super().settle(settlements)

    def request(self) -> None:
        """Use the connection."""
        if self._connection is None:
            self._connection = socket.create_connection(_PEER.getsockname())
        try:
            self._connection.sendall(b".")
        except OSError as error:
            self.lost()
            raise UnavailableError("the connection has ended") from error

    def lost(self) -> None:
        """Let go of a connection that has ended."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def close(self) -> None:
        self.lost()


class NeverReconnects(Reconnects):
    """Believes in its connection for ever."""

    def lost(self) -> None:
        pass

    def close(self) -> None:
        super().lost()


class InTwoSteps(Reconnects):
    """Right: sends the next attempt over its connection, and then takes the last one away."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        lost: list[Delivery] = []
        for each in settlements:
            if not isinstance(each, Replace):
                lost += super().settle([each])
                continue
            for step in self.steps(each):
                self.request()
                lost += step()
        return lost

    def steps(self, each: Replace) -> list[Callable[[], list[Delivery]]]:
        """Return what is done over the connection, one after the other."""
        return [lambda: self.put(each), lambda: self.take_away(each)]

    def put(self, each: Replace) -> list[Delivery]:
        """Note the next attempt, which is delivered when the last one is gone."""
        return []

    def take_away(self, each: Replace) -> list[Delivery]:
        """Put the next attempt in the place of the last one."""
        return MemoryBroker.settle(self, [each])


class DeletesFirst(InTwoSteps):
    """Takes the last attempt away, and then sends the next one."""

    def put(self, each: Replace) -> list[Delivery]:
        return MemoryBroker.settle(self, [Ack(each.delivery)])

    def take_away(self, each: Replace) -> list[Delivery]:
        MemoryBroker.send(self, [each.envelope])
        return []


class LosesConnections(Reconnects):
    """Forgets to close; the files stay open."""

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.detach()


# -- clocks --------------------------------------------------------------------------------------------------------


class _ServerClock:
    """One that nobody sets."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self.monotonic, self.sleep = time.monotonic, time.sleep
        self.wait = SystemClock().wait

    def time(self) -> float:
        return time.monotonic() + self._offset


_CLOCK: Any = _ServerClock()


class ServersClock(MemoryBroker):
    """Right: lives by a clock of its own. The memory broker lives by its clients', which is wrong for a server."""

    def __init__(self, url: EngineURL) -> None:
        super().__init__(url, clock=_CLOCK)


class ServersClockBackend(MemoryBackend):
    """Right, in the same way."""

    def __init__(self, url: EngineURL) -> None:
        super().__init__(url, clock=_CLOCK)


class Narrow(Defective):
    """Right: delays no longer than its limits say, and gives the moment back that core has asked for."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        self._moments = {**getattr(self, "_moments", {}), **{each.id: each.not_before for each in envelopes}}
        return super().send([self.shortened(each) for each in envelopes])

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        cut = [Replace(s.delivery, self.shortened(s.envelope)) if isinstance(s, Replace) else s for s in settlements]
        return super().settle(cut)

    def shortened(self, envelope: Envelope) -> Envelope:
        """Return *envelope* with a delay that is not too long."""
        delay = max(envelope.delay, (envelope.not_before or 0.0) - time.time())
        return attrs.evolve(envelope, delay=min(delay, self.limits.max_delay or delay), not_before=None)

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [self.received([each], not_before=self._moments.get(each.id))[0] for each in found]


Narrow.limits = attrs.evolve(MemoryBroker.limits, max_delay=900.0)


class ForgetsTheMoment(Narrow):
    """Does not say any more when a message was meant to be due."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        return self.received(super().receive(queues, limit=limit, wait=wait, lease=lease), not_before=None)


# -- backends ------------------------------------------------------------------------------------------------------


class SpinningBackend(MemoryBackend):
    """Waits by looking all the time."""

    def wait(self, keys: Sequence[str], *, timeout: float) -> dict[str, Record]:
        deadline = time.monotonic() + timeout
        with burning():
            while not (found := super().wait(keys, timeout=0)) and time.monotonic() < deadline:
                pass
        return found


class LeakingBackend(MemoryBackend):
    """Starts a thread for itself, and forgets it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        threading.Thread(target=threading.Event().wait, args=(PATIENCE,), daemon=True, name="forgotten").start()


class Bottomless(MemoryBackend):
    """Takes a body of any size, and keeps what fits."""

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        return super().put(
            [attrs.evolve(record, body=record.body[: self.limits.max_record]) for record in records],
            condition=condition,
            expect=expect,
        )
