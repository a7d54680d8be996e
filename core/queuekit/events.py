"""Typed events. Code emits them; logging, metrics and plugins subscribe.

Only :class:`LogSubscriber` writes log lines, on loggers below ``queuekit``. It sets neither levels nor handlers.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection
from functools import cache
from textwrap import indent
from typing import Any, NamedTuple

import attrs

from queuekit.errors import OptionError, without_stop
from queuekit.logs.errors import log_error
from queuekit.logs.plaintext import clean
from queuekit.values import frozen

__all__ = [
    "BodyCrashed",
    "ChildRecycled",
    "DeadLettersDropped",
    "EngineBack",
    "EngineDown",
    "Event",
    "Events",
    "GateChanged",
    "LeasesLost",
    "LimitedMessage",
    "LogSubscriber",
    "LoopBlocked",
    "MessageDead",
    "MessageFacts",
    "MessagesClaimed",
    "MessagesLimited",
    "MessagesSent",
    "MessagesSettled",
    "OperatorActed",
    "PausesChanged",
    "QueuesUnserved",
    "SchedulerLeaderElected",
    "SchedulerLeaderLost",
    "SettledMessage",
    "TaskFinished",
    "TaskStarted",
    "TaskUnknown",
    "TickFailed",
    "TickSent",
    "TickSkipped",
    "TicksMissed",
    "WorkerCrashed",
    "WorkerGaveUp",
    "WorkerReady",
    "WorkerRecycled",
    "WorkerStarted",
    "WorkerStopped",
    "WorkerStopping",
]


@frozen(kw_only=True)
class Event:
    """Base of all events."""


class MessageFacts(NamedTuple):
    """One message of an event about many.

    Attributes:
        id: Id of the message, or of the one that holds its unique key.
        task: Name of the task; empty if the message could not be read.
        queue: Queue of the message.
        attempt: Attempts that ended in a retry before this one.
        duplicate: Whether another message holds its unique key, so that a send stored nothing.
    """

    id: str
    task: str
    queue: str
    attempt: int = 0
    duplicate: bool = False


class LimitedMessage(NamedTuple):
    """One message of :class:`MessagesLimited`.

    Attributes:
        id: Id of the message.
        task: Name of the task.
        queue: Queue of the message.
        attempt: Attempts that ended in a retry before this one.
        limit: Name of the limit that it waits for; never its key.
        until: UTC epoch seconds of its turn by a rate; ``None`` if it waits in line for a slot.
    """

    id: str
    task: str
    queue: str
    attempt: int
    limit: str
    until: float | None


class SettledMessage(NamedTuple):
    """One delivery of :class:`MessagesSettled`.

    Attributes:
        id: Id of the message.
        task: Empty if the message could not be read.
        queue: Queue of the message.
        attempt: Attempts that ended in a retry before this one.
        outcome: ``done``, ``failed``, ``retried``, ``dead`` (it never ran), ``cancelled``, ``expired``, ``crashed``
            (its process died), ``returned``, ``held``, ``skipped`` or ``lost``: the counters that a stopping worker
            prints.
        reason: Why it became a dead letter, as ``queuekit dlq ls`` shows it; empty if it did not.
        duration: Seconds that the body ran; ``None`` if it did not start.
        waited: Seconds from when the attempt was due until the body started; ``None`` if unknown, as for
            :attr:`TaskStarted.waited`.
    """

    id: str
    task: str
    queue: str
    attempt: int
    outcome: str
    reason: str
    duration: float | None
    waited: float | None


@frozen(kw_only=True)
class MessagesSent(Event):
    """A send has stored messages in one round trip; one event for each batch.

    Attributes:
        messages: The messages, in the order of the batch.
    """

    messages: tuple[MessageFacts, ...]


@frozen(kw_only=True)
class MessagesClaimed(Event):
    """A worker has taken messages from the broker and will run them; one event for each batch.

    Attributes:
        worker: Name of the worker process.
        messages: The messages, in the order of the batch.
    """

    worker: str
    messages: tuple[MessageFacts, ...]


@frozen(kw_only=True)
class MessagesLimited(Event):
    """Limits let messages wait that a worker has taken; one event for each batch.

    Attributes:
        worker: Name of the worker process.
        messages: The messages that wait, in the order of the batch.
    """

    worker: str
    messages: tuple[LimitedMessage, ...]


@frozen(kw_only=True)
class MessagesSettled(Event):
    """A worker has stored the outcomes of deliveries; one event for each batch.

    Attributes:
        worker: Name of the worker process.
        messages: The deliveries, in the order of the batch.
        seconds: Seconds that the round trip took; 0 if there was none.
    """

    worker: str
    messages: tuple[SettledMessage, ...]
    seconds: float = 0.0


@frozen(kw_only=True)
class TaskStarted(Event):
    """A task's body is about to run.

    Attributes:
        id: Id of the message.
        task: Name of the task.
        queue: Queue of the message.
        attempt: Attempts that ended in a retry before this one.
        waited: Seconds since the message, or this attempt, was due; ``None`` for a replay, and for a retry if neither
            the broker nor the backend has a clock.
        worker: Name of the worker.
    """

    id: str
    task: str
    queue: str
    attempt: int
    waited: float | None
    worker: str = ""


@frozen(kw_only=True)
class TaskFinished(Event):
    """A run ended; ``state`` is its outcome.

    Attributes:
        id: Id of the message.
        task: Name of the task.
        queue: Queue of the message.
        attempt: Attempts that ended in a retry before this one.
        state: SUCCESS, FAILURE, RETRY, CANCELLED, EXPIRED, or PENDING for a message that was snoozed.
        duration: Seconds that the body ran.
        error: Error type and text.
        traceback: Traceback of the error; empty without an error.
        retry_in: Seconds until the next attempt.
        retries: Total retries that the task may use.
        worker: Name of the worker process.
    """

    id: str
    task: str
    queue: str
    attempt: int
    state: str
    duration: float
    error: str = ""
    traceback: str = ""
    retry_in: float | None = None
    retries: int = 0
    worker: str = ""


@frozen(kw_only=True)
class MessageDead(Event):
    """A message was dead-lettered. After a run, it follows :class:`TaskFinished`, and the log leaves it out.

    Attributes:
        id: Id of the message.
        task: Name of the task; empty if the message cannot be read.
        queue: Queue of the message.
        reason: Why it is dead, as in :attr:`queuekit.broker.Dead.reason`.
        error: Error type and text; empty if there is none.
        attempt: Attempts that ended in a retry before this one.
        worker: Name of the worker process.
    """

    id: str
    task: str
    queue: str
    reason: str
    error: str = ""
    attempt: int = 0
    worker: str = ""


@frozen(kw_only=True)
class TaskUnknown(Event):
    """This worker does not know the task of a message, or cannot read the message; it releases it for other workers.

    Attributes:
        id: Id of the message.
        task: Name of the task.
        again_in: Seconds until it is delivered again.
        why: Why the message cannot be read; empty if the task is unknown.
        queue: Queue of the message.
        attempt: Attempts that ended in a retry before this one.
        worker: Name of the worker process.
        dropped: Whether the message was dropped instead, as its ``on_unknown`` says.
    """

    id: str
    task: str
    again_in: float
    why: str = ""
    queue: str = ""
    attempt: int = 0
    worker: str = ""
    dropped: bool = False


@frozen(kw_only=True)
class OperatorActed(Event):
    """An operator changed something, by a command or through :class:`queuekit.operations.admin.Admin`.

    Attributes:
        what: The command, e.g. ``dlq retry``.
        by: Who did it.
        at: UTC epoch seconds.
        on: What it was done to: a queue, a task, a worker or filters.
        count: Number of messages that changed.
        ids: Ids of the first of them.
        why: The reason that the operator gave.
    """

    what: str
    by: str
    at: float
    on: str = ""
    count: int = 0
    ids: tuple[str, ...] = ()
    why: str = ""


@frozen(kw_only=True)
class BodyCrashed(Event):
    """The process of one body died; its message is delivered again, and counted.

    Attributes:
        worker: Name of the worker.
        id: Id of the message.
        task: Name of the task.
        how: Exit code or signal of the process, in words.
        again_in: Seconds until the message is delivered again.
    """

    worker: str
    id: str
    task: str
    how: str
    again_in: float


@frozen(kw_only=True)
class LeasesLost(Event):
    """Leases ended before their messages were settled: outcomes were refused, or running tasks were notified.

    Attributes:
        count: Number of leases.
        ids: Ids of their messages.
        worker: Name of the worker process.
    """

    count: int
    ids: tuple[str, ...]
    worker: str = ""


@frozen(kw_only=True)
class EngineDown(Event):
    """A broker or backend did not answer; the call will be retried.

    Attributes:
        doing: What it cannot do, in words, e.g. ``hand messages back``.
        error: Error type and text.
        retry_in: Seconds until the call is repeated.
    """

    doing: str
    error: str
    retry_in: float


@frozen(kw_only=True)
class EngineBack(Event):
    """A broker or backend answers again.

    Attributes:
        doing: What it can do again, in words.
        after: Seconds that it did not answer.
    """

    doing: str
    after: float


@frozen(kw_only=True)
class LoopBlocked(Event):
    """A coroutine blocks a worker's event loop: it computes, or makes a blocking call.

    Attributes:
        worker: Name of the worker process.
        seconds: Seconds for which the loop has been blocked.
        id: Id of the message whose body blocks the loop or started what does; empty if unknown.
        task: Name of its task; empty if unknown.
        waiting: Number of other runs that wait.
        stack: Stack of the blocking code.
    """

    worker: str
    seconds: float
    id: str
    task: str
    waiting: int
    stack: str


@frozen(kw_only=True)
class SchedulerLeaderElected(Event):
    """A worker or scheduler has become the scheduler leader: it sends the ticks of all schedules.

    Attributes:
        worker: Name of the worker or scheduler.
    """

    worker: str


@frozen(kw_only=True)
class SchedulerLeaderLost(Event):
    """The scheduler leader lost its lease, because it stalled or could not reach the backend.

    Attributes:
        worker: Name of the worker or scheduler.
    """

    worker: str


@frozen(kw_only=True)
class TickSent(Event):
    """A schedule has sent its call.

    Attributes:
        schedule: Name of the schedule.
        at: The tick: UTC epoch seconds.
        id: Id of the message or workflow that was sent.
        late: Seconds since the tick.
    """

    schedule: str
    at: float
    id: str
    late: float


@frozen(kw_only=True)
class TicksMissed(Event):
    """No scheduler sent some ticks in time, and the misfire policy skips them for good.

    Attributes:
        schedule: Name of the schedule.
        count: Number of skipped ticks; 10,000 means at least that many.
        first: The first missed tick: UTC epoch seconds.
        last: The last missed tick; under ``once`` it was sent.
    """

    schedule: str
    count: int
    first: float
    last: float


@frozen(kw_only=True)
class TickSkipped(Event):
    """A tick was skipped, because the call of an earlier tick has not ended.

    Attributes:
        schedule: Name of the schedule.
        at: The tick: UTC epoch seconds.
        holder: Id of the call that has not ended.
    """

    schedule: str
    at: float
    holder: str


@frozen(kw_only=True)
class TickFailed(Event):
    """The call of a schedule cannot be sent, or its ticks cannot be computed here.

    Attributes:
        schedule: Name of the schedule.
        at: The tick: UTC epoch seconds.
        error: Error type and text.
    """

    schedule: str
    at: float
    error: str


@frozen(kw_only=True)
class WorkerStarted(Event):
    """A worker, or the supervisor of several, begins.

    Attributes:
        lines: App, URLs without passwords, tasks and queues.
    """

    lines: tuple[str, ...]


@frozen(kw_only=True)
class GateChanged(Event):
    """A gate of the app begins or ceases to hold back the messages of a worker.

    Attributes:
        worker: Name of the worker.
        why: Why it takes no messages; empty if it takes them again.
    """

    worker: str
    why: str


@frozen(kw_only=True)
class PausesChanged(Event):
    """A worker learned what operators have paused; it leaves that alone from now on.

    Attributes:
        worker: Name of the worker.
        lines: What is paused, by whom and why, a line each; empty if nothing is paused any more.
    """

    worker: str
    lines: tuple[str, ...]


@frozen(kw_only=True)
class DeadLettersDropped(Event):
    """Dead letters were deleted because they were beyond the bounds of their queue.

    Attributes:
        worker: Name of the worker that deleted them.
        queue: Their queue.
        reason: ``age``: older than ``dead_max_age``; ``count``: more than ``dead_max_count``.
        bound: That bound: seconds, or a number of messages.
        count: How many.
    """

    worker: str
    queue: str
    reason: str
    bound: float
    count: int


@frozen(kw_only=True)
class QueuesUnserved(Event):
    """A worker starts, and tasks are sent to queues that no worker serves.

    Attributes:
        lines: The queues, and the command that starts a worker for them.
    """

    lines: tuple[str, ...]


@frozen(kw_only=True)
class WorkerReady(Event):
    """A worker process has started to take messages.

    Attributes:
        worker: Name of the worker process.
    """

    worker: str


@frozen(kw_only=True)
class WorkerStopping(Event):
    """A worker process has stopped taking messages.

    Attributes:
        worker: Name of the worker process.
        reason: Why it stops, in words.
        running: Number of tasks that still run.
        drain: Seconds that running tasks have to finish.
    """

    worker: str
    reason: str
    running: int
    drain: float


@frozen(kw_only=True)
class WorkerStopped(Event):
    """A worker process has settled or released all its messages.

    Attributes:
        worker: Name of the worker process.
        seconds: Seconds that it ran.
        stats: Number of messages, by how they ended.
    """

    worker: str
    seconds: float
    stats: dict[str, int]


@frozen(kw_only=True)
class WorkerRecycled(Event):
    """A worker process has reached a bound; another has taken its place, and it ends when what it runs has ended.

    Attributes:
        worker: Name of the worker process.
        replacement: Name of the process that has taken its place.
        reason: ``tasks``: it has run ``max_tasks``; ``rss``: more memory than ``max_rss``; ``age``: ``max_age``.
        value: What it has reached: tasks, bytes or seconds.
        bound: The bound, in the same unit; processes may get up to a tenth less than the setting.
    """

    worker: str
    replacement: str
    reason: str
    value: float
    bound: float


@frozen(kw_only=True)
class ChildRecycled(Event):
    """A child process that runs bodies has reached a bound, and ends; logged at DEBUG.

    Attributes:
        worker: Name of the worker process.
        pid: Process id of the child.
        reason: ``tasks``: it has run ``max_tasks``; ``rss``: it occupies more memory than ``max_rss``.
        value: What it has reached: tasks or bytes.
        bound: The bound, in the same unit; processes may get up to a tenth less than the setting.
    """

    worker: str
    pid: int
    reason: str
    value: float
    bound: float


@frozen(kw_only=True)
class WorkerCrashed(Event):
    """A worker process died; a new one replaces it, unless it was draining or recycled.

    Attributes:
        name: Name of the worker process.
        how: Exit code or signal, in words.
        again_in: Seconds until the new process starts; ``None`` if none does.
    """

    name: str
    how: str
    again_in: float | None


@frozen(kw_only=True)
class WorkerGaveUp(Event):
    """A worker process failed to start too often, and is not started again.

    Attributes:
        number: Number of the worker process, from 0.
        how: Exit code or signal of the last try, in words.
        tries: Number of failed starts.
    """

    number: int
    how: str
    tries: int


Subscriber = Callable[[Event], None]
_OF_RUNS = frozenset({TaskStarted, TaskFinished})
_AFTER_RUNS = ("failed", "rejected")
"""Reasons of dead letters whose run has its own line in the log."""
_LATE = 1.0
"""Delay of a tick, in seconds, from which the log mentions it."""
_IN_FULL = 10
"""Consecutive log lines about dead letters before they are rate-limited."""
_A_LINE_EVERY = 1.0
"""Seconds between two lines while they are rate-limited."""
_QUIET = 30.0
"""Seconds without such a line that end the rate limit."""
_UNKNOWN_AGAIN = 60.0
"""Seconds until the log mentions the same unknown task again."""


class _Ration:
    """Rate limit: lets the first lines of a kind through, then one a second with the number of lines left out."""

    def __init__(self) -> None:
        self._left = _IN_FULL
        self._last = -math.inf
        self._unlogged = 0

    def take(self) -> int | None:
        """Return the number of lines left out before this one, or ``None`` to leave this one out."""
        now = time.monotonic()
        if now - self._last > _QUIET:
            self._left = _IN_FULL
        if self._left <= 0 and now - self._last < _A_LINE_EVERY:
            self._unlogged += 1
            return None
        self._left, self._last = self._left - 1, now
        unlogged, self._unlogged = self._unlogged, 0
        return unlogged


class Events:
    """Passes each event to all subscribers; an error of one is logged and does not affect the others."""

    def __init__(self) -> None:
        self._subscribers: list[tuple[Subscriber, frozenset[type[Event]] | None]] = [(LogSubscriber(), None)]
        self._wanted: frozenset[type[Event]] | None = frozenset()
        """Events that a subscriber other than the log gets; ``None``: all."""
        self.observed = False
        """Whether anything besides the log has subscribed to the events of single runs."""
        self.wants_sends = False
        """Whether anything listens to :class:`MessagesSent`."""

    def subscribe(self, subscriber: Subscriber, *, to: Collection[type[Event]] | None = None) -> None:
        """Call *subscriber* with each event, in the thread that emits it; it must be quick.

        Args:
            subscriber: The function.
            to: Types of the events that it gets; default: all. What nobody subscribes to is not even made, so name
                :class:`MessagesSettled` rather than :class:`TaskFinished` where the batch will do.
        """
        if not callable(subscriber):
            raise OptionError(f"the subscriber {subscriber!r:.60} is not callable", fix="Subscribe a function")
        kinds = None if to is None else _kinds(to)
        self._subscribers.append((subscriber, kinds))
        self._wanted = None if kinds is None or self._wanted is None else self._wanted | kinds
        self.observed = any(map(self.wants, _OF_RUNS))
        self.wants_sends = self.wants(MessagesSent)

    def wants(self, kind: type[Event]) -> bool:
        """Return whether a subscriber other than the log gets events of *kind*; if not, they need not be made."""
        return self._wanted is None or kind in self._wanted

    def wants_runs(self) -> bool:
        """Return whether anything listens to the events of single runs; if not, a busy worker does not emit them."""
        return self.observed or logging.getLogger("queuekit.task").isEnabledFor(logging.INFO)

    def emit(self, event: Event) -> None:
        """Pass *event* to all subscribers; their errors are logged.

        Raises:
            KeyboardInterrupt: Ctrl-C arrived in the main thread while a subscriber ran.
        """
        kind = type(event)
        for subscriber, kinds in self._subscribers:
            if kinds is not None and kind not in kinds:
                continue
            try:
                subscriber(event)
            except BaseException as error:  # also SystemExit, which must not end the thread that emits the event
                if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                    raise
                log_error(logging.getLogger("queuekit.events"), "a subscriber failed on %s", type(event).__name__)


def _kinds(to: object) -> frozenset[type[Event]]:
    """Return the types in *to*, each of which events have; a subscriber would wait for others in vain."""
    kinds = tuple(to) if isinstance(to, Collection) and not isinstance(to, str) else None
    for kind in (to,) if kinds is None else kinds:
        if kinds is None or not (isinstance(kind, type) and issubclass(kind, Event) and kind is not Event):
            raise OptionError(
                f"to: expected a list of event classes, got {kind!r:.60}", fix="List classes of queuekit.events"
            )
    return frozenset(kinds or ())


class LogSubscriber:
    """Writes the log: INFO for changes of state, WARNING for what will be retried, ERROR for what was given up."""

    def __init__(self) -> None:
        self._task = logging.getLogger("queuekit.task")
        self._worker = logging.getLogger("queuekit.worker")
        self._schedules = logging.getLogger("queuekit.schedules")
        self._unknown_seen: dict[str, float] = {}
        self._dead_lines = _Ration()
        self._writers: dict[type[Event], Callable[[Any], None]] = {
            TaskStarted: self._started,
            TaskFinished: self._finished,
            TaskUnknown: self._unknown,
            MessageDead: self._dead,
            BodyCrashed: self._body_crashed,
            LeasesLost: self._lost,
            OperatorActed: self._acted,
            EngineDown: self._down,
            EngineBack: self._back,
            LoopBlocked: self._blocked,
            SchedulerLeaderElected: self._leader_elected,
            SchedulerLeaderLost: self._leader_lost,
            TickSent: self._ticked,
            TicksMissed: self._missed,
            TickSkipped: self._skipped,
            TickFailed: self._tick_failed,
            WorkerStarted: self._worker_started,
            GateChanged: self._gate,
            PausesChanged: self._paused,
            DeadLettersDropped: self._dead_dropped,
            QueuesUnserved: self._unserved,
            WorkerReady: self._ready,
            WorkerRecycled: self._recycled,
            ChildRecycled: self._child_recycled,
            WorkerCrashed: self._crashed,
            WorkerGaveUp: self._gave_up,
            WorkerStopping: self._stopping,
            WorkerStopped: self._stopped,
        }

    def __call__(self, event: Event) -> None:
        """Log *event*, if its type is logged."""
        writer = self._writers.get(type(event))
        if writer is not None:
            writer(event)

    def _started(self, event: TaskStarted) -> None:
        if not self._task.isEnabledFor(logging.DEBUG):
            return
        waited = "" if event.waited is None else f" waited {event.waited * 1000:.1f} ms"
        self._task.debug("start %s %s%s", event.task, event.id, waited, extra=_data(event))

    def _finished(self, event: TaskFinished) -> None:
        spent = f"{event.duration * 1000:.1f} ms"
        data = _data(event)
        if event.state == "RETRY":
            text = "retry %s %s after %s: %s; retry %d of %d in %.1f s"
            again = (event.attempt + 1, event.retries, event.retry_in or 0.0)
            self._task.warning(text, event.task, event.id, spent, without_stop(clean(event.error)), *again, extra=data)
        elif event.state == "FAILURE":
            # Indented, so that no line of the traceback looks like a log line of its own.
            trace = f"\n{indent(clean(event.traceback.rstrip(), lines=True), '  ')}" if event.traceback else ""
            error = clean(event.error)
            self._task.error("fail %s %s after %s: %s%s", event.task, event.id, spent, error, trace, extra=data)
        else:
            word = {"SUCCESS": "done", "PENDING": "snoozed"}.get(event.state, event.state.lower())
            self._task.info("%s %s %s %s", word, event.task, event.id, spent, extra=data)

    def _dead(self, event: MessageDead) -> None:
        if event.reason in _AFTER_RUNS:
            return
        unlogged = self._dead_lines.take()
        if unlogged is None:
            return
        error = f" ({clean(event.error)})" if event.error else ""
        more = f"; {unlogged} more since the last line" if unlogged else ""
        about = (clean(event.task) or "?", clean(event.id), clean(event.queue), event.reason, error, more)
        self._task.error("dead %s %s in %s: %s%s%s", *about, extra=_data(event))

    def _unknown(self, event: TaskUnknown) -> None:
        """Warn once a minute per task, however many such messages arrive."""
        now = time.monotonic()
        lack = event.why or f"no task named {event.task} is registered here"
        if now - self._unknown_seen.get(lack, -_UNKNOWN_AGAIN) < _UNKNOWN_AGAIN:
            return
        self._unknown_seen[lack] = now
        if event.dropped:
            text = "%s; its messages are dropped, as they ask for (first: %s)"
            self._worker.warning(text, without_stop(clean(lack)), event.id, extra=_data(event))
            return
        text = f"%s; {'such' if event.why else 'its'} messages are released (first: %s, delayed by %.0f s)"
        self._worker.warning(text, without_stop(clean(lack)), event.id, event.again_in, extra=_data(event))

    def _acted(self, event: OperatorActed) -> None:
        on = f" {clean(event.on)}" if event.on else ""
        count = f": {event.count} messages" if event.count else ""
        self._worker.info("%s%s by %s%s", clean(event.what), on, clean(event.by), count, extra=_data(event))

    def _body_crashed(self, event: BodyCrashed) -> None:
        text = "the process of %s %s was %s; it runs again in %.1f s"
        self._worker.warning(
            text, event.task, event.id, without_stop(clean(event.how)), event.again_in, extra=_data(event)
        )

    def _lost(self, event: LeasesLost) -> None:
        self._worker.warning("%d leases lost: %s", event.count, clean(", ".join(event.ids[:5])), extra=_data(event))

    def _down(self, event: EngineDown) -> None:
        text, error = "cannot %s: %s; retry in %.1f s", without_stop(clean(event.error))
        self._worker.warning(text, event.doing, error, event.retry_in, extra=_data(event))

    def _back(self, event: EngineBack) -> None:
        self._worker.info("can %s again after %.1f s", event.doing, event.after, extra=_data(event))

    def _blocked(self, event: LoopBlocked) -> None:
        text = "%s %s has blocked the event loop of %s for %.1f s; %d others are waiting:\n%s"
        task, stack = event.task or "something", event.stack.rstrip()
        data = (task, event.id, event.worker, event.seconds, event.waiting, stack)
        self._worker.warning(text, *data, extra=_data(event))

    def _leader_elected(self, event: SchedulerLeaderElected) -> None:
        self._schedules.info("%s is now the scheduler leader", event.worker, extra=_data(event))

    def _leader_lost(self, event: SchedulerLeaderLost) -> None:
        self._schedules.warning("%s has lost the scheduler leadership", event.worker, extra=_data(event))

    def _ticked(self, event: TickSent) -> None:
        late = f", {event.late:.1f} s late" if event.late >= _LATE else ""
        self._schedules.info("tick %s %s %s%s", event.schedule, event.id, _moment(event.at), late, extra=_data(event))

    def _missed(self, event: TicksMissed) -> None:
        text, span = "%d ticks of %s missed from %s to %s: no scheduler sent them in time", (event.first, event.last)
        self._schedules.warning(text, event.count, event.schedule, *map(_moment, span), extra=_data(event))

    def _skipped(self, event: TickSkipped) -> None:
        text = "tick of %s at %s skipped: %s has not ended"
        self._schedules.info(text, event.schedule, _moment(event.at), event.holder, extra=_data(event))

    def _tick_failed(self, event: TickFailed) -> None:
        text = "tick of %s at %s cannot be sent: %s"
        self._schedules.error(text, event.schedule, _moment(event.at), clean(event.error), extra=_data(event))

    def _worker_started(self, event: WorkerStarted) -> None:
        self._worker.info("%s", "\n  ".join(map(clean, event.lines)), extra=_data(event))

    def _dead_dropped(self, event: DeadLettersDropped) -> None:
        limit = f"older than {event.bound:g} s" if event.reason == "age" else f"beyond the latest {event.bound:g}"
        text = "dropped %d dead letters of %s: %s"
        self._worker.info(text, event.count, event.queue, limit, extra=_data(event))

    def _unserved(self, event: QueuesUnserved) -> None:
        self._worker.warning("%s", "\n  ".join(map(clean, event.lines)), extra=_data(event))

    def _gate(self, event: GateChanged) -> None:
        text = f"takes no messages: {clean(event.why)}" if event.why else "takes messages: its gates are open"
        self._worker.info("%s %s", event.worker, text, extra=_data(event))

    def _paused(self, event: PausesChanged) -> None:
        text = f"paused: {'; '.join(map(clean, event.lines))}" if event.lines else "nothing is paused any more"
        self._worker.info("%s: %s", event.worker, text, extra=_data(event))

    def _ready(self, event: WorkerReady) -> None:
        self._worker.info("%s ready", event.worker, extra=_data(event))

    def _crashed(self, event: WorkerCrashed) -> None:
        again = event.again_in
        then = "it was draining, so none starts for it" if again is None else f"a new process starts in {again:.1f} s"
        self._worker.error("%s %s; %s", event.name, without_stop(event.how), then, extra=_data(event))

    def _recycled(self, event: WorkerRecycled) -> None:
        text = "%s is recycled: %s; %s has taken its place"
        words = _bound_reached(event.reason, event.value, event.bound)
        self._worker.info(text, event.worker, words, event.replacement, extra=_data(event))

    def _child_recycled(self, event: ChildRecycled) -> None:
        words = _bound_reached(event.reason, event.value, event.bound)
        self._worker.debug("child process %d is recycled: %s", event.pid, words, extra=_data(event))

    def _gave_up(self, event: WorkerGaveUp) -> None:
        text = "giving up on process %d: it failed to start %d times in a row (%s)"
        self._worker.critical(text, event.number, event.tries, event.how, extra=_data(event))

    def _stopping(self, event: WorkerStopping) -> None:
        text = "%s is stopping (%s): %d running, up to %.0f s to finish"
        self._worker.info(text, event.worker, event.reason, event.running, event.drain, extra=_data(event))

    def _stopped(self, event: WorkerStopped) -> None:
        counts = ", ".join(f"{count} {name}" for name, count in event.stats.items() if count) or "nothing done"
        self._worker.info("%s stopped after %.1f s: %s", event.worker, event.seconds, counts, extra=_data(event))


def _bound_reached(reason: str, value: float, bound: float) -> str:
    """Return in words which bound of recycling a process has reached."""
    match reason:
        case "tasks":
            return f"it has run {value:.0f} tasks"
        case "rss":
            return f"it occupies {value / 1e6:.0f} MB of memory, more than {bound / 1e6:.0f} MB"
        case _:
            return f"it is {value:.0f} s old"


def _moment(epoch: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))


def _data(event: Event) -> dict[str, Any]:
    """Return the ``extra`` of a log record, under one key: a key such as ``message`` would clash with logging's own."""
    kind: Any = type(event)
    return {"queuekit": {"event": kind.__name__, **{name: getattr(event, name) for name in _names(kind)}}}


@cache
def _names(kind: Any) -> tuple[str, ...]:
    """Return the names of the fields of events of *kind*."""
    return tuple(field.name for field in attrs.fields(kind))
