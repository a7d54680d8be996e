"""Apply settlements: delete acknowledged messages; send moved ones to their new queue, then delete them here.

SQS cannot change a message in place. So a retry, an uncounted release and a dead letter are a send and a delete: if a
process ends in between, the message exists twice for a while, but is never lost. A counted release is a change of
visibility, after which the service's own count shows the crash. In a FIFO queue, retried and released messages stay in
place, since SQS delivers no other message of the group while its first one is held: this keeps the order within the
group. Their state is stored separately (``turns``).
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from queuekit.broker import Ack, Dead, Delivery, Lease, Release, Replace, Settlement
from queuekit.envelope import Envelope, options_in, split_frame
from queuekit.errors import DecodeError, UnavailableError
from queuekit_sqs.batches import Batches, Job, JobFailure
from queuekit_sqs.capabilities import MAX_HOLD
from queuekit_sqs.claiming import visibility
from queuekit_sqs.fifo_attempts import Turn, Turns, read_turn
from queuekit_sqs.fifo_in_flight import InFlight
from queuekit_sqs.messages import Counts, write
from queuekit_sqs.queues import Queues, SqsQueue

__all__ = ["Held", "Settling", "Token", "read_token", "send_job"]

_REMEMBERED = 20_000
_LONGEST_DEDUPLICATION = 128
_LONGEST_DELAY = 900
_LEAST_DELAY = 0.001


@attrs.frozen
class Token:
    """The contents of a delivery's token: all that is needed to end or extend a lease, even in another process."""

    claimed: float
    """Monotonic time of this machine at which the lease began."""
    lease: float
    sqs_queue: str
    receipt: str
    turn: Turn | None = None
    """State of a message in a FIFO queue."""

    def __str__(self) -> str:
        sqs_queue = self.sqs_queue if self.turn is None else f"{self.sqs_queue}!{self.turn}"
        return f"{self.claimed:.3f} {self.lease:g} {sqs_queue} {self.receipt}"


def read_token(text: str) -> Token | None:
    """Return the contents of a token, or ``None`` if it is foreign."""
    parts = text.split(" ", 3)
    try:
        claimed, lease, sqs_queue, receipt = parts
        name, _, turn = sqs_queue.partition("!")
        return Token(float(claimed), float(lease), name, receipt, read_turn(turn))
    except ValueError:
        return None


@attrs.frozen(kw_only=True)
class Held:
    """A received message in flight."""

    sqs_queue: SqsQueue
    receipt: str
    envelope: Envelope
    counts: Counts
    """Claims, including this one, and crashes so far."""
    pointer: str | None = None
    unread: str = ""
    """Why the body in S3 can never be read; shown to operators."""
    problem: UnavailableError | None = None
    """Why the body in S3 cannot be read at the moment."""


def send_job(
    sqs_queue: SqsQueue,
    envelope: Envelope,
    *,
    delay: float = 0.0,
    counts: Counts | None = None,
    pointer: str | None = None,
    death_record: Mapping[str, str] | None = None,
) -> Job:
    """Return the job that sends *envelope* to *sqs_queue*, due in *delay* seconds.

    SQS delays by whole seconds, and not single messages of a FIFO queue; the receiver waits for the rest.
    """
    delay = min(delay, _LONGEST_DELAY)
    whole = 0 if sqs_queue.fifo else int(delay)
    rest = delay - whole > _LEAST_DELAY
    entry = write(envelope, counts=counts, pointer=pointer, death_record=death_record, wait=delay if rest else 0.0)
    fields: dict[str, Any] = {"MessageBody": entry.body, "MessageAttributes": entry.attributes}
    if sqs_queue.fifo:
        once = _once(envelope)
        # SQS hands out ten messages of a group at most, so a look would not show the dead letters behind them.
        fields |= {"MessageGroupId": once if sqs_queue.dead else _group(envelope), "MessageDeduplicationId": once}
    else:
        if whole:
            fields["DelaySeconds"] = whole
        if envelope.lane is not None:
            fields["MessageGroupId"] = _usable(envelope.lane.key or "queuekit")
    return Job(sqs_queue=sqs_queue, operation="send_message_batch", entry=fields, size=entry.size)


class Settling:
    """Manages the leases of one client.

    Args:
        batches: Runs requests.
        queues: The SQS queues.
        turns: Stores the state of messages in FIFO queues.
        in_flight: The messages of FIFO queues that this process holds.
        now: Returns the service's time.
        drop: Deletes bodies in S3.
    """

    def __init__(
        self,
        batches: Batches,
        queues: Queues,
        *,
        turns: Turns,
        in_flight: InFlight,
        now: Callable[[], float],
        drop: Callable[[Sequence[str]], None],
    ) -> None:
        self._batches = batches
        self._turns = turns
        self._in_flight = in_flight
        self._queues = queues
        self._now = now
        self._drop = drop
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._until: OrderedDict[str, float] = OrderedDict()
        """Monotonic time at which each lease that was extended here ends."""
        self._moved: OrderedDict[str, None] = OrderedDict()
        """Tokens of messages that were sent to their new queue but not deleted yet."""

    def after_fork(self) -> None:
        """Create a new lock; the parent keeps the messages that it holds."""
        self._lock = threading.Lock()
        self._in_flight.after_fork()

    def hold(self, token: str, held: Held) -> None:
        """Remember a delivered message."""
        with self._lock:
            _remember(self._held, token, held)

    # -- extending

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Extend *leases* and return those that are lost.

        The local clock decides, because SQS also accepts an extension after the lease has ended.
        """
        began = time.monotonic()
        jobs: list[Job] = []
        asked: list[tuple[Lease, float]] = []
        lost: list[Lease] = []
        for one in leases:
            token = read_token(one.token)
            left = 0.0 if token is None else token.claimed + MAX_HOLD - began
            if token is None or left < 1 or began > self._ends(one.token, token):
                lost.append(one)
                continue
            # Whole seconds, rounded down: SQS refuses an extension beyond its limit of twelve hours.
            granted = min(lease, float(int(left)))
            asked.append((one, granted))
            jobs.append(_visibility_job(token, one.queue, granted))
        failures = self._batches.run(jobs)
        for (one, granted), failure in zip(asked, failures, strict=True):
            if failure is None:
                with self._lock:
                    _remember(self._until, one.token, began + granted)
            elif failure.stale:
                lost.append(one)
        _raise(failures, but_stale=True)
        return lost

    def _ends(self, text: str, token: Token) -> float:
        with self._lock:
            return self._until.get(text, token.claimed + token.lease)

    def _is_over(self, text: str) -> bool:
        """Return whether a lease that this process extends is over; other processes check their own."""
        with self._lock:
            until = self._until.get(text)
        return until is not None and time.monotonic() > until

    # -- settling

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Apply *settlements* and return the deliveries whose lease is known to be lost."""
        lost, ends = self._sorted(settlements)
        self._turns.note([turn for each, token in ends if (turn := self._noted(each, token)) is not None])
        failures = self._send_on([each for each, token in ends if self._moves(each, token)])
        jobs = [(each, self._last_job(each, token)) for each, token in ends if each.delivery.token not in failures]
        results = self._batches.run([job for _, job in jobs])
        lost += self._ended([(each, result) for (each, _), result in zip(jobs, results, strict=True)])
        self._leave([(each, token) for each, token in ends if token.turn is not None], failures)
        _raise([*failures.values(), *results], but_stale=True)
        return lost

    def _noted(self, each: Settlement, token: Token) -> Turn | None:
        """Return the turn to store for the next claim of a message that stays in place."""
        if token.turn is None or self._moves(each, token):
            return None
        turn = attrs.evolve(token.turn, claims=max(token.turn.claims, self._in_flight.claims(each.delivery.token)))
        if isinstance(each, Replace):
            return turn.retried(each.envelope)
        return turn if isinstance(each, Release) and not each.counted else None

    def _leave(self, ends: Sequence[tuple[Settlement, Token]], failures: Mapping[str, JobFailure]) -> None:
        """Remove settled messages from those in flight, and delete the stored turns of messages that have left."""
        done = [(each, token) for each, token in ends if each.delivery.token not in failures]
        gone = [(each, token.turn) for each, token in done if isinstance(each, Ack) or self._moves(each, token)]
        again = [
            turn.message
            for each, turn in gone
            if turn is not None and max(turn.claims, self._in_flight.claims(each.delivery.token)) > 1
        ]
        self._in_flight.release([each.delivery.token for each, _ in done])
        self._turns.forget(again)

    def _sorted(self, settlements: Sequence[Settlement]) -> tuple[list[Delivery], list[tuple[Settlement, Token]]]:
        """Return the deliveries whose lease is over or foreign, and the settlements to apply, with their tokens."""
        lost: list[Delivery] = []
        ends: list[tuple[Settlement, Token]] = []
        for each in settlements:
            token = read_token(each.delivery.token)
            if token is None or self._is_over(each.delivery.token):
                lost.append(each.delivery)
            else:
                ends.append((each, token))
        return lost, ends

    def _moves(self, each: Settlement, token: Token) -> bool:
        """Return whether the message is sent anew, and does not stay under its receipt."""
        if isinstance(each, Dead):
            return True
        if token.sqs_queue.endswith(".fifo"):
            return isinstance(each, Replace) and each.envelope.queue != each.delivery.queue
        if isinstance(each, Replace):
            return True
        # A process without the message, such as a supervisor, cannot send it.
        return isinstance(each, Release) and not each.counted and each.delivery.token in self._held

    def _send_on(self, moving: Sequence[Settlement]) -> dict[str, JobFailure]:
        """Send the messages that move, and return, by token, why some were not sent."""
        with self._lock:
            todo = [each for each in moving if each.delivery.token not in self._moved]
        results = self._batches.run([self._move_job(each) for each in todo])
        failures: dict[str, JobFailure] = {}
        for each, failure in zip(todo, results, strict=True):
            token = each.delivery.token
            if failure is not None:
                failures[token] = failure
                continue
            with self._lock:
                _remember(self._moved, token, None)
        return failures

    def _move_job(self, each: Settlement) -> Job:
        """Return the job that sends the message to its new queue."""
        delivery = each.delivery
        held = self._held.get(delivery.token)
        if isinstance(each, Dead):
            return self._burial(each, held)
        if isinstance(each, Replace):
            envelope, counts = each.envelope, None
            delay = max(envelope.delay, (envelope.not_before or 0.0) - self._now())
        else:
            assert isinstance(each, Release)  # noqa: S101 - other settlements do not move the message
            envelope, counts = _as_known(delivery, held)
            delay = each.delay
            if delay > _LONGEST_DELAY:  # the rest is reached by re-delays
                envelope = attrs.evolve(envelope, not_before=self._now() + delay)
                delay = _LONGEST_DELAY
        same = held is not None and held.envelope.body == envelope.body
        pointer = held.pointer if held is not None and same else None
        sqs_queue = self._queues.of_priority(envelope.queue, envelope.priority)
        return send_job(sqs_queue, envelope, delay=delay, counts=counts, pointer=pointer)

    def _burial(self, each: Dead, held: Held | None) -> Job:
        envelope, counts = _as_known(each.delivery, held)
        death_record = {
            "reason": each.reason,
            "holder": each.holder[:200],
            "error": each.error[:2_000],
            "died": repr(self._now()),
        }
        pointer = held.pointer if held else None
        return send_job(
            self._queues.dead(envelope.queue), envelope, counts=counts, pointer=pointer, death_record=death_record
        )

    def _last_job(self, each: Settlement, token: Token) -> Job:
        """Return the job that ends the lease."""
        sqs_queue = SqsQueue(token.sqs_queue, each.delivery.queue)
        if isinstance(each, Ack) or self._moves(each, token):
            return Job(sqs_queue=sqs_queue, operation="delete_message_batch", entry={"ReceiptHandle": token.receipt})
        delay = getattr(each, "delay", 0.0)
        if isinstance(each, Replace):
            delay = max(each.envelope.delay, (each.envelope.not_before or 0.0) - self._now())
        left = token.claimed + MAX_HOLD - time.monotonic()
        return _visibility_job(token, each.delivery.queue, max(0.0, min(delay, left)))

    def _ended(self, results: Sequence[tuple[Settlement, JobFailure | None]]) -> list[Delivery]:
        """Forget settled messages, and return the deliveries whose lease had already ended."""
        lost: list[Delivery] = []
        done: list[str] = []
        for each, failure in results:
            token = each.delivery.token
            if failure is not None and not failure.stale:
                continue
            with self._lock:
                held = self._held.pop(token, None)
                self._until.pop(token, None)
                moved = self._moved.pop(token, True) is None
            if failure is not None and not moved:
                lost.append(each.delivery)
            elif held is not None and held.pointer and _leaves(each, held):
                done.append(held.pointer)
        self._drop(done)
        return lost


def _as_known(delivery: Delivery, held: Held | None) -> tuple[Envelope, Counts]:
    """Return the received message, or, if another process received it, the message that its delivery describes."""
    if held is not None:
        return held.envelope, held.counts
    return delivery.envelope, Counts(number=delivery.number, crashes=delivery.crashes)


def _leaves(each: Settlement, held: Held) -> bool:
    """Return whether the body in S3 is no longer needed."""
    return isinstance(each, Ack) or (isinstance(each, Replace) and each.envelope.body != held.envelope.body)


def _visibility_job(token: Token, queue: str, seconds: float) -> Job:
    entry = {"ReceiptHandle": token.receipt, "VisibilityTimeout": visibility(seconds)}
    return Job(sqs_queue=SqsQueue(token.sqs_queue, queue), operation="change_message_visibility_batch", entry=entry)


def _raise(failures: Sequence[JobFailure | None], *, but_stale: bool) -> None:
    """Raise the error of the first failure; the caller may repeat the call."""
    for failure in failures:
        if failure is None or (but_stale and failure.stale):
            continue
        raise failure.error or UnavailableError(f"SQS refuses a part of a batch: {failure.code} {failure.text}".strip())


def _remember(memory: OrderedDict[str, Any], key: str, value: Any) -> None:
    """Store *value*, and drop the oldest ones beyond a limit."""
    memory[key] = value
    while len(memory) > _REMEMBERED:
        memory.popitem(last=False)


def _header_group(body: bytes) -> str:
    """Return the header ``group`` of a message; empty if it has none, or cannot be read."""
    try:
        headers = split_frame(body)[0].get("headers")
    except DecodeError:
        return ""
    return str(headers.get("group") or "") if isinstance(headers, dict) else ""


def _group(envelope: Envelope) -> str:
    """Return the group within which order is kept: the option, the unique key, the header ``group``, or one for all."""
    asked = options_in(envelope.body).get("group")
    name = asked if isinstance(asked, str) and asked else ""
    if not name:
        name = _header_group(envelope.body) if envelope.unique is None else envelope.unique.key
    return _usable(name or "queuekit")


def _usable(name: str) -> str:
    """Return the name of a group as SQS takes it."""
    usable = len(name) <= _LONGEST_DEDUPLICATION and all("!" <= letter <= "~" for letter in name)
    return name if usable else hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _once(envelope: Envelope) -> str:
    """Return a deduplication id for this attempt only: SQS drops a second message with it within 5 minutes."""
    whole = f"{envelope.id}:{envelope.generation}:{envelope.attempt}:{envelope.hop}"
    return whole if len(whole) <= _LONGEST_DEDUPLICATION else hashlib.sha256(whole.encode()).hexdigest()
