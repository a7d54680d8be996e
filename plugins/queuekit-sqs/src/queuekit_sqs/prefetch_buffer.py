"""Buffer prefetched messages, which go to the next call or are released soon.

The buffer also holds messages that arrive up to a second early, since SQS delays by whole seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Sequence
from typing import Any

import attrs

from queuekit.errors import UnavailableError
from queuekit_sqs.queues import SqsQueue

__all__ = ["Arrival", "PrefetchBuffer"]

_KEEP = 5.0
"""Most seconds that a message waits for a call."""
_MOST_EARLY = 1_000
"""Most early messages for one process: others may have room."""


@attrs.frozen(kw_only=True, eq=False)
class Arrival:
    """A claimed message."""

    sqs_queue: SqsQueue
    message: dict[str, Any]
    claimed: float
    """Monotonic time at which the lease began, or slightly earlier."""
    lease: float
    at: float
    """UTC epoch seconds on the service's clock at which it arrived."""
    due_at: float
    """Monotonic time at which it arrived, or at which it is due if that is later."""
    early: float = 0.0
    """Seconds from its arrival until it is due."""

    @property
    def patience(self) -> float:
        """Monotonic time until which it waits for a call."""
        return min(self.claimed + self.early + min(_KEEP, self.lease / 3), self.claimed + 0.8 * self.lease)

    @property
    def left(self) -> float:
        """Seconds from now until it is due."""
        return max(0.0, self.due_at - time.monotonic())


class PrefetchBuffer:
    """Holds messages for the next call.

    Args:
        give_back: Called with messages that no call asked for.
        start: Runs a function in a thread.
    """

    def __init__(
        self, give_back: Callable[[list[Arrival]], None], *, start: Callable[[Callable[[], None]], object]
    ) -> None:
        self.changed = threading.Condition()
        """Notified on each change."""
        self._give_back = give_back
        self._start = start
        self._arrivals: list[Arrival] = []
        self._problem: UnavailableError | None = None
        self._expiring = False
        """Whether a thread is running that releases messages which wait too long."""
        self._open = True

    def open(self) -> None:
        """Keep messages that arrive from now on."""
        self._open = True

    def put(self, arrivals: Sequence[Arrival], problem: UnavailableError | None) -> None:
        """Keep *arrivals* and *problem* for the next call."""
        with self.changed:
            self._problem = self._problem or problem
            self._arrivals += arrivals
            self.changed.notify_all()
            begin = bool(arrivals) and self._open and not self._expiring
            self._expiring = self._expiring or begin
            is_open = self._open
        if begin:
            self._start(self._expire)
        if not is_open:
            self.give_back(everything=True)

    def take(self, sqs_queues: Sequence[SqsQueue], limit: int) -> list[Arrival]:
        """Return due messages of *sqs_queues*, most urgent first; if there are none, raise the kept error, if any."""
        ranks = {sqs_queue.name: place for place, sqs_queue in enumerate(sqs_queues)}
        with self.changed:
            ours = self._due(ranks)
            if len(ours) > limit or len(ranks) > 1:
                ours = sorted(ours, key=lambda one: ranks[one.sqs_queue.name])[:limit]
            taken = set(ours)
            self._arrivals = [one for one in self._arrivals if one not in taken]
            problem, self._problem = self._problem, None
        if problem is not None and not ours:
            raise problem
        return ours

    def has(self, sqs_queues: Sequence[SqsQueue]) -> bool:
        """Return whether the next call for *sqs_queues* gets something, or an error; call it under ``changed``."""
        return self._problem is not None or bool(self._due({sqs_queue.name for sqs_queue in sqs_queues}))

    def is_crowded(self) -> bool:
        """Return whether so many messages arrived early that no more should be claimed."""
        return len(self._arrivals) > _MOST_EARLY and sum(one.left > 0 for one in self._arrivals) > _MOST_EARLY

    def next_due(self, sqs_queues: Sequence[SqsQueue]) -> float:
        """Return when the next message of *sqs_queues* is due, in monotonic seconds; call it under ``changed``."""
        names = {sqs_queue.name for sqs_queue in sqs_queues}
        return min((one.due_at for one in self._arrivals if one.sqs_queue.name in names), default=float("inf"))

    def _due(self, names: Container[str]) -> list[Arrival]:
        now = time.monotonic()
        return [one for one in self._arrivals if one.sqs_queue.name in names and one.due_at <= now]

    def give_back(self, *, everything: bool = False) -> None:
        """Release messages that have waited too long, or *everything*."""
        now = time.monotonic()
        with self.changed:
            old = {one for one in self._arrivals if everything or now >= one.patience}
            self._arrivals = [one for one in self._arrivals if one not in old]
        if old:
            self._give_back(list(old))

    def close(self) -> None:
        """Release everything, and messages that still arrive."""
        self._open = False
        self.give_back(everything=True)
        with self.changed:
            self.changed.notify_all()

    def _expire(self) -> None:
        """Release messages that wait too long, until none is left."""
        while True:
            with self.changed:
                if not self._arrivals:
                    self._expiring = False
                    return
                left = min(one.patience for one in self._arrivals) - time.monotonic()
                if left > 0:
                    self.changed.wait(left)
            if left <= 0:
                self.give_back()
