"""Process one delivery: decode, check, call, decide.

This module starts no threads. It reads only the results that a group's callback is called with, and writes only that
a task has started and the progress that it reports. The settler writes outcomes.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from queuekit.backend import Condition, Record
from queuekit.broker import Dead, Delivery, Release, Replace
from queuekit.client.codec import LITTLE, Message, id_in, outline, sealed
from queuekit.client.runtime import Runtime
from queuekit.client.sender import Sending
from queuekit.context import enter, leave
from queuekit.control import Cancelled, Interruption, Snooze, TaskTimeout
from queuekit.errors import ArgumentsError, DecodeError, EncodeError, NotReadHereError, QueuekitError, UnavailableError
from queuekit.events import EngineDown, TaskStarted, TaskUnknown
from queuekit.execution import children
from queuekit.execution.around import run_inside, run_inside_async
from queuekit.execution.children import forks
from queuekit.execution.due_time import due_moment, due_of
from queuekit.execution.invocation import ainvoke, invoke
from queuekit.execution.outcome import Decider, Outcome, Run
from queuekit.execution.run import call_of, re_delayed
from queuekit.execution.run_context import RunContext, context_of
from queuekit.execution.time_limit import Guard, surely
from queuekit.execution.workflow_inputs import MisfitError, gather, own_tasks
from queuekit.ids import is_name
from queuekit.logs.errors import log_error
from queuekit.states import MAX_COUNT, State
from queuekit.tasks.resolve import resolve
from queuekit.tasks.task import Task
from queuekit.values import quickly
from queuekit.wire.position import graph_of
from queuekit.wire.records import (
    Info,
    begun,
    cancel_key,
    entered_keys,
    progress_key,
    read_cancellation,
    read_info,
    result_key,
)
from queuekit.wire.signing import UnsignedError

if TYPE_CHECKING:
    import asyncio

    from queuekit.execution.task_scope import TaskScope
    from queuekit.execution.worker_scope import WorkerScope

__all__ = ["Executor"]

_logger = logging.getLogger("queuekit.middleware")
_worker_logger = logging.getLogger("queuekit.worker")
_CRASHES_UNSEEN = 30
_LONGEST_HOLD = 60.0
_PROGRESS_TTL = 86_400.0
_STATES = {"done": "SUCCESS", "failed": "FAILURE", "retried": "RETRY", "returned": "PENDING", "cancelled": "CANCELLED"}
_MOST_UNKNOWN = 20
"""Most unknown tasks to remember."""
_PUT_BACK = 5.0
"""Seconds until a message that the worker could not start is delivered again."""


_run = quickly(Run)


class Executor:
    """Runs deliveries for one worker.

    Args:
        runtime: The app's parts.
        tasks: Registered tasks by name; the name in a message is looked up here, never imported.
        worker: Name of the worker.
        variables: Returns the context variables that a run starts with; default: a copy of those of the caller.
    """

    def __init__(
        self,
        runtime: Runtime,
        tasks: Mapping[str, Task[..., Any]],
        sending: Sending,
        *,
        worker: str,
        variables: Callable[[], contextvars.Context] | None = None,
    ) -> None:
        self._runtime = runtime
        self._tasks = tasks
        self._worker = worker
        self._limits = runtime.broker.limits
        self._knows_repeats = runtime.broker.capabilities.dedup
        self._settings = runtime.config.worker
        self._ttl = runtime.config.results_expire
        self._most_bytes = runtime.config.max_message_bytes
        stages = runtime.stages
        self._before, self._after = stages.before_run, stages.after_run
        self._around, self._around_async = stages.around_run or (), stages.around_async_run or ()
        self._invoke: Callable[[Run], Any] = self._invoke_inside if self._before or self._around else invoke
        self._ainvoke: Callable[[Run], Awaitable[Any]] = (
            self._ainvoke_inside if self._before or self._around_async else ainvoke
        )
        self._monotonic = runtime.clock.monotonic
        self._announces, self._events = runtime.events.wants_runs(), runtime.events
        self._own = own_tasks(runtime)
        self._signing = runtime.signing
        self._checked = self._prepare if runtime.signing is None else self._prepare_signed
        self.variables = variables or contextvars.copy_context().copy
        """Returns the context variables that a run starts with. Each run gets its own copy."""
        self.decide = Decider(runtime, sending, tasks, worker=worker)
        self.unknown: deque[str] = deque(maxlen=_MOST_UNKNOWN)
        """Names of tasks that arrived lately and are not known here."""
        self._report = self.report, self.begun
        """Receives the progress of a run, and is called before the first."""
        self.keeps_loop = False
        """Whether coroutines that use resources run on the loop of the process, so that these stay open."""

    def keys(self, delivery: Delivery) -> list[str]:
        """Return the keys of the marks that :meth:`prepare` needs for *delivery*; the caller reads them in batches."""
        id = delivery.envelope.id
        if delivery.unmarked and delivery.number == 1:
            return []
        if not is_name(id):
            return []
        graph = graph_of(id)
        cancels = [cancel_key(id)] if graph is None else [cancel_key(id), cancel_key(graph)]
        if delivery.number == 1:
            # If the broker does not deduplicate sends, the first delivery of this copy may be the message's second.
            return cancels if self._knows_repeats else [*cancels, result_key(id)]
        suspect = entered_keys(delivery) if delivery.crashes else []
        return [*cancels, result_key(id), *suspect]

    def prepare(self, delivery: Delivery, marks: Mapping[str, Record]) -> Run | Outcome:
        """Return a run for *delivery*, or an outcome if it must not run.

        Never raises, whatever bytes the delivery holds (QK9).
        """
        try:
            return self._checked(delivery, marks)
        except UnsignedError as error:
            return self.decide.untrusted(delivery, reason="unsigned", error=error.what)
        except NotReadHereError as error:
            return self._unreadable(delivery, marks, error)
        except QueuekitError as error:
            return self.decide.dead(delivery, reason="malformed", error=error.what)
        except BaseException as error:  # noqa: BLE001 - one hostile message must not touch the others of its batch (QK8)
            return self.decide.dead(delivery, reason="malformed", error=type(error).__name__)

    def _prepare_signed(self, delivery: Delivery, marks: Mapping[str, Record]) -> Run | Outcome:
        """Prepare a delivery if it is signed; until that is known, nothing in it is believed.

        The signature covers the id in the body, so a body under another id says nothing about the message of that id.
        """
        if delivery.unread:
            return self.decide.untrusted(delivery, reason="malformed", error=delivery.unread)
        envelope = delivery.envelope
        if self._signing is not None:
            self._signing.check_message(envelope.body)
        try:
            return self._prepare(delivery, marks)
        except QueuekitError as error:
            if id_in(envelope.body) == envelope.id:
                raise
            return self.decide.untrusted(delivery, reason="malformed", error=error.what)

    def _prepare(self, delivery: Delivery, marks: Mapping[str, Record]) -> Run | Outcome:
        size = len(delivery.envelope.body)
        if delivery.unread:
            raise DecodeError(delivery.unread)
        if size > self._most_bytes:
            raise DecodeError(f"{size:,} bytes, the limit is {self._most_bytes:,}")
        message = sealed(delivery.envelope, self._runtime.accepted)
        envelope = delivery.envelope
        # A number with more bits than MAX_COUNT, which is one less than a power of two, shows in the whole.
        if not 0 <= envelope.attempt | envelope.generation | envelope.hop <= MAX_COUNT:
            return self._miscounted(delivery)
        if marks or envelope.expires is not None or envelope.not_before is not None:
            early = self._not_now(delivery, message, marks)
            if early is not None:
                return early
        task = self._tasks.get(message.task) or self._own.get(message.task)
        if task is None:
            message.open()
            self._note_unknown(message.task)
            return self._without_task(delivery, message)
        run = self._run(delivery, message, task)
        if run.early:
            self._read(run)  # once it is acknowledged it has no lease, and cannot become a dead letter
        return self._suspect(run, marks) if delivery.crashes else run

    def _miscounted(self, delivery: Delivery) -> Outcome:
        """Dead-letter a message with a count that queuekit never writes.

        A negative one would let it be retried that often, and a huge one makes no rank that a backend can store.
        """
        envelope = delivery.envelope
        counts = ("attempt", "generation", "hop")
        wrong = [name for name in counts if not 0 <= getattr(envelope, name) <= MAX_COUNT]
        zeros: dict[str, Any] = dict.fromkeys(wrong, 0)
        counted = attrs.evolve(envelope, **zeros)
        error = f"{' and '.join(wrong)} not between 0 and {MAX_COUNT:,}"
        return self.decide.dead(attrs.evolve(delivery, envelope=counted), reason="malformed", error=error)

    def call(self, run: Run) -> Outcome:
        """Run a synchronous body to its end, with its own context variables, and decide."""
        return self.variables().run(self._call, run)

    def _call(self, run: Run) -> Outcome:
        message = run.message
        if not message.is_open or message.gather is not None:
            early = self._opened(run)
            if early is None and message.gather is not None:
                early = self._gather(run)
            if early is not None:
                return early
        token = enter(run.context)
        run.started = self._monotonic()
        try:
            if run.timeout is None:
                value, problem = self._open_body(run)
            else:
                value, problem = self._limited_body(run, Guard())
            if run.resources is not None:
                return self._close(run, run.resources, value, problem)
        finally:
            leave(token)
        return self._returned(run, value) if problem is None else self._raised(run, problem)

    def _body(self, run: Run) -> tuple[Any, BaseException | None]:
        generation = forks.generation
        value, problem = None, None
        try:
            if run.task.parameters.injected:
                run.injected = scope_of(run).values(run.task.parameters.injected)
            value = self._invoke(run)
        except BaseException as error:  # noqa: BLE001 - also SystemExit: a task must not end its worker
            problem = error
        if forks.generation != generation:
            children.leave(problem)
        return value, problem

    def _open_body(self, run: Run) -> tuple[Any, BaseException | None]:
        """Run a body without a time limit. A cancellation may be raised anywhere in here, but not after it returns."""
        value, problem = None, None
        try:
            value, problem = self._body(run)
            run.leave_body()  # an exception that arrives only now did not stop the body
        except Interruption as error:
            problem = surely(run.leave_body, error)
        return value, problem

    def _limited_body(self, run: Run, guard: Guard) -> tuple[Any, BaseException | None]:
        """Run a body under a time limit. *guard* may raise anywhere in here, but not after it returns."""
        value, problem = None, None
        try:
            run.guard = guard
            value, problem = self._body(run)
            late = guard.close()
        except Interruption as error:
            late = surely(guard.close, error)
        problem = problem or late
        if guard.fired and isinstance(problem, TaskTimeout):
            problem.args = (f"ran longer than {run.timeout:g} s",)
        return value, problem

    async def acall(self, run: Run) -> Outcome:
        """Run a coroutine function's body to its end and decide. A cancellation of the surrounding task is raised.

        The caller creates that task with :attr:`variables`.
        """
        import asyncio

        early = None if run.message.is_open else self._opened(run)
        if early is None and run.message.gather is not None:
            early = await asyncio.get_running_loop().run_in_executor(None, self._gather, run)
        if early is not None:
            return early
        if run.task.parameters.injected:
            return await self._acall_with_resources(run)
        token, generation = enter(run.context), forks.generation
        run.started = self._monotonic()
        try:
            value, problem = await self._ainvoke(run), None
        except asyncio.CancelledError:
            if forks.generation == generation:
                raise
            children.leave(None)
        except BaseException as error:  # noqa: BLE001 - also SystemExit: a task must not end its worker
            value, problem = None, error
        finally:
            leave(token)
        if forks.generation != generation:
            children.leave(problem)
        return self._returned(run, value) if problem is None else self._raised(run, problem)

    async def _acall_with_resources(self, run: Run) -> Outcome:
        """Run a body like :meth:`acall`, with resources that are closed when its outcome is known."""
        import asyncio

        token, generation = enter(run.context), forks.generation
        run.started = self._monotonic()
        scope, value, problem = scope_of(run), None, None
        try:
            try:
                run.injected = await scope.avalues(run.task.parameters.injected)
                value = await self._ainvoke(run)
            except BaseException as error:  # noqa: BLE001 - also SystemExit: a task must not end its worker
                problem = error
            if forks.generation != generation:
                children.leave(problem)
            outcome, seen = self._foreseen(run, value, problem)
            late = await scope.aclose(seen)
            if isinstance(problem or late, asyncio.CancelledError):
                raise problem or late or asyncio.CancelledError
            return self._closed(run, outcome, problem or late)
        finally:
            leave(token)

    def _close(self, run: Run, scope: TaskScope, value: Any, problem: BaseException | None) -> Outcome:
        """Close the resources of a body that returned *value* or raised *problem*, and decide."""
        outcome, seen = self._foreseen(run, value, problem)
        late = scope.close(seen)
        return self._closed(run, outcome, problem or late)

    def _foreseen(
        self, run: Run, value: Any, problem: BaseException | None
    ) -> tuple[Outcome | None, BaseException | None]:
        """Return the outcome of a body that returned, and the error that its resources see: none only if it counts."""
        run.ended = self._monotonic()
        if problem is not None:
            return None, problem
        outcome = self.decide.returned(run, value)
        if run.context.lost or run.decided:
            return outcome, Cancelled("another outcome of the message counts, or its lease is lost")
        if isinstance(outcome.settlement, Dead):
            return outcome, EncodeError(outcome.settlement.error)
        return outcome, None if outcome.status == "done" else EncodeError("the result cannot be stored")

    def _closed(self, run: Run, outcome: Outcome | None, problem: BaseException | None) -> Outcome:
        """Return the outcome after the resources are closed; *problem* may be what that raised."""
        if problem is not None or outcome is None:
            return self._raised(run, problem or RuntimeError("no outcome"))
        return self._finished(run, outcome, None)

    def call_on_loop(self, run: Run) -> Outcome:
        """Run a coroutine function's body to its end on a new event loop in this thread, and decide."""
        import asyncio

        async def whole() -> Outcome:
            try:
                return await self.acall(run)
            except asyncio.CancelledError as error:
                return self._raised(run, self.timed_out(run) if run.timed_out else error)

        if self.keeps_loop and run.task.parameters.injected:
            return self._call_on_kept_loop(run, whole())
        runner, generation = asyncio.Runner(), forks.generation
        try:
            loop = runner.get_loop()
            body, variables = whole(), contextvars.copy_context()
            task = loop.create_task(body, context=variables)
            run.coroutine = task
            while not task.done():
                # A task that the body started may end the loop by SystemExit, or stop it: run it until the body ends.
                try:
                    loop.run_until_complete(task)
                except BaseException as error:  # noqa: BLE001
                    if forks.generation != generation:
                        children.leave(error)
                    # RuntimeError means that the loop was stopped and can go on; after other errors it is broken.
                    if loop.is_closed() or not isinstance(error, RuntimeError | SystemExit | KeyboardInterrupt):
                        with contextlib.suppress(BaseException):
                            variables.run(body.close)
                        return self._raised(run, error)
            return task.result()
        finally:
            with contextlib.suppress(BaseException):  # raised by tasks that the body left behind
                runner.close()

    @staticmethod
    def _call_on_kept_loop(run: Run, whole: Coroutine[Any, Any, Outcome]) -> Outcome:
        """Run a coroutine function's body on the loop of the process, where its resources stay open, and decide."""
        here = contextvars.copy_context()

        def start(loop: asyncio.AbstractEventLoop) -> asyncio.Task[Outcome]:
            run.coroutine = loop.create_task(whole, context=here)
            return run.coroutine

        outcome: Outcome = worker_scope_of(run).run(start)
        return outcome

    def _gather(self, run: Run) -> Outcome | None:
        """Append the results of a group to the arguments; return an outcome if that fails or *run* has ended."""
        message = run.message
        try:
            found = gather(self._runtime, run)
            if isinstance(found, Info):
                info, accepted = found, self._runtime.accepted
                return _of(run, self.decide.done_before(run.delivery, message, info, lambda: info.value(accepted)))
            args, kwargs = [*message.args, found], message.kwargs
            if run.task.parameters.types is not None:
                args, kwargs = run.task.parameters.arrived(args, kwargs, each=message.each)
        except UnavailableError as error:
            return self.put_back(run, error)
        except (MisfitError, ArgumentsError) as error:
            return self._misfit(run, error)
        except BaseException as error:  # noqa: BLE001 - code of a result's class may raise anything: the run failed
            run.ended = self._monotonic()
            return self._failed(run, error)
        run.message = attrs.evolve(message, args=args, kwargs=kwargs, source=None)
        run.context.made_of(call_of, run.message, run.delivery.envelope, run.task.app)
        return self.decide.handed_back(run) if run.decided else None

    def _opened(self, run: Run) -> Outcome | None:
        """Decode the arguments of *run*; return an outcome if they cannot be read (QK9)."""
        try:
            self._read(run)
        except ArgumentsError as error:
            return self._misfit(run, error)
        except NotReadHereError as error:
            outcome = self._held(
                run.delivery, outline(run.delivery.envelope), "no worker could read it", why=error.what
            )
            outcome.run = run
            return outcome
        except BaseException as error:  # noqa: BLE001 - hostile bytes, or user classes that are built from them
            what = error.what if isinstance(error, QueuekitError) else type(error).__name__
            outcome = self.decide.dead(run.delivery, reason="malformed", error=what)
            outcome.run = run
            return outcome
        return None

    def _read(self, run: Run) -> None:
        """Decode the arguments of *run*, and build what the annotations of its task name."""
        message = run.message
        message.open()
        if run.task.parameters.types is not None and message.gather is None:
            me: Any = message  # frozen for type checkers
            me.args, me.kwargs = run.task.parameters.arrived(message.args, message.kwargs, each=message.each)

    def _misfit(self, run: Run, error: QueuekitError) -> Outcome:
        """Dead-letter a message whose arguments do not fit its task."""
        text, message = error.what, run.message
        outcome = self.decide.dead(run.delivery, reason="malformed", error=text, task=message.task, message=message)
        return _of(run, outcome)

    def begin(self, run: Run, *, apart: bool = False, announce: bool = True) -> Outcome | None:
        """Check a prefetched run again before it starts: return an outcome if it must not start, else announce it.

        Args:
            run: The run that is to start.
            apart: Whether another process will decode its arguments.
            announce: Whether to announce it now.
        """
        envelope = run.delivery.envelope
        if envelope.expires is not None and envelope.expires <= self._now(run):
            return self.decide.expired(run.delivery, run.message, run=run)
        if run.context.cancelled:
            return self.decide.cancelled(run.delivery, run.message, run=run)
        if not apart and not run.message.is_open:
            early = self._opened(run)
            if early is not None:
                return early
        if announce and (self._announces or self._events.observed):
            self._announce_start(run)
        if run.task.defaults.track:
            self.track([run], State.STARTED)
        return None

    def announce(self, run: Run) -> None:
        """Emit the event that a run starts, if anything listens."""
        if self._announces or self._events.observed:
            self._announce_start(run)

    def _announce_start(self, run: Run) -> None:
        envelope, due = run.delivery.envelope, due_moment(run.delivery, run.message)
        event = TaskStarted(
            id=envelope.id,
            task=run.message.task,
            queue=envelope.queue,
            attempt=envelope.attempt,
            waited=None if due is None or envelope.generation else max(0.0, self._now(run) - due),
            worker=self._worker,
        )
        self._runtime.events.emit(event)

    def _now(self, run: Run) -> float:
        """Return the current time of the broker's clock."""
        return run.delivery.claimed_at + self._monotonic() - run.received

    def track(self, runs: list[Run], state: State) -> None:
        """Record that *runs* reached *state*, in one round trip; ignore an unavailable backend."""
        backend = self._runtime.backend
        records = [self.decide.moved(run, state) for run in runs if self.decide.keeps_of(run)]
        if backend is None or not records:
            return
        with contextlib.suppress(UnavailableError):
            backend.put(records, condition=Condition.NEWER)

    def begun(self, context: RunContext) -> None:
        """Record the start of a run that reports progress, unless its task ignores its results."""
        backend = self._runtime.backend
        if backend is None or not context.made:
            return
        message, envelope, *_ = context.made
        if not self.decide.keeps(message):
            return
        record = begun(envelope, task=context.task, worker=self._worker, at=self._runtime.clock.time(), ttl=self._ttl)
        with contextlib.suppress(UnavailableError):
            backend.put([record], condition=Condition.NEWER)

    def report(self, id: str, done: float, total: float | None, message: str) -> None:
        """Record a task's progress; ignore an unavailable backend."""
        backend = self._runtime.backend
        if backend is not None:
            body = self._runtime.serializer.dumps([done, total, message])
            with contextlib.suppress(UnavailableError):
                backend.put([Record(key=progress_key(id), body=body, ttl=_PROGRESS_TTL)])

    def _returned(self, run: Run, value: Any) -> Outcome:
        run.ended = self._monotonic()
        outcome = self.decide.returned(run, value)
        if self._after or len(run.delivery.envelope.body) > LITTLE:
            return self._finished(run, outcome, None)
        return outcome  # as most; a call costs each message a tenth of a microsecond

    def _finished(self, run: Run, outcome: Outcome, error: BaseException | None) -> Outcome:
        if self._after:
            self._stage_after(run, outcome, error)
        if len(run.delivery.envelope.body) > LITTLE:
            run.message.close()
        return outcome

    def _raised(self, run: Run, error: BaseException) -> Outcome:
        run.ended = self._monotonic()
        try:
            outcome = self.decide.stopped(run, error) or self.decide.raised(run, error)
        except BaseException as worse:  # noqa: BLE001 - the user's retry policy raised, or the task asked for something invalid
            outcome = self._failed(run, worse)
        return self._finished(run, outcome, error)

    def _failed(self, run: Run, error: BaseException) -> Outcome:
        """Decide for a run whose own error cannot be handled: *error* says why, if it can be described."""
        try:
            return self.decide.failed(run, error)
        except BaseException:  # noqa: BLE001 - nothing that user code raises may end a worker's thread
            return self.decide.failed(run, RuntimeError("its error cannot be described"))

    def _invoke_inside(self, run: Run) -> Any:
        """Call the function of *run* inside its middlewares. A child that the body forks leaves before they go on."""

        def body() -> Any:
            generation = forks.generation
            try:
                if self._before:
                    self._stage_before(run)
                value = invoke(run)
            except BaseException as error:
                if forks.generation != generation:
                    children.leave(error)
                raise
            if forks.generation != generation:
                children.leave(None)
            return value

        return run_inside(self._around, run.context, body)

    async def _ainvoke_inside(self, run: Run) -> Any:
        """Call the coroutine function of *run* like :meth:`_invoke_inside`."""

        async def body() -> Any:
            generation = forks.generation
            try:
                if self._before:
                    self._stage_before(run)
                value = await ainvoke(run)
            except BaseException as error:
                if forks.generation != generation:
                    children.leave(error)
                raise
            if forks.generation != generation:
                children.leave(None)
            return value

        return await run_inside_async(self._around_async, run.context, body)

    def _stage_before(self, run: Run) -> None:
        for stage in self._before or ():
            stage(run.context)

    def _stage_after(self, run: Run, outcome: Outcome, error: BaseException | None) -> None:
        for stage in self._after or ():
            try:
                stage(run.context, _STATES.get(outcome.status, outcome.status), error)
            except BaseException:  # noqa: BLE001 - also SystemExit: the outcome stands, and the thread must go on
                log_error(_logger, "a middleware failed after %s %s", run.message.task, run.message.id)

    def _not_now(self, delivery: Delivery, message: Message, marks: Mapping[str, Record]) -> Outcome | None:
        """Return an outcome for a message that is cancelled, has already ended, has expired, or is not due yet."""
        envelope = delivery.envelope
        ended = self._ended(delivery, message, marks) if marks else None
        if ended is not None:
            return ended
        if envelope.expires is not None and envelope.expires <= delivery.claimed_at:
            return self.decide.expired(delivery, message)
        if envelope.not_before is not None and self._limits.max_delay is not None:
            left = envelope.not_before - delivery.claimed_at
            if left > self._limits.lease_granularity:
                return self._delayed_again(delivery, min(left, self._limits.max_delay))
        return None

    def _ended(self, delivery: Delivery, message: Message, marks: Mapping[str, Record]) -> Outcome | None:
        """Return an outcome for a message that has already ended or is cancelled, as *marks* say."""
        info = _final_info(message.id, marks.get(result_key(message.id)))
        if info is not None and info.generation >= delivery.envelope.generation:
            return self.decide.done_before(delivery, message, info, lambda: info.value(self._runtime.accepted))
        graph = graph_of(message.id)
        mark = marks.get(cancel_key(message.id)) or (graph and marks.get(cancel_key(graph)))
        return self.decide.cancelled(delivery, message, wish=read_cancellation(mark)) if mark else None

    def _delayed_again(self, delivery: Delivery, delay: float) -> Outcome:
        """Delay a message again whose delay exceeds the broker's limit; counts as neither attempt nor crash."""
        envelope = re_delayed(delivery.envelope, delay=delay)
        return Outcome(delivery=delivery, settlement=Replace(delivery, envelope), status="held")

    def _unreadable(self, delivery: Delivery, marks: Mapping[str, Record], error: NotReadHereError) -> Outcome:
        """Hold a message that a worker with a newer release, or with another serializer, can read."""
        message = outline(delivery.envelope)
        try:
            early = self._not_now(delivery, message, marks)
        except QueuekitError:
            early = None
        return early or self._held(delivery, message, "no worker could read it", why=error.what)

    def _without_task(self, delivery: Delivery, message: Message) -> Outcome:
        """Decide for a message whose task is not known here: as it says itself, else hold it for other workers."""
        lack = f"no worker knew the task {message.task!r}"
        if message.on_unknown not in ("drop", "dead"):
            return self._held(delivery, message, lack)
        text = f"the task {message.task!r} is not known to {self._worker}; on_unknown={message.on_unknown!r}"
        if message.on_unknown == "dead":
            return self.decide.dead(delivery, reason="unknown", error=text, task=message.task, message=message)
        self._report_unknown(delivery, message, 0.0, dropped=True)
        return self.decide.not_known(delivery, message, text)

    def _report_unknown(
        self, delivery: Delivery, message: Message, delay: float, *, why: str = "", dropped: bool = False
    ) -> None:
        event = TaskUnknown(
            id=message.id,
            task=message.task,
            again_in=delay,
            why=why,
            queue=delivery.envelope.queue,
            attempt=delivery.envelope.attempt,
            worker=self._worker,
            dropped=dropped,
        )
        self._runtime.events.emit(event)

    def _held(self, delivery: Delivery, message: Message, lack: str, *, why: str = "") -> Outcome:
        """Hold a message that this worker cannot run yet, with growing delay; finally dead-letter it (QK9)."""
        due = due_moment(delivery, message)
        waited = delivery.claimed_at - (due_of(delivery) if due is None else due)
        if waited >= self._settings.hold_unknown:
            error = f"{lack} for {waited:.0f} s" + (f": {why}" if why else "")
            return self.decide.dead(delivery, reason="unknown", error=error, task=message.task, message=message)
        delay = self._hold_delay(delivery)
        self._report_unknown(delivery, message, delay, why=why)
        return Outcome(delivery=delivery, settlement=Release(delivery, delay=delay), status="held")

    def _hold_delay(self, delivery: Delivery) -> float:
        """Return the seconds until a held message is delivered again; they grow with its deliveries."""
        # Jitter: messages released together would otherwise come back to the same worker together.
        delay = min(_LONGEST_HOLD, 2.0 ** min(delivery.number - 1, 6)) * (1.0 + 0.25 * self._runtime.random.random())
        return delay if self._limits.max_delay is None else min(delay, self._limits.max_delay)

    def paused(self, run: Run, *, lasts: float | None) -> Outcome:
        """Hold a message whose task is paused, with growing delay; that counts as neither attempt nor crash.

        Args:
            run: Not begun.
            lasts: Seconds until the pause ends; ``None`` if it has no end.
        """
        delay = self._hold_delay(run.delivery)
        # Spread what comes back at the end of the pause.
        delay = delay if lasts is None else min(delay, lasts + self._runtime.random.random())
        return Outcome(delivery=run.delivery, settlement=Release(run.delivery, delay=delay), status="held")

    def _note_unknown(self, task: str) -> None:
        if task not in self.unknown:
            self.unknown.append(task)

    def _run(self, delivery: Delivery, message: Message, task: Task[..., Any]) -> Run:
        envelope = delivery.envelope
        usual = message.retries is None and message.retry is None and message.timeout is None
        options = task.defaults if usual and message.ignore_result is None else resolve(message, task)
        made = (call_of, message, envelope, task.app)
        return _run(
            delivery=delivery,
            message=message,
            task=task,
            context=context_of(message, envelope, self._worker, made, self._report),
            options=options,
            received=self._monotonic(),
            timeout=options.timeout,
            early=task.defaults.ack == "early",
        )

    def _suspect(self, run: Run, marks: Mapping[str, Record]) -> Run | Outcome:
        """Dead-letter a message that has caused too many crashes; otherwise run it as a suspect (QK6)."""
        delivery = run.delivery
        found = [marks[key] for key in entered_keys(delivery) if key in marks]
        known = delivery.crashes if self._runtime.backend is None else len(found)
        most = self._settings.max_deliveries
        if known >= most or delivery.crashes >= max(_CRASHES_UNSEEN, most):
            return self.crashed(run, known) if known >= most else self._never_entered(run)
        run.suspect, run.known_crashes, run.unseen = True, known, any(mark.body for mark in found)
        return run

    def timed_out(self, run: Run) -> TaskTimeout:
        """Return the error of a body that was interrupted at its time limit."""
        return TaskTimeout(f"ran longer than {run.timeout:g} s")

    def raised(self, run: Run, error: BaseException) -> Outcome:
        """Decide for a body that was ended from outside by *error*."""
        return self._raised(run, error)

    def put_back(self, run: Run, error: BaseException) -> Outcome:
        """Decide for a run whose body could not start because of *error*.

        If an engine does not answer, or no process could be started for it, the message is delivered again after a
        few seconds, uncounted. Any other error is unexpected and counts as a failure of the task, so that it ends.
        """
        if isinstance(error, UnavailableError):
            doing = f"begin {run.message.task}"
            self._runtime.events.emit(EngineDown(doing=doing, error=error.what, retry_in=_PUT_BACK))
        else:
            log_error(_worker_logger, "cannot run %s %s", run.message.task, run.message.id, error=error)
        if isinstance(error, UnavailableError | OSError | EOFError):
            return self.decide.raised(run, Snooze(_PUT_BACK))
        return self._raised(run, error)

    def cancelled(self, run: Run) -> Outcome:
        """Decide for a body that ended because its message was cancelled."""
        run.ended = self._monotonic()
        outcome = self.decide.cancelled(run.delivery, run.message, run=run)
        if self._after:
            self._stage_after(run, outcome, None)
        return outcome

    def _never_entered(self, run: Run) -> Outcome:
        """Decide for a message whose processes died too often before its body ran."""
        error = f"the process that held it died {run.delivery.crashes} times, each time before its body ran"
        return self.decide.dead(run.delivery, reason="crashed", error=error, task=run.message.task, message=run.message)

    def crashed(self, run: Run, times: int, how: str = "") -> Outcome:
        """Decide for a message whose body crashed its process *times* times, the last time by *how*."""
        error = f"its worker process died {times} times while it ran" + (f", last {how}" if how else "")
        return self.decide.dead(run.delivery, reason="crashed", error=error, task=run.message.task, message=run.message)


def worker_scope_of(run: Run) -> WorkerScope:
    """Return the resources of the process for the app that declares the task of *run*."""
    app: Any = run.task.app  # the resource that the task takes belongs to it
    scope: WorkerScope = app.resources
    return scope


def scope_of(run: Run) -> TaskScope:
    """Return new resources for *run*."""
    from queuekit.execution.task_scope import TaskScope  # imports asyncio, which most tasks do not need

    run.resources = scope = TaskScope(worker_scope_of(run), run.context)
    return scope


def _of(run: Run, outcome: Outcome) -> Outcome:
    """Return *outcome* with its *run*, which the worker counts as in flight until the outcome is settled."""
    outcome.run = run
    return outcome


def _final_info(id: str, record: Record | None) -> Info | None:
    """Return the facts of a final record; ``None`` if there is none, or if it cannot be read and so proves nothing."""
    if record is None or not record.final:
        return None
    try:
        return read_info(id, record)
    except DecodeError:
        return None
