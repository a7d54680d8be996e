"""Takes messages off their queues in batches: one thread, never more than the worker can soon use."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from queuekit.broker import Delivery
from queuekit.client.outage import Outage
from queuekit.client.runtime import Runtime
from queuekit.errors import UnavailableError
from queuekit.execution.executor import due_of
from queuekit.logs.errors import log_error

__all__ = ["Fetcher", "weighted_order"]

_logger = logging.getLogger("queuekit.worker")
_UPKEEP = 5.0
"""Seconds between two rounds of upkeep while all slots are full (QK7)."""
_LONGEST_WAIT = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
_OF_USE = 0.5
"""Seconds after which a round that fails has been of use: what had come was taken, and then the wait broke off."""
_FEW = 4
"""Messages in a batch that shows a worker with little to do, where what counts is how soon they begin."""
_MOMENT = 1e-6
"""Seconds for which the interpreter is left to the threads, which else begin when this one asks the broker again."""


class WorkerPort(Protocol):
    """The worker, as its fetcher sees it."""

    def room(self) -> int:
        """Return how many messages it would take now."""
        ...

    def wait_for_room(self, timeout: float) -> bool:
        """Block until there is room; false if *timeout* seconds pass first."""
        ...

    def admit(self, deliveries: list[Delivery]) -> None:
        """Take *deliveries* in."""
        ...

    def idle(self) -> bool:
        """Return whether nothing is in flight."""
        ...


class Fetcher:
    """Fetches for one worker.

    Args:
        runtime: Broker, clock, chance, config.
        worker: Where messages go.
        burst: Whether to end when the queues are empty.
        on_empty: Called when a burst is over.
    """

    def __init__(self, runtime: Runtime, worker: WorkerPort, *, burst: bool, on_empty: Callable[[], None]) -> None:
        self._runtime = runtime
        self._worker = worker
        self._burst = burst
        self._on_empty = on_empty
        self._queues = runtime.config.worker.queues
        self._lease = runtime.config.worker.lease
        self._stopping = threading.Event()
        self._last_round = runtime.clock.monotonic()
        """Monotonic seconds of the last round trip; the worker's presence record says how long ago that is."""
        self._back_by: float | None = None
        """Monotonic seconds at which the fetch that goes on should be back; ``None`` between two."""
        self._reports = runtime.broker.capabilities.inspect
        self._ages: dict[str, float] = {}
        self.thread = threading.Thread(target=self._loop, name="queuekit-fetcher", daemon=True)

    def start(self) -> None:
        """Begin."""
        self.thread.start()

    def silence(self) -> float:
        """Return the seconds since the last round trip."""
        return max(0.0, self._runtime.clock.monotonic() - self._last_round)

    def overtime(self) -> float:
        """Return for how many seconds a fetch has gone on beyond what it was to wait; 0 between two."""
        back_by = self._back_by
        return 0.0 if back_by is None else max(0.0, time.monotonic() - back_by)

    def ages(self) -> dict[str, float]:
        """Return by queue how long the oldest message of the last batch had waited, where the broker does not tell."""
        return dict(self._ages)

    def stop(self, patience: float = _LONGEST_WAIT + 5) -> None:
        """Fetch no more; returns when the last batch has been admitted, or after *patience* seconds."""
        self._stopping.set()
        deadline = time.monotonic() + min(patience, _LONGEST_WAIT + 5)
        while self.thread.is_alive() and time.monotonic() < deadline:
            # Again and again: the thread may have been on its way into a receive that nobody had interrupted.
            self._runtime.broker.interrupt()
            self.thread.join(timeout=0.1)

    def _loop(self) -> None:
        clock = self._runtime.clock
        outage = Outage(self._runtime, doing="fetch", first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)
        while not self._stopping.is_set():
            began = clock.monotonic()
            problem = self._try_round()
            if problem:
                was_of_use = clock.monotonic() - began >= max(_OF_USE, outage.pause)
                self._stopping.wait(outage.failed(problem, afresh=was_of_use))
            elif outage.failures:
                outage.over()

    def _try_round(self) -> str:
        """Fetch once and return what went wrong, if anything: a worker must not live on deaf."""
        try:
            self._round()
        except UnavailableError as error:
            return error.what
        except BaseException as error:  # noqa: BLE001 - also SystemExit, in a class of the user's that a message names
            log_error(_logger, "the fetcher met an error that it does not know")
            return type(error).__name__
        return ""

    def _round(self) -> None:
        """Fetch once, or do the upkeep while there is no room."""
        room = self._worker.room()
        if room <= 0 and not self._worker.wait_for_room(_UPKEEP):
            self._receive(limit=0, wait=0.0)
            return
        room = self._worker.room()
        if room <= 0:
            return
        # Asked before the look: what a task has sent by the time that it leaves the worker is then seen by the look.
        idle = self._worker.idle()
        deliveries = self._receive(limit=room, wait=0.0 if self._burst else _LONGEST_WAIT)
        if deliveries:
            self._worker.admit(deliveries)
            if len(deliveries) <= _FEW:
                time.sleep(_MOMENT)
        elif self._burst and idle:
            self._stopping.set()
            self._on_empty()
        elif self._burst:
            self._worker.wait_for_room(0.05)

    def _receive(self, *, limit: int, wait: float) -> list[Delivery]:
        queues = weighted_order(self._queues, self._runtime.random)
        limits = self._runtime.broker.limits
        self._back_by = time.monotonic() + wait
        try:
            deliveries = self._runtime.broker.receive(
                queues, limit=min(limit, limits.max_batch), wait=min(wait, limits.max_wait), lease=self._lease
            )
        finally:
            self._back_by = None
        self._last_round = self._runtime.clock.monotonic()
        if not self._reports and limit > 0:
            self._note_ages(deliveries)
        return deliveries

    def _note_ages(self, deliveries: list[Delivery]) -> None:
        ages: dict[str, float] = {}
        for each in deliveries:
            waited = round(max(0.0, each.claimed_at - due_of(each)), 1)
            ages[each.queue] = max(waited, ages.get(each.queue, 0.0))
        self._ages = ages


def weighted_order(weights: Mapping[str, float], chance: random.Random) -> list[str]:
    """Return the queues in random order, in which each comes first in proportion to its weight.

    Source:
        Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006: sort by u ** (1 / weight).
    """
    if len(weights) == 1:
        return list(weights)
    return sorted(weights, key=lambda name: chance.random() ** (1.0 / max(weights[name], 1e-9)), reverse=True)
