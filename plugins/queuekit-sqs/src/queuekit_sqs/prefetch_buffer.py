"""Messages that were claimed before anybody asked for them: they are handed to the next call, or given back soon.

Here also wait those that came up to a second too early, since SQS delays by whole seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Sequence
from typing import Any

import attrs

from queuekit.errors import UnavailableError
from queuekit_sqs.queues import Line

__all__ = ["Arrival", "Shelf"]

_KEEP = 5.0
"""Most seconds that a message waits for somebody to ask for it."""
_LADEN = 1_000
"""Early messages that are enough for one process: others may have room."""


@attrs.frozen(kw_only=True, eq=False)
class Arrival:
    """A message that was claimed."""

    line: Line
    message: dict[str, Any]
    claimed: float
    """Monotonic seconds at which the lease began, or a little earlier."""
    lease: float
    at: float
    """UTC epoch seconds on the service's clock at which it came."""
    ripe: float
    """Monotonic seconds at which it came, or at which it is due if that is later."""
    early: float = 0.0
    """Seconds from when it came until it is due."""

    @property
    def patience(self) -> float:
        """Monotonic seconds until which it waits for somebody to ask for it."""
        return min(self.claimed + self.early + min(_KEEP, self.lease / 3), self.claimed + 0.8 * self.lease)

    @property
    def left(self) -> float:
        """Seconds from now until it is due."""
        return max(0.0, self.ripe - time.monotonic())


class Shelf:
    """Where messages wait for the next call.

    Args:
        give_back: Called with what nobody has asked for.
        start: Runs a call in a thread.
    """

    def __init__(
        self, give_back: Callable[[list[Arrival]], None], *, start: Callable[[Callable[[], None]], object]
    ) -> None:
        self.news = threading.Condition()
        """Notified of whatever comes."""
        self._give_back = give_back
        self._start = start
        self._arrivals: list[Arrival] = []
        self._problem: UnavailableError | None = None
        self._minded = False
        """Whether a thread sees to it that nothing waits for too long."""
        self._open = True

    def open(self) -> None:
        """Keep from now on what comes."""
        self._open = True

    def put(self, arrivals: Sequence[Arrival], problem: UnavailableError | None) -> None:
        """Keep *arrivals* for the next call, and tell it of *problem*."""
        with self.news:
            self._problem = self._problem or problem
            self._arrivals += arrivals
            self.news.notify_all()
            begin = bool(arrivals) and self._open and not self._minded
            self._minded = self._minded or begin
            is_open = self._open
        if begin:
            self._start(self._mind)
        if not is_open:
            self.give_back(everything=True)

    def take(self, lines: Sequence[Line], limit: int) -> list[Arrival]:
        """Return what is due of *lines*, most urgent first; if that is nothing, raise what went wrong."""
        order = {line.name: place for place, line in enumerate(lines)}
        with self.news:
            ours = self._due(order)
            if len(ours) > limit or len(order) > 1:
                ours = sorted(ours, key=lambda one: order[one.line.name])[:limit]
            taken = set(ours)
            self._arrivals = [one for one in self._arrivals if one not in taken]
            problem, self._problem = self._problem, None
        if problem is not None and not ours:
            raise problem
        return ours

    def has(self, lines: Sequence[Line]) -> bool:
        """Tell whether the next call for *lines* gets something, or an error; to be asked under ``news``."""
        return self._problem is not None or bool(self._due({line.name for line in lines}))

    def laden(self) -> bool:
        """Tell whether so much came too early that nothing more should be claimed."""
        return len(self._arrivals) > _LADEN and sum(one.left > 0 for one in self._arrivals) > _LADEN

    def next_due(self, lines: Sequence[Line]) -> float:
        """Return when the next message of *lines* is due, in monotonic seconds; to be asked under ``news``."""
        names = {line.name for line in lines}
        return min((one.ripe for one in self._arrivals if one.line.name in names), default=float("inf"))

    def _due(self, names: Container[str]) -> list[Arrival]:
        now = time.monotonic()
        return [one for one in self._arrivals if one.line.name in names and one.ripe <= now]

    def give_back(self, *, everything: bool = False) -> None:
        """Give back what has waited for too long, or *everything*."""
        now = time.monotonic()
        with self.news:
            old = {one for one in self._arrivals if everything or now >= one.patience}
            self._arrivals = [one for one in self._arrivals if one not in old]
        if old:
            self._give_back(list(old))

    def close(self) -> None:
        """Give back everything, and what still comes."""
        self._open = False
        self.give_back(everything=True)
        with self.news:
            self.news.notify_all()

    def _mind(self) -> None:
        """Give back what waits for too long, until nothing waits."""
        while True:
            with self.news:
                if not self._arrivals:
                    self._minded = False
                    return
                left = min(one.patience for one in self._arrivals) - time.monotonic()
                if left > 0:
                    self.news.wait(left)
            if left <= 0:
                self.give_back()
