"""Eager mode: a send runs the task at once, here, through the very path that a worker takes.

Messages go to a memory engine of the app's own, and are taken from there, run and settled before the send returns,
with all that follows from them. Delays, pauses between attempts and expiry pass on a clock that skips ahead.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs

from queuekit.backend import Record
from queuekit.broker import Delivery, Place
from queuekit.client.runtime import Runtime
from queuekit.client.sender import PreparedMessage, Sending, Sent
from queuekit.config.settings import NO_BACKEND, Config
from queuekit.execution.commit import write
from queuekit.execution.executor import Executor
from queuekit.execution.outcome import Outcome, Run
from queuekit.execution.workflow_advance import WorkflowAdvancer
from queuekit.ids import new_id
from queuekit.signature import Signature
from queuekit.tasks.registry import Tasks

__all__ = ["EagerSending", "SkippingClock", "eager_config"]

_FOREVER = 1e9
"""Seconds."""
_LEASE = _FOREVER
"""Seconds; nobody else would take a message over, and skipping ahead must not end a lease."""


_caller: contextvars.ContextVar[contextvars.Context | None] = contextvars.ContextVar("queuekit_caller", default=None)


class SkippingClock:
    """The machine's clock, which can be set forward."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def time(self) -> float:
        """Return UTC epoch seconds."""
        return time.time() + self._ahead

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic() + self._ahead

    def sleep(self, seconds: float) -> None:
        """Let *seconds* have passed."""
        self._ahead += max(0.0, seconds)

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a held *condition* for at most *timeout* seconds; false if the time passed."""
        return condition.wait(timeout)


def eager_config(config: Config) -> Config:
    """Return *config* with a memory engine that nobody else uses, and which forgets nothing when time is skipped."""
    own = f"memory://eager-{new_id()}"
    backend = NO_BACKEND if config.backend == NO_BACKEND else own
    return attrs.evolve(config, broker=own, backend=backend, results_expire=_FOREVER, graphs_expire=_FOREVER)


class EagerSending(Sending):
    """Sends, and runs what was sent before it returns; a task that sends is nested in the same way.

    Args:
        runtime: Made of an :func:`eager_config`.
        tasks: Registered tasks by name.
    """

    def __init__(self, runtime: Runtime, tasks: Tasks) -> None:
        super().__init__(runtime, tasks)
        self._executor = Executor(runtime, tasks, self, worker="eager", variables=_variables)
        self._workflows = WorkflowAdvancer(runtime, self)

    def send_one(self, signature: Signature[Any]) -> Sent:
        """Put *signature* on its queue, and run all that is there."""
        sent = super().send_one(signature)
        self._drain()
        return sent

    def send_ready(self, some: Iterable[PreparedMessage], *, ahead: Sequence[Record] = ()) -> list[Sent]:
        """Put what is prepared on its queues, and run all that is there."""
        sent = super().send_ready(some, ahead=ahead)
        self._drain()
        return sent

    def _drain(self) -> None:
        broker = self._runtime.broker
        while True:
            queues = broker.queues()
            deliveries = broker.receive(queues, limit=1, wait=0, lease=_LEASE)
            for delivery in deliveries:
                self._one(delivery)
            if not deliveries and not self._skip(queues):
                return

    def _skip(self, queues: list[str]) -> bool:
        """Set the clock to the next due time; false if nothing is delayed."""
        broker = self._runtime.broker
        pages = [broker.peek(queue, place=Place.DELAYED, limit=1).items for queue in queues]
        due = [stored.due for items in pages for stored in items]
        if not due:
            return False
        self._runtime.clock.sleep(max(0.0, min(due) - self._runtime.clock.time()) + 0.001)
        return True

    def _one(self, delivery: Delivery) -> None:
        backend = self._runtime.backend
        marks = {} if backend is None else backend.get(self._executor.keys(delivery))
        prepared = self._executor.prepare(delivery, marks)
        outcome = self._run(prepared) if isinstance(prepared, Run) else prepared
        self._workflows.expand([outcome])
        write(self._runtime, [outcome])
        if outcome.event is not None:
            self._runtime.events.emit(outcome.event)

    def _run(self, run: Run) -> Outcome:
        run.context.report_to(self._executor.report, self._executor.begun)
        early = self._executor.begin(run)
        if early is not None:
            return early
        # Nobody looks after the time here: whoever debugs a task may stop in it for as long as they like.
        run.timeout = None
        return self._coroutine(run) if run.task.is_async else self._executor.call(run)

    def _coroutine(self, run: Run) -> Outcome:
        """Run a coroutine to its end: in a thread of its own, since an event loop may be running in this one."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            return pool.submit(_variables().run, self._executor.call_on_loop, run).result()


def _variables() -> contextvars.Context:
    """Return a copy of the variables of who sends, also for what tasks send: they see none of each other's."""
    caller = _caller.get() or contextvars.copy_context()
    own = caller.copy()
    own.run(_caller.set, caller)
    return own
