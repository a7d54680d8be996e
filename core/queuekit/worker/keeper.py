"""Keeps leases alive: all of a process's in one call, every third of a lease, where user code cannot block it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from queuekit.broker import Broker, Lease
from queuekit.errors import UnavailableError
from queuekit.events import EngineDown, Events

__all__ = ["Holding", "Keeper", "LeaseKeeper"]

_logger = logging.getLogger("queuekit.worker")


class Holding(NamedTuple):
    """A lease to be kept: light and flat, since one is made for each message and crosses a pipe."""

    serial: int
    """Number of the run within its process."""
    queue: str
    id: str
    token: str
    number: int
    timeout: float | None = None
    """Seconds that the body may run; past it, and a grace, the lease is left to end."""
    generation: int = 0
    attempt: int = 0
    apart: bool = False
    """Whether the body runs in a process of its own, and so did not end the one that held the lease."""

    @property
    def lease(self) -> Lease:
        """What the broker wants to see."""
        return Lease(self.queue, self.id, self.token, self.number)


class Keeper(Protocol):
    """What a worker tells of the messages in its hands."""

    def hold(self, holdings: Sequence[Holding]) -> None:
        """Keep these from now on; returns once it is certain that they will be, before any body runs."""
        ...

    def done(self, serials: Iterable[int]) -> None:
        """Keep these no longer."""
        ...


class LeaseKeeper:
    """A thread that extends what is held.

    Args:
        broker: Extends.
        lease: Seconds of a lease.
        on_lost: Called with the serials of leases that turned out to be lost.
        may_extend: Asked before each round, with the holdings; returns those still deserving it: not those of a
            frozen process, nor those past their timeout.
        events: Told when the broker does not answer.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        lease: float,
        on_lost: Callable[[list[int]], None],
        may_extend: Callable[[list[Holding]], list[Holding]] = lambda holdings: holdings,
        events: Events,
    ) -> None:
        self._broker = broker
        self._lease = lease
        self._on_lost = on_lost
        self._may_extend = may_extend
        self._events = events
        self._held: dict[int, Holding] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="queuekit-keeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is held is left to end by itself."""
        self._stopped.set()
        self._awake.set()
        self._thread.join(timeout=5)

    def hold(self, holdings: Sequence[Holding]) -> None:
        """Keep these from now on."""
        with self._lock:
            self._held.update((holding.serial, holding) for holding in holdings)
        if not self._awake.is_set():
            self._awake.set()

    def done(self, serials: Iterable[int]) -> None:
        """Keep these no longer."""
        with self._lock:
            for serial in serials:
                self._held.pop(serial, None)

    def held(self) -> list[Holding]:
        """Return what is held now."""
        with self._lock:
            return list(self._held.values())

    def _loop(self) -> None:
        while not self._stopped.is_set():
            if not self.held():
                self._awake.clear()
                # What came between the look and the clear would be slept through.
                if not self.held() and not self._stopped.is_set():
                    self._awake.wait()
            if self._stopped.wait(self._lease / 3):
                return
            self.extend()

    def extend(self) -> None:
        """Extend all that is held, once."""
        holdings = self._may_extend(self.held())
        size = self._broker.limits.max_batch
        for start in range(0, len(holdings), size):
            batch = holdings[start : start + size]
            try:
                lost = set(self._broker.extend([holding.lease for holding in batch], lease=self._lease))
            except UnavailableError as error:
                self._events.emit(EngineDown(doing="extend leases", error=error.what, retry_in=self._lease / 3))
                return
            except Exception:
                _logger.exception("the keeper met an error that it does not know")
                return
            if lost:
                self._tell([holding.serial for holding in batch if holding.lease in lost])

    def _tell(self, serials: list[int]) -> None:
        """Report those that were not settled meanwhile."""
        with self._lock:
            lost = [serial for serial in serials if self._held.pop(serial, None)]
        if lost:
            self._on_lost(lost)
