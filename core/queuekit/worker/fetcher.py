"""Fetch messages in batches, in one thread, and never more than the worker can use soon."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from queuekit.broker import Delivery
from queuekit.client.outage import Outage
from queuekit.client.runtime import Runtime
from queuekit.errors import UnavailableError
from queuekit.execution.due_time import due_of
from queuekit.logs.errors import log_error
from queuekit.worker.push_source import PushSource

__all__ = ["Fetcher", "weighted_order"]

_logger = logging.getLogger("queuekit.worker")
_UPKEEP = 5.0
"""Seconds between two rounds of upkeep while all slots are busy (QK7)."""
_LONGEST_WAIT = 6.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
_OF_USE = 0.5
"""Seconds after which a failed round counts as useful: the broker answered, and the connection broke while waiting."""
_FEW = 4
"""Batch size up to which the worker has little to do, so that it matters how soon the messages start."""
_SHORT, _LONG = 0.05, 1.0
"""Least and most seconds between two looks of a burst at empty queues while messages are in flight."""
_ON_ITS_WAY = 0.2
"""Seconds for which a burst waits for what is pushed, so that it does not go back as soon as it comes."""
_MOMENT = 1e-6
"""Seconds to sleep so that run threads get the interpreter now, not when this thread waits for the broker."""


class WorkerPort(Protocol):
    """The part of a worker that its fetcher uses."""

    def room(self) -> int:
        """Return how many messages the worker can take now."""
        ...

    def capacity(self) -> int:
        """Return how many messages it would hold at this moment, including those that it holds."""
        ...

    def wait_for_room(self, timeout: float) -> bool:
        """Block until there is room; return false after *timeout* seconds without."""
        ...

    def wait_for_end(self, ended: int, timeout: float) -> None:
        """Block until more than *ended* deliveries have ended, or the worker is stopping, or for *timeout* seconds."""
        ...

    def admit(self, deliveries: list[Delivery]) -> None:
        """Accept *deliveries*."""
        ...

    def idle(self) -> bool:
        """Return whether nothing is in flight."""
        ...

    def ended(self) -> int:
        """Return how many deliveries have ended so far."""
        ...


class Fetcher:
    """Fetches for one worker.

    Args:
        runtime: Broker, clock, random numbers, config.
        worker: Receives the messages.
        burst: Whether to end when the queues are empty.
        on_empty: Called at the end of a burst.
    """

    def __init__(self, runtime: Runtime, worker: WorkerPort, *, burst: bool, on_empty: Callable[[], None]) -> None:
        self._runtime = runtime
        self._worker = worker
        self._burst = burst
        self._on_empty = on_empty
        self._pause = _SHORT
        """Seconds until a burst looks at empty queues again, unless a delivery ends before."""
        self._queues = runtime.config.worker.queues
        self._serving: Mapping[str, float] = self._queues
        self._lease = runtime.lease
        self._stopping = threading.Event()
        self._changed = threading.Event()
        """Whether the queues to serve have changed since the last round."""
        self._last_round = runtime.clock.monotonic()
        """Monotonic time of the last round trip; the worker's presence record shows how long ago it was."""
        self._back_by: float | None = None
        """Monotonic time by which the current fetch should return; ``None`` between fetches."""
        self._reports = runtime.broker.capabilities.inspect
        pushes = runtime.broker.capabilities.push
        self._push = PushSource(runtime.broker, lease=self._lease, capacity=worker.capacity) if pushes else None
        self._ages: dict[str, float] = {}
        self.turns = 0
        """Rounds begun."""
        self._due = math.inf
        """Monotonic time by which the loop should have moved on."""
        self.down = False
        """Whether the last round failed."""
        self.thread = threading.Thread(target=self._loop, name="queuekit-fetcher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def silence(self) -> float:
        """Return the seconds since the last round trip."""
        return max(0.0, self._runtime.clock.monotonic() - self._last_round)

    def overtime(self) -> float:
        """Return by how many seconds the current fetch exceeds its wait; 0 between fetches."""
        back_by = self._back_by
        return 0.0 if back_by is None else max(0.0, time.monotonic() - back_by)

    def late(self) -> float:
        """Return for how many seconds the loop should have moved on."""
        return max(0.0, time.monotonic() - self._due)

    def ages(self) -> dict[str, float]:
        """Return by queue how long the oldest message of the last batch waited; empty if the broker reports it."""
        return dict(self._ages)

    def serve(self, weights: Mapping[str, float]) -> None:
        """From now on, take only messages of these queues, or of none; the upkeep of all goes on."""
        self._serving = weights
        self._changed.set()
        self._runtime.broker.interrupt()

    def stop(self, patience: float = _LONGEST_WAIT + 5) -> None:
        """Stop fetching; return when the last batch is admitted, or after *patience* seconds."""
        self._stopping.set()
        self._changed.set()
        deadline = time.monotonic() + min(patience, _LONGEST_WAIT + 5)
        while self.thread.is_alive() and time.monotonic() < deadline:
            # Repeat it: the thread may have entered a receive just after the last interrupt.
            self._runtime.broker.interrupt()
            self.thread.join(timeout=0.1)

    def _loop(self) -> None:
        clock = self._runtime.clock
        outage = Outage(self._runtime, doing="fetch", first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)
        while not self._stopping.is_set():
            began = clock.monotonic()
            self.turns += 1
            self._due = time.monotonic()
            problem = self._try_round()
            self.down = bool(problem)
            if problem:
                was_of_use = clock.monotonic() - began >= max(_OF_USE, outage.pause)
                pause = outage.failed(problem, afresh=was_of_use)
                self._due = time.monotonic() + pause
                self._stopping.wait(pause)
            elif outage.failures:
                outage.over()
        if self._push is not None:
            self._push.close()

    def _try_round(self) -> str:
        """Fetch once and return what went wrong, if anything; no error may end the fetcher."""
        try:
            self._round()
        except UnavailableError as error:
            return error.what
        except BaseException as error:  # noqa: BLE001 - also SystemExit, from a user class that a message names
            log_error(_logger, "unexpected error in the fetcher")
            return type(error).__name__
        return ""

    def _round(self) -> None:
        """Fetch once; without room for messages, only do the broker's upkeep."""
        if self._changed.is_set():
            self._change()
        if not self._serving:
            self._rest()
            return
        room = self._worker.room()
        self._due += _UPKEEP if room <= 0 else 0.0
        if room <= 0 and not self._worker.wait_for_room(_UPKEEP):
            self._receive(limit=0, wait=0.0)
            return
        room = self._worker.room()
        if room <= 0:
            return
        # Ask before the fetch: messages that a task sent before it ended are then visible to the fetch.
        ended, idle = self._worker.ended(), self._worker.idle()
        deliveries = self._receive(limit=room, wait=0.0 if self._burst else _LONGEST_WAIT)
        if deliveries:
            self._pause = _SHORT
            self._worker.admit(deliveries)
            if len(deliveries) <= _FEW:
                time.sleep(_MOMENT)
        elif self._burst:
            self._end_or_wait(idle, ended)

    def _change(self) -> None:
        """Let the broker push no more messages of queues that are left alone now."""
        self._changed.clear()
        if self._push is not None:
            self._push.close()

    def _rest(self) -> None:
        """Do the broker's upkeep, and wait until there are queues to serve, or until the next upkeep."""
        ended, idle = self._worker.ended(), self._worker.idle()
        self._runtime.broker.receive(list(self._queues), limit=0, wait=0.0, lease=self._lease)
        self._last_round = self._runtime.clock.monotonic()
        if self._burst:
            self._end_or_wait(idle, ended)
        else:
            self._changed.wait(_UPKEEP)

    def _end_or_wait(self, idle: bool, ended: int) -> None:  # noqa: FBT001 - a private step
        """End the burst if nothing ran before the fetch that found nothing; else wait until something ends.

        What delays or other workers let become due meanwhile is found by looks at growing intervals.
        """
        if idle:
            self._stopping.set()
            self._on_empty()
            return
        self._worker.wait_for_end(ended, self._pause)
        self._pause = _SHORT if self._worker.ended() > ended else min(2 * self._pause, _LONG)

    def _receive(self, *, limit: int, wait: float) -> list[Delivery]:
        queues = weighted_order(self._serving, self._runtime.random)
        if not queues:  # since this round began
            return []
        limits = self._runtime.broker.limits
        self._due = self._back_by = time.monotonic() + wait
        try:
            deliveries = self._take(queues, limit=min(limit, limits.max_batch), wait=min(wait, limits.max_wait))
        finally:
            self._back_by = None
        self._last_round = self._runtime.clock.monotonic()
        if not self._reports and limit > 0:
            self._note_ages(deliveries)
        return deliveries

    def _take(self, queues: list[str], *, limit: int, wait: float) -> list[Delivery]:
        if self._push is not None:
            found = self._push.next(queues, limit=limit, wait=max(wait, _ON_ITS_WAY) if limit > 0 else wait)
            if found or not self._burst or limit <= 0:
                return found
            # What is still on its way goes back: only the queue itself says that it is empty.
            self._push.close()
        return self._runtime.broker.receive(queues, limit=limit, wait=wait, lease=self._lease)

    def _note_ages(self, deliveries: list[Delivery]) -> None:
        ages: dict[str, float] = {}
        for each in deliveries:
            waited = round(max(0.0, each.claimed_at - due_of(each)), 1)
            ages[each.queue] = max(waited, ages.get(each.queue, 0.0))
        self._ages = ages


def weighted_order(weights: Mapping[str, float], chance: random.Random) -> list[str]:
    """Return the queues in random order; the probability of being first is proportional to the weight.

    Source:
        Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006: sort by u ** (1 / weight).
    """
    if len(weights) == 1:
        return list(weights)
    return sorted(weights, key=lambda name: chance.random() ** (1.0 / max(weights[name], 1e-9)), reverse=True)
