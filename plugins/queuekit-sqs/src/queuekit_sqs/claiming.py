"""Taking messages: short looks while there is something, one long poll a queue while there is nothing.

A long poll outlives the call that began it: so an idle worker, which asks every few seconds, costs one request a queue
in 20 seconds. What it brings is handed to the next call, or given back if none comes soon. While a queue is full the
next looks are under way before they are asked for, as far as the last call had room for more than it got.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import attrs

from queuekit.errors import UnavailableError
from queuekit_sqs.capabilities import PART
from queuekit_sqs.failures import code_of
from queuekit_sqs.messages import earliness
from queuekit_sqs.prefetch_buffer import Arrival, Shelf
from queuekit_sqs.queues import MISSING, Line, Queues
from queuekit_sqs.request_pool import Crew
from queuekit_sqs.service import Service

__all__ = ["Receiver", "visibility"]

_SYSTEM = ["ApproximateReceiveCount", "SentTimestamp", "MessageGroupId"]
_SURE = 1.0
"""Seconds before an answer to a long poll at which the message may have been claimed, at the earliest."""
_MOST_POLLS = 256
_FEW_LANES = 2
"""Requests in a look up to which nothing is done ahead: most who look do not come back at once."""
_LAST_LOOK = 2.0
"""Most seconds to wait for looks that were begun ahead."""


@attrs.define
class _State:
    """What is known of a line."""

    polling: bool = False
    """Whether a long poll is under way."""
    looking: bool = False
    """Whether a look is under way that was begun ahead."""
    dry: bool = False
    """Whether the last look found nothing, so that only waiting helps."""
    lanes: int = 1
    """Requests to make in the next look: twice as many as in the last one if that got all that it asked for."""

    @property
    def full(self) -> bool:
        """Whether the last look got all that it asked for."""
        return self.lanes > 1

    def note(self, found: int, *, asked: int, most: int) -> None:
        """Take note of what a look has found."""
        self.dry = not found
        self.lanes = min(most, 2 * self.lanes) if found >= asked else 1


@attrs.frozen(kw_only=True)
class _Ask:
    """What a call asks for."""

    lines: Sequence[Line]
    """Most urgent first."""
    limit: int
    lease: float
    waits: bool


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
        self._shelf = Shelf(self._give_back, start=self._threads.start)
        self._news = self._shelf.news
        self._states: dict[str, _State] = {}
        self._interrupts = 0
        self._heard = 0

    def after_fork(self) -> None:
        """Begin anew in a child process: polls and what they bring are the parent's."""
        self._reset()

    def take(self, lines: Sequence[Line], *, limit: int, wait: float, lease: float) -> list[Arrival]:
        """Return up to *limit* messages of *lines*, most urgent first, as soon as there are any."""
        ask = _Ask(lines=lines, limit=limit, lease=lease, waits=wait > 0)
        deadline = time.monotonic() + wait
        self._shelf.open()
        heard = self._heard
        while True:
            found = self._find(ask)
            if found:
                self._look_ahead(ask, already=len(found))
            if found or time.monotonic() >= deadline:
                return found
            self._begin_polls(ask)
            if not self._wait(lines, deadline, heard):
                return self._at_hand(ask)

    def keep(self, arrivals: Sequence[Arrival]) -> None:
        """Keep *arrivals* for the next call."""
        self._shelf.put(arrivals, None)

    def interrupt(self) -> None:
        """Make a :meth:`take` that waits return; if none does, the next one that would."""
        with self._news:
            self._interrupts += 1
            self._news.notify_all()

    def return_surplus(self) -> None:
        """Give back what has waited for somebody to ask for it."""
        self._shelf.give_back()

    def close(self) -> None:
        """Give back what is here; what polls under way still bring is given back as well."""
        self.interrupt()
        self._await_looks(list(self._states.values()))
        self._shelf.close()
        self._threads.close()

    # -- parts

    def _state(self, line: Line) -> _State:
        return self._states.setdefault(line.name, _State())

    def _is_full(self, lines: Sequence[Line]) -> bool:
        return any(self._state(line).full for line in lines)

    def _await_looks(self, states: Sequence[_State]) -> None:
        """Wait for looks that were begun ahead: they are short, and many messages at once are worth it."""
        if any(state.looking for state in states):
            with self._news:
                self._news.wait_for(lambda: not any(state.looking for state in states), _LAST_LOOK)

    def _at_hand(self, ask: _Ask) -> list[Arrival]:
        """Take what polls and looks have brought."""
        self._await_looks([self._state(line) for line in ask.lines])
        return self._shelf.take(ask.lines, ask.limit)

    def _find(self, ask: _Ask) -> list[Arrival]:
        """Return what is at hand; if that is nothing, or little of much, look for more."""
        found = self._at_hand(ask)
        if not found or (len(found) < PART and self._is_full(ask.lines)):
            found += self._look(ask, already=len(found))
        return found

    def _look(self, ask: _Ask, *, already: int) -> list[Arrival]:
        """Ask lines in order, without waiting, until the limit is reached; where only waiting helps that comes next."""
        found: list[Arrival] = []
        for line in () if self._shelf.laden() else ask.lines:
            state = self._state(line)
            room = ask.limit - already - len(found)
            if room <= 0:
                break
            if ask.waits and (state.dry or state.polling):
                continue
            taken, problem = self._receive_all(line, state, lease=ask.lease, sizes=_sizes(room, state.lanes, line))
            found += self._due(taken)
            if problem is not None and not found and not already:
                raise problem
        return found

    def _due(self, taken: list[Arrival]) -> list[Arrival]:
        """Return what is due of *taken*, and keep the rest until it is."""
        early = [one for one in taken if one.left > 0]
        if not early:
            return taken
        self._shelf.put(early, None)
        waiting = set(early)
        return [one for one in taken if one not in waiting]

    def _look_ahead(self, ask: _Ask, *, already: int) -> None:
        """Begin what the next call is going to ask for, as far as this one has room left."""
        room = ask.limit - already
        streaming = any(self._state(line).lanes > _FEW_LANES for line in ask.lines)
        for line in ask.lines:
            state = self._state(line)
            if state.dry and ask.waits:
                # Nobody looks there for as long as less urgent lines have something, so a poll has to.
                self._begin_poll(line, ask)
                continue
            # What is given back to a FIFO queue keeps its group waiting, so nothing is claimed there on a guess.
            sizes = _sizes(room, state.lanes, line) if streaming and not line.fifo else []
            if sizes and not state.looking:
                state.looking = True
                self._threads.start(partial(self._look_alone, line, state, sizes=sizes, lease=ask.lease))
            room -= sum(sizes)
            if state.full:
                return

    def _look_alone(self, line: Line, state: _State, *, sizes: list[int], lease: float) -> None:
        """Look in a thread of its own."""
        found, problem = self._receive_all(line, state, lease=lease, sizes=sizes)
        self._shelf.put(found, None if found else problem)
        with self._news:
            state.looking = False
            self._news.notify_all()

    def _begin_polls(self, ask: _Ask) -> None:
        """Begin to wait at each line, unless there are messages that are about to be due."""
        if not self._shelf.laden():
            for line in ask.lines:
                self._begin_poll(line, ask)

    def _begin_poll(self, line: Line, ask: _Ask) -> None:
        state = self._state(line)
        with self._news:
            if state.polling:
                return
            state.polling = True
        self._threads.start(partial(self._poll, line, state, size=min(_part(line), ask.limit), lease=ask.lease))

    def _poll(self, line: Line, state: _State, *, size: int, lease: float) -> None:
        """Wait for messages in a thread of its own."""
        found, problem = self._receive_safely(self._polls, line, lease=lease, wait=self._poll_seconds, size=size)
        state.note(len(found), asked=size, most=self._receivers)
        self._shelf.put(found, problem)
        with self._news:
            state.polling = False
            self._news.notify_all()

    def _wait(self, lines: Sequence[Line], deadline: float, heard: int) -> bool:
        """Wait until a poll ends; false if the time is over or somebody has interrupted."""
        states = [self._state(line) for line in lines]
        with self._news:
            while all(state.polling for state in states) or self._shelf.laden():
                if self._shelf.has(lines):
                    return True
                if self._interrupts != heard:
                    self._heard = self._interrupts
                    return False
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._news.wait(min(left, self._shelf.next_due(lines) - time.monotonic()))
        return True

    # -- requests

    def _receive_all(
        self, line: Line, state: _State, *, lease: float, sizes: Sequence[int]
    ) -> tuple[list[Arrival], UnavailableError | None]:
        """Make requests at the same time, without waiting; one that fails does not lose what others have claimed."""
        ask = partial(self._receive_safely, self._service, line, lease=lease, wait=0)
        answers = self._crew.map([partial(ask, size=size) for size in sizes])
        found = [one for arrivals, _ in answers for one in arrivals]
        state.note(len(found), asked=sum(sizes), most=self._receivers)
        return found, next((problem for _, problem in answers if problem is not None), None)

    def _receive_safely(
        self, service: Service, line: Line, *, lease: float, wait: int, size: int
    ) -> tuple[list[Arrival], UnavailableError | None]:
        """Make a request and return what went wrong."""
        try:
            return self._receive(service, line, lease=lease, wait=wait, size=size), None
        except UnavailableError as error:
            return [], error
        except Exception as error:  # noqa: BLE001 - a client that was closed meanwhile raises whatever it likes
            return [], UnavailableError(f"sqs:ReceiveMessage on {line.name} failed: {type(error).__name__}")

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
        now = time.monotonic()
        at = service.time.now()
        come = partial(Arrival, line=line, claimed=max(asked, now - min(_SURE, lease / 4)), lease=lease, at=at)
        early = [(message, earliness(message, at)) for message in reply.get("Messages", [])]
        return [come(message=message, ripe=now + seconds, early=seconds) for message, seconds in early]


def visibility(seconds: float) -> int:
    """Return seconds as SQS counts them: whole ones, rounded up, at most 12 hours."""
    return min(43_200, max(0, int(-(-seconds // 1))))


def _part(line: Line) -> int:
    """Return for how many messages to ask at once.

    One of a FIFO queue: several may be of one group, and only the first of a group may be in hand.
    """
    return 1 if line.fifo else PART


def _sizes(room: int, calls: int, line: Line) -> list[int]:
    """Return how many messages to ask for in each of at most *calls* requests."""
    part = _part(line)
    return [min(part, room - start) for start in range(0, room, part)][:calls]
