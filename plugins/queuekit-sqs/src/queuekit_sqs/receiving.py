"""Taking messages: short looks while there is something, one long poll a queue while there is nothing.

A long poll outlives the call that began it: so an idle worker, which asks every few seconds, costs one request a queue
in 20 seconds. What it brings is handed to the next call, or given back if none comes soon.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs

from queuekit.errors import UnavailableError
from queuekit_sqs.crew import Crew
from queuekit_sqs.failures import code_of
from queuekit_sqs.limits import PART
from queuekit_sqs.queues import MISSING, Line, Queues
from queuekit_sqs.service import Service

__all__ = ["Arrival", "Receiver"]

_SYSTEM = ["ApproximateReceiveCount", "SentTimestamp", "ApproximateFirstReceiveTimestamp", "MessageGroupId"]
_SURE = 1.0
"""Seconds before an answer to a long poll at which the message may have been claimed, at the earliest."""
_KEEP = 5.0
"""Most seconds that a message waits here for somebody to ask for it."""
_MOST_POLLS = 256


@attrs.frozen(kw_only=True)
class Arrival:
    """A message that was claimed."""

    line: Line
    message: dict[str, Any]
    claimed: float
    """Monotonic seconds at which the lease began, or a little earlier."""
    lease: float
    at: float
    """UTC epoch seconds on the service's clock at which it came."""


@attrs.define
class _State:
    """What is known of a line."""

    polling: bool = False
    """Whether a long poll is under way."""
    dry: bool = False
    """Whether the last look found nothing, so that only waiting helps."""
    full: bool = False
    """Whether the last look found as many as it asked for."""


class Receiver:
    """Receives for one client.

    Args:
        service: Carries short requests.
        polls: Carries long ones.
        queues: Know the addresses.
        crew: Makes short requests at the same time.
        receivers: Most requests for one line at a time.
        poll: Seconds of a long poll.
        give_back: Called with what nobody has asked for.
    """

    def __init__(
        self,
        service: Service,
        polls: Service,
        queues: Queues,
        *,
        crew: Crew,
        receivers: int,
        poll: float,
        give_back: Callable[[list[Arrival]], None],
    ) -> None:
        self._service = service
        self._polls = polls
        self._queues = queues
        self._crew = crew
        self._receivers = receivers
        self._poll_seconds = max(1, int(poll))
        self._give_back = give_back
        self._reset()

    def _reset(self) -> None:
        self._threads = Crew(_MOST_POLLS, name="queuekit-poll")
        self._news = threading.Condition()
        self._arrived: list[Arrival] = []
        self._states: dict[str, _State] = {}
        self._problem: UnavailableError | None = None
        self._interrupts = 0
        self._heard = 0
        self._closed = False

    def after_fork(self) -> None:
        """Begin anew in a child process: polls and what they bring are the parent's."""
        self._reset()

    def take(self, lines: Sequence[Line], *, limit: int, wait: float, lease: float) -> list[Arrival]:
        """Return up to *limit* messages of *lines*, most urgent first, as soon as there are any."""
        deadline = time.monotonic() + wait
        self._closed = False
        heard = self._heard
        while True:
            found = self._at_hand(lines, limit)
            if not found:
                found = self._look(lines, limit=limit, lease=lease, waits=wait > 0)
            if found or time.monotonic() >= deadline:
                return found
            for line in lines:
                self._begin_poll(line, limit=limit, lease=lease)
            if not self._wait(lines, deadline, heard):
                return self._at_hand(lines, limit)

    def interrupt(self) -> None:
        """Make a :meth:`take` that waits return; if none does, the next one that would."""
        with self._news:
            self._interrupts += 1
            self._news.notify_all()

    def return_surplus(self, *, older_than: float = 0.0) -> None:
        """Give back what has waited here for that many seconds."""
        now = time.monotonic()
        with self._news:
            old = [one for one in self._arrived if now - one.claimed >= min(older_than, one.lease / 3)]
            self._arrived = [one for one in self._arrived if one not in old]
        if old:
            self._give_back(old)

    def close(self) -> None:
        """Give back what is here; what polls under way still bring is given back as well."""
        self._closed = True
        self.interrupt()
        self.return_surplus()
        self._threads.close()

    # -- parts

    def _state(self, line: Line) -> _State:
        return self._states.setdefault(line.name, _State())

    def _at_hand(self, lines: Sequence[Line], limit: int) -> list[Arrival]:
        """Take what polls have brought, most urgent first; raise what went wrong with one."""
        names = {line.name: order for order, line in enumerate(lines)}
        with self._news:
            ours = sorted(
                (one for one in self._arrived if one.line.name in names), key=lambda one: names[one.line.name]
            )[:limit]
            self._arrived = [one for one in self._arrived if all(one is not other for other in ours)]
            problem, self._problem = self._problem, None
        if problem is not None and not ours:
            raise problem
        return ours

    def _look(self, lines: Sequence[Line], *, limit: int, lease: float, waits: bool) -> list[Arrival]:
        """Ask *lines* in order, without waiting, until *limit* is reached; where only waiting helps that comes next."""
        found: list[Arrival] = []
        for line in lines:
            state = self._state(line)
            if waits and (state.dry or state.polling):
                continue
            room = limit - len(found)
            sizes = _sizes(room, self._receivers if state.full else 1)
            ask = partial(self._receive, self._service, line, lease=lease, wait=0)
            answers = self._crew.map([partial(ask, size=size) for size in sizes])
            taken = [one for answer in answers for one in answer]
            state.dry, state.full = not taken, len(taken) >= min(sum(sizes), PART)
            found += taken
            if len(found) >= limit:
                break
        return found

    def _begin_poll(self, line: Line, *, limit: int, lease: float) -> None:
        state = self._state(line)
        with self._news:
            if state.polling:
                return
            state.polling = True
        self._threads.start(partial(self._poll, line, state, size=min(PART, limit), lease=lease))

    def _poll(self, line: Line, state: _State, *, size: int, lease: float) -> None:
        """Wait for messages in a thread of its own."""
        found: list[Arrival] = []
        problem: UnavailableError | None = None
        try:
            found = self._receive(self._polls, line, lease=lease, wait=self._poll_seconds, size=size)
        except UnavailableError as error:
            problem = error
        except Exception as error:  # noqa: BLE001 - a client that was closed meanwhile raises whatever it likes
            problem = UnavailableError(f"sqs:ReceiveMessage on {line.name} failed: {type(error).__name__}")
        with self._news:
            state.polling = False
            state.dry, state.full = not found, len(found) >= size
            self._arrived += found
            self._problem = self._problem or problem
            self._news.notify_all()
            if found and not self._closed:
                patience = min(_KEEP, lease / 3)
                self._news.wait_for(lambda: self._closed or not self._still_here(found), patience)
            left = self._still_here(found)
            self._arrived = [one for one in self._arrived if all(one is not other for other in left)]
        if left:
            self._give_back(left)

    def _still_here(self, found: list[Arrival]) -> list[Arrival]:
        return [one for one in found if any(one is other for other in self._arrived)]

    def _wait(self, lines: Sequence[Line], deadline: float, heard: int) -> bool:
        """Wait until a poll ends; false if the time is over or somebody has interrupted."""
        states = [self._state(line) for line in lines]
        names = {line.name for line in lines}
        with self._news:
            while all(state.polling for state in states) and self._problem is None:
                if any(one.line.name in names for one in self._arrived):
                    return True
                if self._interrupts != heard:
                    self._heard = self._interrupts
                    return False
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._news.wait(left)
        return True

    def _receive(self, service: Service, line: Line, *, lease: float, wait: int, size: int) -> list[Arrival]:
        """Make one request for messages."""
        url = self._queues.url(line)
        asked = time.monotonic()
        try:
            reply = service.call(
                "receive_message",
                doing=f"sqs:ReceiveMessage on {line.name}",
                tries=2,
                QueueUrl=url,
                MaxNumberOfMessages=size,
                WaitTimeSeconds=wait,
                VisibilityTimeout=visibility(lease),
                MessageSystemAttributeNames=_SYSTEM,
                MessageAttributeNames=["All"],
            )
        except UnavailableError as error:
            if error.__cause__ is not None and code_of(error.__cause__) in MISSING:
                self._queues.forget(line)
            raise
        claimed = max(asked, time.monotonic() - min(_SURE, lease / 4))
        at = service.time.now()
        return [
            Arrival(line=line, message=message, claimed=claimed, lease=lease, at=at)
            for message in reply.get("Messages", [])
        ]


def visibility(seconds: float) -> int:
    """Return seconds as SQS counts them: whole ones, rounded up, at most 12 hours."""
    return min(43_200, max(0, int(-(-seconds // 1))))


def _sizes(room: int, calls: int) -> list[int]:
    """Return how many messages to ask for in each of at most *calls* requests."""
    return [min(PART, room - start) for start in range(0, room, PART)][:calls]
