"""Schedulers on a clock that stands still until somebody moves it: each is asked to do its turn when it wants to."""

import math
from collections import Counter
from typing import Any

from queuekit import Queuekit
from queuekit.broker import Ack, Place
from queuekit.clock import VirtualClock
from queuekit.envelope import split_frame
from queuekit.errors import UnavailableError
from queuekit.schedules.scheduler import Scheduler
from support.working import flaky_app

START = 1_800_000_000
"""UTC epoch seconds at which the clock stands first: 2027-01-15 08:00:00."""


class Crash(BaseException):
    """The process is gone."""


class Crew:
    """Schedulers of one app that do their turns in the order of time, without threads.

    Args:
        app: The app, on *clock*; default: one on separate engines behind wires.
        clock: The time.
    """

    def __init__(self, *, app: Queuekit | None = None, clock: VirtualClock | None = None) -> None:
        self.clock = clock or VirtualClock(START)
        self.app = app or flaky_app(clock=self.clock)
        self.wakes: dict[Scheduler, float] = {}
        """When each of those that live does its next turn."""

    def hire(self, count: int = 1) -> list[Scheduler]:
        """Add schedulers."""
        hired = [Scheduler(self.app, name=f"s{len(self.wakes) + index}") for index in range(count)]
        self.wakes.update(dict.fromkeys(hired, self.clock.time()))
        return hired

    def leader(self) -> Scheduler:
        """Return the one who leads."""
        (found,) = [one for one in self.wakes if one.is_leader]
        return found

    def kill(self, one: Scheduler) -> None:
        """Let one do nothing any more, as SIGKILL would."""
        del self.wakes[one]

    def run(self, seconds: float) -> None:
        """Let *seconds* pass; one whose turn raises :class:`Crash` is dead, one that meets an outage comes again."""
        end = self.clock.time() + seconds
        while (moment := min(self.wakes.values(), default=math.inf)) <= end:
            self.clock.advance(max(0.0, moment - self.clock.time()))
            one = min(self.wakes, key=lambda one: self.wakes[one])
            self.wakes[one] = self.clock.time() + max(0.001, self._turn(one))
        self.clock.advance(max(0.0, end - self.clock.time()))

    def _turn(self, one: Scheduler) -> float:
        try:
            return one.turn()
        except UnavailableError:
            return 1.0
        except Crash:
            return math.inf

    # -- what was sent

    def ticks(self, queue: str = "default") -> list[str]:
        """Return the times of all ticks that wait on a queue, as ``HH:MM:SS``, in order."""
        broker = self.app.runtime.broker
        stored = broker.peek(queue, place=Place.READY, limit=10_000).items
        headers = [split_frame(one.envelope.body)[0].get("headers", {}) for one in stored]
        return sorted(header["cron-time"][11:19] for header in headers)

    def counts(self) -> Counter[str]:
        """Return how often each tick waits."""
        return Counter(self.ticks())

    def drain(self) -> list[str]:
        """Do what waits, as a worker would, and return the times of its ticks."""
        done = self.ticks()
        broker = self.app.runtime.broker
        while deliveries := broker.receive(["default"], limit=1_000, wait=0, lease=30):
            broker.settle([Ack(delivery) for delivery in deliveries])
        return done


def crash() -> Any:
    """Be killed."""
    raise Crash


def between(first: str, last: str, step: int) -> list[str]:
    """Return times of a day from *first* to *last*, *step* seconds apart."""
    return [
        f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        for second in range(_seconds(first), _seconds(last) + 1, step)
    ]


def _seconds(text: str) -> int:
    hours, minutes, seconds = map(int, text.split(":"))
    return hours * 3600 + minutes * 60 + seconds
