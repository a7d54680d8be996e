"""Claim messages: by short polls while there are some, by one long poll per queue while there are none.

A long poll outlives the call that started it, so an idle worker, which asks every few seconds, costs one request per
queue in 20 seconds. Its messages go to the next call, or are released if none follows soon. While a queue is full, the
next short polls start before they are requested, as far as the last call had room for more messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import attrs

from queuekit.errors import UnavailableError
from queuekit.interrupts import Interrupts
from queuekit_sqs.capabilities import PART
from queuekit_sqs.failures import code_of
from queuekit_sqs.messages import earliness
from queuekit_sqs.prefetch_buffer import Arrival, PrefetchBuffer
from queuekit_sqs.queues import MISSING, Queues, SqsQueue
from queuekit_sqs.request_pool import RequestPool
from queuekit_sqs.service import Service

__all__ = ["Receiver", "visibility"]

_SYSTEM = ["ApproximateReceiveCount", "SentTimestamp", "MessageGroupId"]
_SURE = 1.0
"""Most seconds between a claim by a long poll and its reply."""
_MOST_POLLS = 256
_FEW_LANES = 2
"""Requests in a short poll up to which nothing is prefetched: most callers do not call again at once."""
_LAST_PREFETCH = 2.0
"""Most seconds to wait for current prefetches."""


@attrs.define
class _State:
    """The state of an SQS queue."""

    polling: bool = False
    """Whether a long poll is running."""
    prefetching: bool = False
    """Whether a prefetch is running."""
    empty: bool = False
    """Whether the last short poll found nothing, so that a long poll is needed."""
    lanes: int = 1
    """Requests in the next short poll; doubles if the last one got as many messages as it asked for."""

    @property
    def full(self) -> bool:
        """Whether the last short poll got as many messages as it asked for."""
        return self.lanes > 1

    def note(self, found: int, *, asked: int, most: int) -> None:
        """Record the result of a poll."""
        self.empty = not found
        self.lanes = min(most, 2 * self.lanes) if found >= asked else 1


@attrs.frozen(kw_only=True)
class _Ask:
    """The arguments of one call."""

    sqs_queues: Sequence[SqsQueue]
    """Most urgent first."""
    limit: int
    lease: float
    waits: bool


class Receiver:
    """Receives for one client.

    Args:
        service: Makes short requests.
        polls: Makes long polls.
        queues: The URLs of queues.
        pool: Runs short requests in parallel.
        receivers: Most requests for one SQS queue at a time.
        poll: Seconds of a long poll.
        give_back: Called with messages that no call asked for.
    """

    def __init__(
        self,
        service: Service,
        polls: Service,
        queues: Queues,
        *,
        pool: RequestPool,
        receivers: int,
        poll: float,
        give_back: Callable[[list[Arrival]], None],
    ) -> None:
        self._service = service
        self._polls = polls
        self._queues = queues
        self._pool = pool
        self._receivers = receivers
        self._poll_seconds = max(1, int(poll))
        self._give_back = give_back
        self._reset()

    def _reset(self) -> None:
        self._threads = RequestPool(_MOST_POLLS, name="queuekit-poll")
        self._buffer = PrefetchBuffer(self._give_back, start=self._threads.start)
        self._changed = self._buffer.changed
        self._states: dict[str, _State] = {}
        self._interrupts = Interrupts()

    def after_fork(self) -> None:
        """Reset the state in a child process: polls and their messages belong to the parent."""
        self._reset()

    def take(self, sqs_queues: Sequence[SqsQueue], *, limit: int, wait: float, lease: float) -> list[Arrival]:
        """Return up to *limit* messages of *sqs_queues*, most urgent first, as soon as there are any."""
        ask = _Ask(sqs_queues=sqs_queues, limit=limit, lease=lease, waits=wait > 0)
        deadline = time.monotonic() + wait
        self._buffer.open()
        handled = self._interrupts.handled
        while True:
            found = self._find(ask)
            if found:
                self._prefetch(ask, already=len(found))
            if found or time.monotonic() >= deadline:
                return found
            self._begin_polls(ask)
            if not self._wait(sqs_queues, deadline, handled):
                return self._buffered(ask)

    def keep(self, arrivals: Sequence[Arrival]) -> None:
        """Keep *arrivals* for the next call."""
        self._buffer.put(arrivals, None)

    def interrupt(self) -> None:
        """Make a waiting :meth:`take` return; if none waits, the next one that would wait."""
        self._interrupts.interrupt()
        with self._changed:
            self._changed.notify_all()

    def return_surplus(self) -> None:
        """Release messages that have waited too long for a call."""
        self._buffer.give_back()

    def close(self) -> None:
        """Release all buffered messages, and those that current polls still bring."""
        self.interrupt()
        self._await_prefetches(list(self._states.values()))
        self._buffer.close()
        self._threads.close()

    # -- parts

    def _state(self, sqs_queue: SqsQueue) -> _State:
        return self._states.setdefault(sqs_queue.name, _State())

    def _is_full(self, sqs_queues: Sequence[SqsQueue]) -> bool:
        return any(self._state(sqs_queue).full for sqs_queue in sqs_queues)

    def _await_prefetches(self, states: Sequence[_State]) -> None:
        """Wait for running prefetches: they are short, and a larger batch is worth it."""
        if any(state.prefetching for state in states):
            with self._changed:
                self._changed.wait_for(lambda: not any(state.prefetching for state in states), _LAST_PREFETCH)

    def _buffered(self, ask: _Ask) -> list[Arrival]:
        """Return the messages that polls and prefetches have brought."""
        self._await_prefetches([self._state(sqs_queue) for sqs_queue in ask.sqs_queues])
        return self._buffer.take(ask.sqs_queues, ask.limit)

    def _find(self, ask: _Ask) -> list[Arrival]:
        """Return buffered messages; if there are none, or few although the queue is full, poll for more."""
        found = self._buffered(ask)
        if not found or (len(found) < PART and self._is_full(ask.sqs_queues)):
            found += self._short_poll(ask, already=len(found))
        return found

    def _short_poll(self, ask: _Ask, *, already: int) -> list[Arrival]:
        """Poll each queue without waiting until the limit is reached; skip queues that need a long poll."""
        found: list[Arrival] = []
        for sqs_queue in () if self._buffer.is_crowded() else ask.sqs_queues:
            state = self._state(sqs_queue)
            room = ask.limit - already - len(found)
            if room <= 0:
                break
            if ask.waits and (state.empty or state.polling):
                continue
            taken, problem = self._receive_all(
                sqs_queue, state, lease=ask.lease, sizes=_sizes(room, state.lanes, sqs_queue)
            )
            found += self._due(taken)
            if problem is not None and not found and not already:
                raise problem
        return found

    def _due(self, taken: list[Arrival]) -> list[Arrival]:
        """Return those of *taken* that are due, and keep the others until they are."""
        early = [one for one in taken if one.left > 0]
        if not early:
            return taken
        self._buffer.put(early, None)
        waiting = set(early)
        return [one for one in taken if one not in waiting]

    def _prefetch(self, ask: _Ask, *, already: int) -> None:
        """Start the claims of the next call, as far as this one has room left."""
        room = ask.limit - already
        streaming = any(self._state(sqs_queue).lanes > _FEW_LANES for sqs_queue in ask.sqs_queues)
        for sqs_queue in ask.sqs_queues:
            state = self._state(sqs_queue)
            if state.empty and ask.waits:
                # Short polls skip it while less urgent queues have messages, so a long poll must find new ones.
                self._begin_poll(sqs_queue, ask)
                continue
            # Prefetch nothing from a FIFO queue: releasing a message there blocks its group.
            sizes = _sizes(room, state.lanes, sqs_queue) if streaming and not sqs_queue.fifo else []
            if sizes and not state.prefetching:
                state.prefetching = True
                self._threads.start(partial(self._prefetch_one, sqs_queue, state, sizes=sizes, lease=ask.lease))
            room -= sum(sizes)
            if state.full:
                return

    def _prefetch_one(self, sqs_queue: SqsQueue, state: _State, *, sizes: list[int], lease: float) -> None:
        """Claim messages, in its own thread."""
        found, problem = self._receive_all(sqs_queue, state, lease=lease, sizes=sizes)
        self._buffer.put(found, None if found else problem)
        with self._changed:
            state.prefetching = False
            self._changed.notify_all()

    def _begin_polls(self, ask: _Ask) -> None:
        """Start a long poll of each queue, unless many messages are about to be due."""
        if not self._buffer.is_crowded():
            for sqs_queue in ask.sqs_queues:
                self._begin_poll(sqs_queue, ask)

    def _begin_poll(self, sqs_queue: SqsQueue, ask: _Ask) -> None:
        state = self._state(sqs_queue)
        with self._changed:
            if state.polling:
                return
            state.polling = True
        self._threads.start(
            partial(self._poll, sqs_queue, state, size=min(_part(sqs_queue), ask.limit), lease=ask.lease)
        )

    def _poll(self, sqs_queue: SqsQueue, state: _State, *, size: int, lease: float) -> None:
        """Do a long poll, in its own thread."""
        found, problem = self._receive_safely(self._polls, sqs_queue, lease=lease, wait=self._poll_seconds, size=size)
        state.note(len(found), asked=size, most=self._receivers)
        self._buffer.put(found, problem)
        with self._changed:
            state.polling = False
            self._changed.notify_all()

    def _wait(self, sqs_queues: Sequence[SqsQueue], deadline: float, handled: int) -> bool:
        """Wait until a poll ends; return false if the time is over, or after an interrupt."""
        states = [self._state(sqs_queue) for sqs_queue in sqs_queues]
        with self._changed:
            while all(state.polling for state in states) or self._buffer.is_crowded():
                if self._buffer.has(sqs_queues):
                    return True
                if self._interrupts.interrupted(handled):
                    return False
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, self._buffer.next_due(sqs_queues) - time.monotonic()))
        return True

    # -- requests

    def _receive_all(
        self, sqs_queue: SqsQueue, state: _State, *, lease: float, sizes: Sequence[int]
    ) -> tuple[list[Arrival], UnavailableError | None]:
        """Make parallel requests without waiting; keep the messages of successful ones if another fails."""
        ask = partial(self._receive_safely, self._service, sqs_queue, lease=lease, wait=0)
        answers = self._pool.map([partial(ask, size=size) for size in sizes])
        found = [one for arrivals, _ in answers for one in arrivals]
        state.note(len(found), asked=sum(sizes), most=self._receivers)
        return found, next((problem for _, problem in answers if problem is not None), None)

    def _receive_safely(
        self, service: Service, sqs_queue: SqsQueue, *, lease: float, wait: int, size: int
    ) -> tuple[list[Arrival], UnavailableError | None]:
        """Make a request; return its messages, or the error."""
        try:
            return self._receive(service, sqs_queue, lease=lease, wait=wait, size=size), None
        except UnavailableError as error:
            return [], error
        except Exception as error:  # noqa: BLE001 - a client that is closed meanwhile may raise anything
            return [], UnavailableError(f"sqs:ReceiveMessage on {sqs_queue.name} failed: {type(error).__name__}")

    def _receive(self, service: Service, sqs_queue: SqsQueue, *, lease: float, wait: int, size: int) -> list[Arrival]:
        """Make one request for messages."""
        url = self._queues.url(sqs_queue)
        asked = time.monotonic()
        try:
            reply = service.call(
                "receive_message",
                doing=f"sqs:ReceiveMessage on {sqs_queue.name}",
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
                self._queues.forget(sqs_queue)
            raise
        now = time.monotonic()
        at = service.time.now()
        come = partial(
            Arrival, sqs_queue=sqs_queue, claimed=max(asked, now - min(_SURE, lease / 4)), lease=lease, at=at
        )
        early = [(message, earliness(message, at)) for message in reply.get("Messages", [])]
        return [come(message=message, due_at=now + seconds, early=seconds) for message, seconds in early]


def visibility(seconds: float) -> int:
    """Return a visibility timeout for SQS: whole seconds, rounded up, at most 12 hours."""
    return min(43_200, max(0, int(-(-seconds // 1))))


def _part(sqs_queue: SqsQueue) -> int:
    """Return how many messages to request at once.

    One from a FIFO queue: several may be of one group, but only the first of a group may be in flight.
    """
    return 1 if sqs_queue.fifo else PART


def _sizes(room: int, calls: int, sqs_queue: SqsQueue) -> list[int]:
    """Return how many messages to request in each of at most *calls* requests."""
    part = _part(sqs_queue)
    return [min(part, room - start) for start in range(0, room, part)][:calls]
