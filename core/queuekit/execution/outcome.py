"""Outcomes of deliveries: pure decisions that turn a value or an error into a settlement, records and follow-ups."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from queuekit.backend import Join, Record
from queuekit.broker import Ack, CommitItem, Dead, Delivery, Release, Replace, Settlement
from queuekit.client.codec import Message
from queuekit.client.runtime import Runtime
from queuekit.client.sender import Sending
from queuekit.control import Cancel, Cancelled, Control, Reject, Retry, Snooze, TaskTimeout, matches
from queuekit.envelope import Envelope
from queuekit.errors import EncodeError, TooLargeError
from queuekit.events import Event, MessageDead, TaskFinished
from queuekit.execution.ending import Ended, died, ended_by, is_member
from queuekit.execution.run import Run
from queuekit.failure import Failure, describe
from queuekit.ids import derived_id, is_name
from queuekit.limiting.rates import RESERVED, cannot_slow, has_turn, slowed
from queuekit.logs.errors import log_error
from queuekit.states import State
from queuekit.tasks.enum_members import plain_result
from queuekit.tasks.resolve import resolve
from queuekit.tasks.task import Task, TaskOptions
from queuekit.values import define, quickly
from queuekit.wire.records import CANCEL_TTL, UNKNOWN_TASK, Cancellation, Info, cancel_mark, failed, moved, succeeded

__all__ = ["Decider", "Outcome", "Run"]

_logger = logging.getLogger("queuekit.task")
_LONGEST_ERROR = 2_000
_NEVER_RAN = frozenset({"crashed", "malformed", "unknown", "unsigned"})
"""Reasons of dead letters whose body did not fail."""
_HEADER_ROOM = 1_000
"""Bytes that the header of a record may need in addition to the result."""


@define(kw_only=True)
class Outcome:
    """All that must be written for one delivery, in one step if the engine can (QK12)."""

    delivery: Delivery
    settlement: Settlement | None
    records: tuple[Record, ...] = ()
    joins: tuple[Join, ...] = ()
    sends: tuple[Envelope, ...] = ()
    ended: Ended | None = None
    """How the message ended, for its workflow, if it has one."""
    lost_group: int | None = None
    """Number of the group of its workflow that the backend was found to have lost when the message arrived in it."""
    expanded: bool = False
    """Whether *ended* is part of records, joins and sends; see :mod:`queuekit.execution.workflow_advance`."""
    status: str = "done"
    """Counter of the statistics: done, failed, retried, dead, cancelled, expired, returned, held, skipped."""
    event: Event | None = None
    run: Run | None = None

    def item(self) -> CommitItem:
        """Return the part of the outcome that the engine commits."""
        return _item(settlement=self.settlement, records=self.records, joins=self.joins, sends=self.sends)


_item, _outcome = quickly(CommitItem), quickly(Outcome)


class Decider:
    """Turns the end of a run into an :class:`Outcome`. Keeps no state and does no I/O.

    Args:
        runtime: Serializer, config and random numbers.
        sending: Prepares follow-ups.
        tasks: Registered tasks by name; their options decide for messages that never run, too.
        worker: Name of the worker, for records.
    """

    def __init__(self, runtime: Runtime, sending: Sending, tasks: Mapping[str, Task[..., Any]], *, worker: str) -> None:
        self._serializer = runtime.serializer
        self._chance = runtime.random.random
        self._sending = sending
        self._tasks = tasks
        self._slowed_limits = set[str]()
        """Limits that tasks have slowed down."""
        self._worker = worker
        self._ttl = runtime.config.results_expire
        self._member_ttl = max(self._ttl, runtime.config.graphs_expire)
        kept = runtime.broker.limits.dead_retention
        self._dead_ttl = None if kept is None else max(self._member_ttl, kept)
        """Seconds to keep the record of a dead letter; ``None``: until the dead letter is replayed or dropped."""
        self._stores = runtime.backend is not None
        self._largest = runtime.backend.limits.max_record - _HEADER_ROOM if runtime.backend is not None else 0
        self._longest_delay = runtime.broker.limits.max_delay
        self._tells_time = runtime.tells_time
        self._announces, self._events = runtime.events.wants_runs(), runtime.events

    # -- a body that ran

    def returned(self, run: Run, value: Any) -> Outcome:
        """Decide for a body that returned *value*."""
        message, delivery = run.message, run.delivery
        settlement = None if run.early else Ack(delivery)
        event = self._finished(run, "SUCCESS") if self._announces or self._events.observed else None
        try:
            sends, records = self._follow(delivery, message, "success", value) if message.on_success else ((), ())
            if self.keeps_of(run):
                success = self._success(run, value)
                records = (success, *records) if records else (success,)
        except BaseException as error:  # noqa: BLE001 - a result that cannot be stored is a failure, whatever it raises
            return self.failed(run, _unusable_result(run, error))
        ended = None if message.link is None else Ended(link=message.link, value=value, headers=message.headers)
        return _outcome(
            delivery=delivery, settlement=settlement, records=records, sends=sends, ended=ended, event=event, run=run
        )

    def _success(self, run: Run, value: Any) -> Record:
        try:
            data = self._serializer.dumps(value)
        except EncodeError:
            data = b""
        if not data:
            data = self._serializer.dumps(plain_result(value, run.task, self._serializer.dumps))
        if len(data) > self._largest:
            raise TooLargeError(f"{len(data):,} bytes, the backend's limit is {self._largest:,}")
        offset = run.delivery.claimed_at - run.received
        return succeeded(
            run.delivery,
            task=run.message.task,
            value=data,
            content_type=self._serializer.content_type,
            ttl=self._ttl if run.message.link is None else self._ttl_of(run.message),
            worker=self._worker,
            times=((run.started or run.ended) + offset, run.ended + offset),
        )

    def raised(self, run: Run, error: BaseException) -> Outcome:
        """Decide for a body that raised *error*: control flow, a retry, or a failure."""
        if isinstance(error, Snooze):
            return self._put_off(run, error)
        if isinstance(error, Cancel):
            return self.cancelled(run.delivery, run.message, run=run, reason=str(error))
        if isinstance(error, Reject):
            return self.failed(run, error, state=State.DEAD, reason="rejected")
        return self._retried_or_failed(run, error)

    def _retried_or_failed(self, run: Run, error: BaseException) -> Outcome:
        """Decide for an error that allows a retry or not; a limit that it names slows down all workers either way."""
        retries = run.options.retries
        is_last = run.delivery.envelope.attempt >= retries or not _is_retried(error, run.task.defaults)
        limit = error.limit if isinstance(error, Retry) else None
        if is_last and limit is None:
            return self.failed(run, error)
        delay = self._delay(run, error)
        outcome = self.failed(run, error) if is_last else self._again(run, error, delay=delay, retries=retries)
        if limit is not None and self._stores:
            outcome.records += (self._slowed(run, limit, delay),)
        return outcome

    def _delay(self, run: Run, error: BaseException) -> float:
        """Return the seconds until the next attempt: those that *error* asks for, or those of the retry policy."""
        delay = error.after if isinstance(error, Retry) else None
        if delay is None:
            delay = run.options.retry.delay(run.delivery.envelope.attempt + 1, self._chance)
        return max(0.0, float(delay))

    def _slowed(self, run: Run, limit: str, delay: float) -> Record:
        """Return the record by which all workers leave the key of *run* alone for *delay* seconds."""
        if limit not in self._slowed_limits:
            self._slowed_limits.add(limit)
            declared = {each.named(task.name): each for task in self._tasks.values() for each in task.defaults.limits}
            if why := cannot_slow(limit, declared):
                _logger.warning("Retry(limit=...) in %s slows nothing down: %s", run.message.task, why)
        until = run.delivery.claimed_at + run.ended - run.received + delay
        return slowed(limit, run.limit_keys.get(limit, ""), until=until, seconds=delay)

    def stopped(self, run: Run, error: BaseException) -> Outcome | None:
        """Decide for a body that *error* ended because its message was cancelled; ``None`` if it was not cancelled."""
        if not isinstance(error, Cancelled) and (not run.did or isinstance(error, Control | TaskTimeout)):
            return None
        return self.cancelled(run.delivery, run.message, run=run)

    def _again(self, run: Run, error: BaseException, *, delay: float, retries: int) -> Outcome:
        """Schedule the next attempt: the same message with its attempt number increased."""
        delivery = run.delivery
        envelope = self._later(run, delay, attempt=delivery.envelope.attempt + 1)
        if envelope.not_before is None and self._tells_time:
            # Not later than the broker's own due time: it only records since when the attempt waits.
            due = delivery.claimed_at + run.ended - run.received + delay
            envelope = attrs.evolve(envelope, not_before=due)
        what = describe(error)
        return Outcome(
            delivery=delivery,
            settlement=None if run.early else Replace(delivery, envelope),
            sends=(envelope,) if run.early else (),
            records=self._record(run, State.RETRY, what, due=envelope.not_before),
            status="retried",
            event=self._finished(run, "RETRY", what, retry_in=delay, retries=retries),
            run=run,
        )

    def _later(self, run: Run, delay: float, *, attempt: int, hop: int = 0) -> Envelope:
        """Return the message to deliver after *delay*; beyond the broker's limit, it is re-delayed until it is due."""
        moment = None
        if self._longest_delay is not None and delay > self._longest_delay:
            if self._tells_time:
                moment = run.delivery.claimed_at + run.ended - run.received + delay
            delay = self._longest_delay
        return attrs.evolve(run.delivery.envelope, attempt=attempt, hop=hop, delay=delay, not_before=moment)

    def failed(
        self, run: Run, error: BaseException, *, state: State = State.FAILURE, reason: str = "failed"
    ) -> Outcome:
        """Decide for a message that failed for good."""
        delivery, message, what = run.delivery, run.message, describe(error)
        text = f"{what['type']}: {what['text']}"[:_LONGEST_ERROR]
        failure = Failure(
            id=message.id,
            task=message.task,
            error_type=what["type"],
            error=what["text"],
            traceback=what["traceback"],
            attempt=delivery.envelope.attempt,
        )
        sends, pending = self._follow_anyway(delivery, message, "error", lambda: failure)
        return Outcome(
            delivery=delivery,
            settlement=None if run.early else Dead(delivery, reason=reason, holder=self._worker, error=text),
            records=(*(self._record(run, state, what) if run.early else self._evidence(run, state, what)), *pending),
            sends=sends,
            ended=ended_by(message, failure),
            status="failed",
            event=self._finished(run, "FAILURE", what),
            run=run,
        )

    def _put_off(self, run: Run, snooze: Snooze) -> Outcome:
        delay = max(0.0, float(snooze.seconds))
        settlement: Settlement = Release(run.delivery, delay=delay)
        too_long = self._longest_delay is not None and delay > self._longest_delay
        if too_long or has_turn(run.delivery.envelope):  # its turn is over: it needs another one
            settlement = Replace(run.delivery, self._once_more(run, delay))
        return Outcome(
            delivery=run.delivery,
            settlement=None if run.early else settlement,
            sends=(self._once_more(run, delay),) if run.early else (),
            status="returned",
            event=self._finished(run, "PENDING"),
            run=run,
        )

    def _once_more(self, run: Run, delay: float) -> Envelope:
        """Return the same attempt of a message that was acknowledged early, as a new send that is not a duplicate."""
        envelope = run.delivery.envelope
        return self._later(run, delay, attempt=envelope.attempt, hop=envelope.hop % RESERVED + 1)

    def handed_back(self, run: Run) -> Outcome:
        """Decide for a message whose body has not started: release it, uncounted (QK10)."""
        return Outcome(
            delivery=run.delivery,
            settlement=None if run.early else Release(run.delivery),
            sends=(self._once_more(run, 0.0),) if run.early else (),
            status="returned",
            run=run,
        )

    def unfinished(self, run: Run, *, settles: bool = True) -> Outcome:
        """Decide for a message that did not finish here, but did not fail: release it, uncounted (QK10)."""
        settlement = Release(run.delivery) if settles else None
        return Outcome(delivery=run.delivery, settlement=settlement, status="returned", run=run)

    # -- a message that does not run

    def cancelled(
        self,
        delivery: Delivery,
        message: Message,
        *,
        run: Run | None = None,
        reason: str = "",
        wish: Cancellation | None = None,
    ) -> Outcome:
        """Decide for a message that was cancelled before or while it ran; *wish* is the request."""
        did = "dropped"
        if run is not None:
            wish = run.cancellation
            did = "dropped" if run.started is None else run.did or "asked"
        elif wish is not None and wish.did == "killed":  # its worker process did not live to record the outcome
            did = "killed"
        by = f"cancelled by {wish.by}" if wish is not None and wish.by else "cancelled"
        outcome = self._dropped(delivery, message, State.CANCELLED, reason or by, run)
        if wish is not None and self._stores:
            told = attrs.evolve(wish, did=did, worker=self._worker)
            outcome.records += (cancel_mark(message.id, ttl=CANCEL_TTL, wish=told, ended=True),)
        return outcome

    def expired(self, delivery: Delivery, message: Message, *, run: Run | None = None) -> Outcome:
        """Decide for a message that expired before it started; it leaves a record and an event (QK15)."""
        return self._dropped(delivery, message, State.EXPIRED, "not started before it expired", run)

    def not_known(self, delivery: Delivery, message: Message, text: str) -> Outcome:
        """Decide for a message that was to be dropped where its task is not known; it leaves a record (QK15)."""
        return self._dropped(delivery, message, State.EXPIRED, text, None, kind=UNKNOWN_TASK)

    def _dropped(
        self, delivery: Delivery, message: Message, state: State, text: str, run: Run | None, *, kind: str = ""
    ) -> Outcome:
        error = {"type": kind or state.value.capitalize(), "text": text, "traceback": ""}
        times = self._times(run) if run else {"worker": self._worker}
        ttl = self._ttl_of(message)
        record = failed(delivery, state=state, task=message.task, ttl=ttl, run=times, error=error)
        event = TaskFinished(
            id=message.id,
            task=message.task,
            queue=delivery.envelope.queue,
            attempt=delivery.envelope.attempt,
            state=state.value,
            duration=run.seconds if run else 0.0,
            error=text,
            worker=self._worker,
        )
        settlement = None if run is not None and run.early else Ack(delivery)
        records = (record,) if (self.keeps(message) if run is None else self.keeps_of(run)) else ()
        word = state.value.lower()
        ended = ended_by(message, Failure(id=message.id, task=message.task, error_type=error["type"], error=text))
        return Outcome(
            delivery=delivery, settlement=settlement, records=records, ended=ended, status=word, event=event, run=run
        )

    def dead(
        self, delivery: Delivery, *, reason: str, error: str, task: str = "", message: Message | None = None
    ) -> Outcome:
        """Decide for a message that can never run: malformed, crashed too often, unknown for too long (QK9)."""
        what = {"type": reason, "text": error, "traceback": ""}
        times: dict[str, Any] = {"worker": self._worker}
        record = failed(delivery, state=State.DEAD, task=task, ttl=self._dead_ttl, run=times, error=what)
        event = MessageDead(
            id=delivery.envelope.id,
            task=task,
            queue=delivery.envelope.queue,
            reason=reason,
            error=error,
            attempt=delivery.envelope.attempt,
            worker=self._worker,
        )
        return Outcome(
            delivery=delivery,
            settlement=Dead(delivery, reason=reason, holder=self._worker, error=error[:_LONGEST_ERROR]),
            # queuekit never sends an id that is not a valid name, and a backend may be unable to store one.
            records=(record,) if self._stores and is_name(delivery.envelope.id) else (),
            ended=died(delivery, message, reason=reason, error=error, task=task),
            status="dead",
            event=event,
        )

    def untrusted(self, delivery: Delivery, *, reason: str, error: str) -> Outcome:
        """Decide for a message that nobody with a key has signed: a dead letter, and no more.

        Its id and its position in a workflow may be those of another message, so neither gets a record.
        """
        event = MessageDead(id=delivery.id, task="", queue=delivery.queue, reason=reason, error=error)
        settlement = Dead(delivery, reason=reason, holder=self._worker, error=error[:_LONGEST_ERROR])
        return Outcome(delivery=delivery, settlement=settlement, status="dead", event=event)

    def done_before(self, delivery: Delivery, message: Message, info: Info, value: Callable[[], Any]) -> Outcome:
        """Decide for a message redelivered after its outcome was recorded: repeat only what may be missing."""
        settlement: Settlement = Ack(delivery)
        sends: tuple[Envelope, ...] = ()
        records: tuple[Record, ...] = ()
        ended = ended_by(message, _failure(info))
        if info.state is State.SUCCESS:
            if message.link is not None:
                ended = Ended(link=message.link, value=value(), headers=message.headers)
            sends, records = self._follow_anyway(delivery, message, "success", value)
        elif info.state in (State.FAILURE, State.DEAD):
            reason = "failed" if info.state is State.FAILURE else "rejected"
            reason = info.error_type if info.error_type in _NEVER_RAN else reason
            error = f"{info.error_type}: {info.error}"[:_LONGEST_ERROR]
            settlement = Dead(delivery, reason=reason, holder=info.worker or self._worker, error=error)
            if reason not in _NEVER_RAN:
                sends, records = self._follow_anyway(delivery, message, "error", lambda: _failure(info))
        return Outcome(
            delivery=delivery, settlement=settlement, records=records, sends=sends, ended=ended, status="skipped"
        )

    def moved(self, run: Run, state: State) -> Record:
        """Return the record of a run that has not ended: RECEIVED or STARTED."""
        return moved(run.delivery, state=state, task=run.message.task, ttl=self._ttl, run=self._times(run))

    # -- parts

    def _ttl_of(self, message: Message) -> float:
        return self._member_ttl if is_member(message) else self._ttl

    def keeps(self, message: Message) -> bool:
        """Return whether the outcome of *message* is recorded: a group waits for it, or its result is not ignored."""
        ignored = resolve(message, self._tasks.get(message.task)).ignore_result
        return self._stores and (not ignored or is_member(message))

    def keeps_of(self, run: Run) -> bool:
        """Return the same as :meth:`keeps` for the message of *run*, whose options are already resolved."""
        return self._stores and (
            not run.options.ignore_result or (run.message.link is not None and is_member(run.message))
        )

    def _times(self, run: Run) -> dict[str, Any]:
        """Return when, in the broker's time, and where the body ran."""
        offset = run.delivery.claimed_at - run.received
        times: dict[str, Any] = {"worker": self._worker}
        if run.started is not None:
            times["started"] = round(run.started + offset, 6)
            times["finished"] = round(run.ended + offset, 6)
        return times

    def _record(
        self, run: Run, state: State, what: Mapping[str, str], *, due: float | None = None
    ) -> tuple[Record, ...]:
        if not self.keeps_of(run):
            return ()
        times = self._times(run) if due is None else {**self._times(run), "due": round(due, 6)}
        return (
            failed(
                run.delivery,
                state=state,
                task=run.message.task,
                ttl=self._ttl_of(run.message),
                run=times,
                error=what,
            ),
        )

    def _evidence(self, run: Run, state: State, what: Mapping[str, str]) -> tuple[Record, ...]:
        """Return the record of a dead letter, even if its task ignores results."""
        if not self._stores:
            return ()
        times, task = self._times(run), run.message.task
        return (failed(run.delivery, state=state, task=task, ttl=self._dead_ttl, run=times, error=what),)

    def _follow_anyway(
        self, delivery: Delivery, message: Message, role: str, value: Callable[[], Any]
    ) -> tuple[tuple[Envelope, ...], tuple[Record, ...]]:
        """Return the follow-ups of an outcome that is final; log those that cannot be made, and send nothing."""
        try:
            message.open()
            links = message.on_success if role == "success" else message.on_error
            return self._follow(delivery, message, role, value()) if links else ((), ())
        except BaseException:  # noqa: BLE001 - also SystemExit, from user code that converts a value
            log_error(_logger, "cannot send the on_%s callbacks of %s %s", role, message.task, message.id)
            return (), ()

    def _follow(
        self, delivery: Delivery, message: Message, role: str, value: Any
    ) -> tuple[tuple[Envelope, ...], tuple[Record, ...]]:
        """Return the follow-ups with derived ids, so that a parent that runs again does not send them twice."""
        ready = []
        priority = delivery.envelope.priority
        links = message.on_success if role == "success" else message.on_error
        for index, link in enumerate(links):
            args = link.args if link.immutable else (*link.args, value)
            follower = attrs.evolve(link, id=link.id or derived_id(message.id, role, index), args=args)
            follower = self._sending.inherit(follower, headers=message.headers, priority=priority)
            ready.append(self._sending.prepare(follower, parent=message.id))
        return tuple(one.envelope for one in ready), tuple(one.record for one in ready if one.record)

    def _finished(
        self,
        run: Run,
        state: str,
        what: Mapping[str, str] | None = None,
        *,
        retry_in: float | None = None,
        retries: int = 0,
    ) -> TaskFinished:
        envelope = run.delivery.envelope
        return TaskFinished(
            id=envelope.id,
            task=run.message.task,
            queue=envelope.queue,
            attempt=envelope.attempt,
            state=state,
            duration=run.seconds,
            error=f"{what['type']}: {what['text']}" if what else "",
            traceback=what["traceback"] if what else "",
            retry_in=retry_in,
            retries=retries,
            worker=self._worker,
        )


def _is_retried(error: BaseException, options: TaskOptions) -> bool:
    """Return whether *error* is followed by another attempt, if one is left."""
    return isinstance(error, Retry) or (matches(error, options.retry_on) and not matches(error, options.dont_retry))


def _failure(info: Info) -> Failure:
    """Return the failure that a record describes."""
    what = {"error_type": info.error_type, "error": info.error, "traceback": info.traceback}
    return Failure(id=info.id, task=info.task, attempt=info.attempt, **what)


def _unusable_result(run: Run, error: BaseException) -> BaseException:
    """Return an error that names the task whose result cannot be stored."""
    if not isinstance(error, EncodeError | TooLargeError):
        return error
    return EncodeError(f"{run.message.task}() returned a value that cannot be stored: {error.what}")
