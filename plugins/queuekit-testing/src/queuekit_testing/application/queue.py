"""The queue of a test: what was sent, and the worker that runs it when the test says so."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import importlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from queuekit.app import Queuekit
from queuekit.backend import Record
from queuekit.broker import Ack, Delivery, Place, Release, Replace, Stored
from queuekit.client.codec import decode, outline, sealed
from queuekit.client.sender import PreparedMessage, Sending, Sent
from queuekit.clock import Clock
from queuekit.engines.memory.broker import MemoryBroker
from queuekit.envelope import Envelope
from queuekit.errors import DecodeError, NotInstalledError, QueuekitError, TaskFailed, UnavailableError
from queuekit.events import Event
from queuekit.execution.commit import write
from queuekit.execution.executor import Executor
from queuekit.execution.limiter import Limiter
from queuekit.execution.merging import Merger
from queuekit.execution.outcome import Outcome, Run
from queuekit.execution.workflow_advance import WorkflowAdvancer
from queuekit.limiting.rates import has_turn
from queuekit.operations.admin import Admin
from queuekit.operations.merges import merge_of, newest, state_of
from queuekit.operations.why import Reason, collect, reasons
from queuekit.resources import Resource
from queuekit.tasks.task import Task
from queuekit.wire.call_options import Duration, seconds
from queuekit.wire.merges import merge_in
from queuekit.wire.presence import Presence
from queuekit_testing.application.calls import SentCall, difference, failure, shown
from queuekit_testing.application.clock import StandingClock
from queuekit_testing.application.ticks import Ticks

__all__ = ["AppQueue", "NeedsVirtualClockError", "Tally"]

_PLACES = (Place.READY, Place.DELAYED, Place.LEASED)
_YOUNG = 10_000
"""New objects after which Python looks for garbage while messages run."""
_TOGETHER = 1_000
"""Most messages that are put off in one step."""
_NAMES = {"skipped": "done", "returned": "retried", "held": "waiting"}


class NeedsVirtualClockError(RuntimeError):
    """A test moves the clock, but runs on an engine whose clock cannot be moved."""


@attrs.frozen(kw_only=True)
class Tally:
    """How the messages ended that one call of :meth:`AppQueue.run` ran.

    Attributes:
        done: Ended well.
        failed: Their last attempt raised, so that they are dead letters.
        retried: Attempts that failed and will be repeated.
        dead: Became dead letters without that: malformed, rejected, or of an unknown task.
        cancelled: Were cancelled before they ran, or ended by ``Cancel``.
        expired: Were not run, because their time was over.
        crashed: Ran while the worker crashed, so that nothing of them was written.
        waiting: Messages that are still stored: due later, or held by a worker that crashed.
    """

    done: int = 0
    failed: int = 0
    retried: int = 0
    dead: int = 0
    cancelled: int = 0
    expired: int = 0
    crashed: int = 0
    waiting: int = 0


class _Recorder(Sending):
    """Sends as the app does, and keeps what was sent."""

    def __init__(self, app: Queuekit, queue: AppQueue) -> None:
        super().__init__(app.runtime, app.tasks)
        self._queue = queue

    def _send_batch(self, ready: Sequence[PreparedMessage], ahead: Sequence[Record]) -> list[Sent]:
        sent = super()._send_batch(ready, ahead)
        for one, result in zip(ready, sent, strict=True):
            if not result.duplicate:
                self._queue.note(one.envelope)
            elif result.merged:
                self._queue.note_merged(one.envelope, result.id)
        return sent


class _Runner(Executor):
    """Runs bodies as a worker does, and keeps the exceptions that they raise."""

    problem: BaseException | None = None
    """What the last body raised."""

    def _raised(self, run: Run, error: BaseException) -> Outcome:
        self.problem = error
        return super()._raised(run, error)


class AppQueue:
    """The queue of an app under test. Nothing runs, and no time passes, until the test says so.

    Args:
        app: The app, on the engines of the test.
        clock: Its clock; a test may move one that stands still.
    """

    __test__ = False

    def __init__(self, app: Queuekit, clock: Clock) -> None:
        self.app = app
        """The app under test."""
        self._sent: list[SentCall] = []
        self._unread: list[tuple[Envelope, float, float]] = []
        """Messages that were sent and not decoded, since no test has asked for them yet; with time and due time."""
        self._clock = clock
        self._known: dict[str, int] = {}
        """Ids of the messages that were sent, each with its place among them."""
        self._runtime = app.runtime
        self._sending = _Recorder(app, self)
        self._runner = _Runner(self._runtime, app.tasks, self._sending, worker="test", variables=_variables)
        self._runner.keeps_loop = True
        self._workflows = WorkflowAdvancer(self._runtime, self._sending)
        runner = self._runner
        self._merger = Merger(self._runtime, now=self._sending.now, again=lambda one: runner.prepare(one, {}))
        self._ticks = Ticks(app, clock)
        self._limits: Limiter | None = None
        self._limited = -1
        """How many tasks were declared when *_limits* was made."""
        self._exempt: set[str] = set()
        self._crashing = self._running = False
        self._overrides = contextlib.ExitStack()
        vars(app)["_sending"] = self._sending

    def __repr__(self) -> str:
        return f"<queue of {len(self.app.tasks)} tasks at {self.now:%Y-%m-%d %H:%M:%S}, {len(self.waiting)} waiting>"

    # -- time

    @property
    def now(self) -> datetime:
        """The time of the test."""
        return _moment(self._clock.time())

    def advance(self, by: Duration) -> None:
        """Move the clock, without running anything.

        Args:
            by: Seconds, a ``timedelta``, or text such as ``"1h"``.

        Raises:
            NeedsVirtualClockError: The engine has a clock of its own.
        """
        self._need_clock("advance()").advance(seconds(by, option="by") or 0.0)

    @contextlib.contextmanager
    def time_machine(self) -> Iterator[None]:
        """Let ``time.time()`` and ``datetime.now()`` give the time of the test in this block, by ``time-machine``.

        Raises:
            NotInstalledError: It is not installed.
        """
        clock = self._need_clock("time_machine()")
        try:
            machine: Any = importlib.import_module("time_machine")
        except ModuleNotFoundError:
            raise NotInstalledError("time-machine is not installed", fix="pip install time-machine") from None
        with machine.travel(self.now, tick=False) as traveller:
            clock.followers.append(traveller.move_to)
            try:
                yield
            finally:
                clock.followers.remove(traveller.move_to)

    def _need_clock(self, what: str) -> StandingClock:
        if not isinstance(self._clock, StandingClock):
            raise NeedsVirtualClockError(f"{what} needs the virtual clock, and this engine has its own")
        return self._clock

    # -- running

    def run(
        self,
        *,
        until: Duration | datetime | None = None,
        raises: bool = True,
        at_most: Mapping[Task[..., Any], int] | None = None,
    ) -> Tally:
        """Run all messages that are due, and what follows from them, in the order in which a worker receives them.

        Args:
            until: Seconds, a ``timedelta``, or text such as ``"6h"`` from now, or a time: move the clock there, from
                one due message or tick to the next. By default the clock stands still.
            raises: Whether the exception of a task that has failed for good comes through.
            at_most: For tasks that send themselves again: how often each may run. What they send then stays waiting.

        Raises:
            BaseException: What a task raised; the messages after it have not run.
            NeedsVirtualClockError: *until* is given, and the engine has a clock of its own.
        """
        end = self._clock.time() if until is None else self._end(until)
        allowed = {task.name: count for task, count in (at_most or {}).items()}
        self._exempt.update(allowed)
        counts: Counter[str] = Counter()
        with self._alone():
            aside: list[Delivery] = []
            try:
                self._run(end, counts, allowed, aside, raises=raises)
            finally:
                if aside:
                    self._runtime.broker.settle([Release(delivery) for delivery in aside])
            if until is not None and self._clock.time() < end:
                self._clock.sleep(end - self._clock.time())
        return self._tally(counts)

    def run_one(self, *, raises: bool = True) -> Tally:
        """Run the next message that is due; see :meth:`run`."""
        counts: Counter[str] = Counter()
        with self._alone():
            self._look()
            self._ticks.send_due()
            for delivery in self._take():
                self._one(delivery, counts, raises=raises)
        return self._tally(counts)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._running:
            raise QueuekitError("queue.run() was called by a task that it runs", fix="Send the message; it runs later")
        self._running = True
        try:
            with _fewer_collections():
                yield
        finally:
            self._running = False

    def _run(
        self, end: float, counts: Counter[str], allowed: dict[str, int], aside: list[Delivery], *, raises: bool
    ) -> None:
        while True:
            self._look()
            moved = self._skip(end)
            if moved:
                self._move_lines()
            self._ticks.send_due()
            taken = self._take()
            if not taken and not moved:
                return
            for delivery in taken:
                task = outline(delivery.envelope).task if allowed else ""
                if allowed.get(task, 1) <= 0:
                    aside.append(delivery)
                elif self._one(delivery, counts, raises=raises) and task in allowed:
                    allowed[task] -= 1

    def _look(self) -> None:
        self._move_lines()
        self._ticks.look()

    def _move_lines(self) -> None:
        """Hand back the messages for which slots are free by now."""
        limiter = self._limiter()
        if limiter is not None and limiter.has_slots:
            limiter.upkeep()

    def _take(self) -> list[Delivery]:
        broker = self._runtime.broker
        return broker.receive(broker.queues(), limit=1, wait=0, lease=self._runtime.config.worker.lease)

    def _skip(self, end: float) -> bool:
        """Move the clock to the next moment at which something is due; false if that is now, or after *end*."""
        broker, now = self._runtime.broker, self._clock.time()
        if not isinstance(self._clock, StandingClock) or not isinstance(broker, MemoryBroker):
            return False
        moments = [moment for moment in (broker.next_event(), self._ticks.next) if moment is not None]
        moment = min(moments, default=math.inf)
        if not now < moment <= end:
            return False
        self._clock.advance(moment - now)
        return True

    def _end(self, until: Duration | datetime) -> float:
        self._need_clock("run(until=...)")
        if isinstance(until, datetime):
            return until.timestamp()
        return self._clock.time() + (seconds(until, option="until") or 0.0)

    def _one(self, delivery: Delivery, counts: Counter[str], *, raises: bool) -> bool:
        """Run one delivery as a worker does: marks, body, decision, and one step that writes what follows.

        Returns:
            Whether its body ran.
        """
        self._runner.problem = None
        (prepared,) = self._prepared([delivery])
        limiter = self._limiter() if isinstance(prepared, Run) and prepared.task.defaults.limits else None
        if not isinstance(prepared, Run):
            outcomes = [prepared]
        elif limiter is not None:
            outcomes = self._by_limits(limiter, prepared)
        else:
            outcomes = [self._body(prepared)]
        ran = isinstance(prepared, Run) and prepared.started is not None
        if self._crashing:
            counts["crashed"] += 1
            return ran
        self._write(outcomes)
        for outcome in outcomes:
            counts[_NAMES.get(outcome.status, outcome.status)] += 1
        for outcome in outcomes:
            if raises and outcome.status in {"failed", "dead"}:
                raise self._runner.problem or TaskFailed(self._what(outcome))
        return ran

    def _prepared(self, deliveries: Sequence[Delivery]) -> list[Run | Outcome]:
        """Read the marks of *deliveries*, and return a run for each, or an outcome if it must not run."""
        backend, runner = self._runtime.backend, self._runner
        for delivery in deliveries:
            self.note(delivery.envelope)
        keys = [key for delivery in deliveries for key in runner.keys(delivery)]
        marks = {} if backend is None or not keys else backend.get(keys)
        found = [self._merger.one(runner.prepare(delivery, marks)) for delivery in deliveries]
        for serial, one in enumerate(found, 1):
            if isinstance(one, Run):
                one.serial = serial
        return found

    def _by_limits(self, limiter: Limiter, run: Run) -> list[Outcome]:
        """Run it if the limits of its task allow that now; else put it off, and what is behind it as well."""
        begin, late = limiter.apply([run])
        if begin:
            return [self._body(run)]
        if not late:  # it waits for a slot
            return [Outcome(delivery=run.delivery, settlement=None, status="held")]
        settlement = late[0].settlement
        if isinstance(settlement, Replace) and has_turn(settlement.envelope) and not self._crashing:
            late += self._put_off_behind(limiter, run)
        return late

    def _put_off_behind(self, limiter: Limiter, first: Run) -> list[Outcome]:
        """Put off the messages behind *first* that the same rates put off: nothing can run between them.

        A worker takes them in a batch as well.
        """
        broker, message = self._runtime.broker, first.message
        is_keyed = any(limit.key is not None for limit in first.task.defaults.limits)
        if not isinstance(broker, MemoryBroker) or (is_keyed and message.limits is None):
            return []

        def like(delivery: Delivery) -> bool:
            if delivery.crashes or has_turn(delivery.envelope):
                return False
            try:
                other = sealed(delivery.envelope, self._runtime.accepted)
            except QueuekitError:
                return False
            return (other.task, other.limits, other.merge) == (message.task, message.limits, None)

        lease = self._runtime.config.worker.lease
        prepared = self._prepared(broker.receive_while(like, limit=_TOGETHER, lease=lease))
        runs = [one for one in prepared if isinstance(one, Run)]
        late = limiter.apply(runs)[1] if runs else []
        return [*(one for one in prepared if isinstance(one, Outcome)), *late]

    def _write(self, outcomes: Sequence[Outcome]) -> None:
        """Write *outcomes*, and tell limits, listeners and the test of them."""
        self._workflows.expand(outcomes)
        write(self._runtime, outcomes, lose=self._workflows.lose)
        limiter = self._limiter()
        settled = [outcome for outcome in outcomes if outcome.settlement is not None]
        if limiter is not None and limiter.has_slots and settled:
            limiter.settled(settled)
        for outcome in outcomes:
            for envelope in outcome.sends:
                self.note(envelope)
            if outcome.event is not None:
                self._runtime.events.emit(outcome.event)

    def _limiter(self) -> Limiter | None:
        """Return what applies the limits of the tasks that are declared by now."""
        backend, tasks = self._runtime.backend, self.app.tasks
        if backend is not None and len(tasks) != self._limited:
            self._limited, self._limits = len(tasks), Limiter(self._runtime, backend, tasks, worker="test")
        return self._limits

    def _what(self, outcome: Outcome) -> str:
        """Return why a message has failed without an exception of its body."""
        delivery = outcome.delivery
        found = [stored for stored in self._runtime.broker.find(delivery.queue, [delivery.id]) if stored.reason]
        text = f"{found[0].reason}: {found[0].error}" if found else outcome.status
        return f"{outline(delivery.envelope).task} {delivery.id} was dead-lettered: {text}"

    def _body(self, run: Run) -> Outcome:
        run.context.report_to(self._runner.report, self._runner.begun)
        early = self._runner.begin(run)
        if early is not None:
            return early
        if run.early:
            self._runtime.broker.settle([Ack(run.delivery)])
        run.timeout = None  # the clock stands still while a body runs
        if not run.task.is_async:
            return self._runner.call(run)
        # In another thread, since a loop may be running in the test's.
        with ThreadPoolExecutor(max_workers=1) as pool:
            return pool.submit(_variables().run, self._runner.call_on_loop, run).result()

    def _tally(self, counts: Counter[str]) -> Tally:
        counts.pop("waiting", None)
        return Tally(**counts, waiting=len(self.waiting))

    # -- resources

    def override(self, resource: Resource[Any], value: Any) -> None:
        """Let *value*, or what another resource gives, take the place of *resource* until the end of the test."""
        self._overrides.enter_context(self.app.override(resource, value))

    def close(self) -> None:
        """End the overrides."""
        self._overrides.close()

    # -- trouble

    @contextlib.contextmanager
    def crash(self) -> Iterator[None]:
        """Let the worker end at the end of each body that runs in this block, as SIGKILL would end it.

        Nothing of the run is written. The message runs again when its lease has ended: ``queue.run(until="1m")``.
        """
        self._need_clock("crash()")
        self._crashing = True
        try:
            yield
        finally:
            self._crashing = False

    @contextlib.contextmanager
    def broker_down(self) -> Iterator[None]:
        """Let the broker not answer in this block: each send raises ``UnavailableError`` after ``send_timeout``."""
        self._need_clock("broker_down()")
        broker: Any = self._runtime.broker

        def fail(*_args: Any, **_options: Any) -> Any:
            raise UnavailableError("the test took the broker down")

        verbs = ("send", "commit", "receive", "settle")
        for verb in verbs:
            setattr(broker, verb, fail)
        try:
            yield
        finally:
            for verb in verbs:
                delattr(broker, verb)

    def emit(self, event: Event) -> None:
        """Give *event* to the subscribers of the app, as a worker does, e.g. ``LeasesLost``; their errors come through.

        Raises:
            TypeError: It is not an event of :mod:`queuekit.events`.
        """
        if not isinstance(event, Event):
            raise TypeError(f"expected an event of queuekit.events, got {event!r:.60}")
        for subscriber, kinds in vars(self.app.events)["_subscribers"]:
            if kinds is None or type(event) in kinds:
                subscriber(event)

    # -- looking

    def why(self, id: str) -> Reason:
        """Return why message *id* has not run, as ``queuekit why`` says it; the test counts as the only worker.

        Returns:
            The reason: its ``code``, such as ``"delayed"``, ``"limited"`` or ``"dead"``, and a sentence in ``text``.

        Raises:
            InvalidNameError: It is not a valid id.
        """
        facts = collect(Admin(self.app), id)
        missing = (facts.task,) if facts.task and facts.task not in self.app.tasks else ()
        facts = attrs.evolve(facts, workers=[Presence(name="test", queues=(facts.queue,), unknown=missing)])
        first = reasons(facts)[0]
        if first.code != "behind":
            return first
        return attrs.evolve(first, text="it is due, and runs when the test calls run()", command="")

    @property
    def sent(self) -> list[SentCall]:
        """All calls that were sent, in order: by the test, by tasks, by workflows and by schedules.

        A duplicate is none. A call that a waiting message took in takes the place of that message's earlier call.
        """
        self._sent += [self._read(envelope, at=at, due=due) for envelope, at, due in self._unread]
        self._unread.clear()
        return self._sent

    @property
    def waiting(self) -> list[SentCall]:
        """The messages that are stored: due, due later, or held by a worker that crashed."""
        return [self._call(self._newest(stored)) for place in _PLACES for stored in self._stored(place)]

    @property
    def dead(self) -> list[SentCall]:
        """The dead letters, with reason and error."""
        return [self._call(stored) for stored in self._stored(Place.DEAD)]

    @property
    def leftovers(self) -> list[SentCall]:
        """The messages that wait, except those of tasks that ``run(at_most=...)`` has stopped."""
        return [call for call in self.waiting if call.task not in self._exempt]

    def assert_sent(
        self, task: Task[..., Any], /, *args: Any, within: Duration | None = None, **kwargs: Any
    ) -> SentCall:
        """Fail unless *task* was sent with these arguments; arguments that are left out may have any value.

        Args:
            task: The task.
            *args: Its first arguments.
            within: Seconds, or text such as ``"10m"``, from now until which it must be due.
            **kwargs: Arguments by name.

        Returns:
            The first such call.
        """
        __tracebackhide__ = True
        limit = None if within is None else self.now + timedelta(seconds=seconds(within, option="within") or 0.0)
        others: list[tuple[SentCall, str]] = []
        for call in self.sent:
            why = difference(task, call, args, kwargs)
            if why is None and limit is not None and call.due > limit:
                why = f"due in {(call.due - self.now).total_seconds():g} s, expected within {within}"
            if why is None:
                return call
            others.append((call, why))
        raise AssertionError(failure(task, f"{shown(task.name, args, kwargs)} was not sent", others))

    def assert_not_sent(self, task: Task[..., Any], /, *args: Any, **kwargs: Any) -> None:
        """Fail if *task* was sent with these arguments; arguments that are left out may have any value."""
        __tracebackhide__ = True
        found = [call for call in self.sent if difference(task, call, args, kwargs) is None]
        if found:
            more = f", and {len(found) - 1} more such calls" if len(found) > 1 else ""
            raise AssertionError(f"{found[0]} was sent at {found[0].at:%H:%M:%S}{more}; expected none")

    def note(self, envelope: Envelope) -> None:
        """Record a message as sent, unless it is known."""
        if envelope.id in self._known:
            return
        self._known[envelope.id] = len(self._known)
        now = self._clock.time()
        due = max(now + envelope.delay, envelope.not_before or 0.0)
        self._unread.append((envelope, now, due))

    def note_merged(self, envelope: Envelope, id: str) -> None:
        """Record that the waiting message *id* took in the call of *envelope*: it runs with what its key says now."""
        state = state_of(self._runtime, merge_in(envelope.body))
        waiting = None if state is None else state.waiting
        if waiting is None or waiting.id != id:
            return
        envelope = waiting.envelope(self._clock.time(), longest=None)
        self.note(envelope)
        self.sent[self._known[id]] = self._read(envelope, at=self._clock.time(), due=waiting.due)

    def _read(self, envelope: Envelope, *, at: float, due: float, reason: str = "", error: str = "") -> SentCall:
        try:
            message = decode(envelope, self._runtime.accepted)
        except DecodeError:
            message = outline(envelope)
        return SentCall(
            task=message.task,
            args=tuple(message.args),
            kwargs=message.kwargs,
            id=envelope.id,
            queue=envelope.queue,
            priority=envelope.priority,
            at=_moment(at),
            due=_moment(due),
            reason=reason,
            error=error,
        )

    def _call(self, stored: Stored) -> SentCall:
        return self._read(stored.envelope, at=stored.sent_at, due=stored.due, reason=stored.reason, error=stored.error)

    def _newest(self, stored: Stored) -> Stored:
        """Return *stored* with the arguments of the newest call that it took in."""
        return newest(stored, state_of(self._runtime, merge_of(stored)))

    def _stored(self, place: Place) -> Iterator[Stored]:
        broker = self._runtime.broker
        for name in broker.queues():
            yield from broker.walk(name, place)


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


@contextlib.contextmanager
def _fewer_collections() -> Iterator[None]:
    """Let Python look for garbage in cycles as seldom as in a worker: messages are many objects, and hardly a cycle."""
    usual = gc.get_threshold()
    rare = (max(_YOUNG, usual[0]) if usual[0] else 0, *usual[1:])
    gc.set_threshold(*rare)
    try:
        yield
    finally:
        if gc.get_threshold() == rare:
            gc.set_threshold(*usual)


def _variables() -> contextvars.Context:
    """Return a copy of the test's context variables, so that tasks do not see each other's."""
    return contextvars.copy_context()
