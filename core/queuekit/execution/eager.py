"""Eager mode: a send runs the task at once, in the caller's process, by the same code as a worker.

Messages go to a private memory engine. They and all their follow-ups are received, run and settled before the send
returns. Delays, retry delays and expiry pass on a clock that skips ahead.
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
from queuekit.execution.announce import announce_claimed, announce_settled
from queuekit.execution.commit import write
from queuekit.execution.executor import Executor
from queuekit.execution.merging import Merger
from queuekit.execution.outcome import Outcome, Run
from queuekit.execution.outcome_hooks import OutcomeHooks
from queuekit.execution.workflow_advance import WorkflowAdvancer
from queuekit.ids import new_id
from queuekit.signature import Signature
from queuekit.tasks.registry import Tasks

__all__ = ["EagerSending", "SkippingClock", "eager_config"]

_FOREVER = 1e9
"""Seconds."""
_LEASE = _FOREVER
"""Seconds; no other worker could take over a message, and skipping ahead must not end a lease."""


_caller: contextvars.ContextVar[contextvars.Context | None] = contextvars.ContextVar("queuekit_caller", default=None)


class SkippingClock:
    """The system clock plus an offset that only grows."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def time(self) -> float:
        """Return UTC epoch seconds."""
        return time.time() + self._ahead

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic() + self._ahead

    def sleep(self, seconds: float) -> None:
        """Skip *seconds* ahead without waiting."""
        self._ahead += max(0.0, seconds)

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a held *condition* for at most *timeout* real seconds; return false on timeout."""
        return condition.wait(timeout)


def eager_config(config: Config) -> Config:
    """Return *config* with a private memory engine that keeps its results when the clock skips ahead."""
    own = f"memory://eager-{new_id()}"
    backend = NO_BACKEND if config.backend == NO_BACKEND else own
    return attrs.evolve(config, broker=own, backend=backend, results_expire=_FOREVER, graphs_expire=_FOREVER)


class EagerSending(Sending):
    """Sends messages and runs them before it returns; sends inside a task are nested in the same way.

    Args:
        runtime: Made from an :func:`eager_config`.
        tasks: Registered tasks by name.
    """

    def __init__(self, runtime: Runtime, tasks: Tasks) -> None:
        super().__init__(runtime, tasks)
        self.joins = False  # a send runs its task
        self._executor = Executor(runtime, tasks, self, worker="eager", variables=_variables)
        self._merger = Merger(runtime, now=self.now, again=lambda one: self._executor.prepare(one, {}))
        self._workflows = WorkflowAdvancer(runtime, self)
        self._hooks = OutcomeHooks(runtime.stages, worker="eager")

    def send_one(self, signature: Signature[Any]) -> Sent:
        """Put *signature* on its queue, and run everything that is queued."""
        sent = super().send_one(signature)
        self._drain()
        return sent

    def send_ready(self, some: Iterable[PreparedMessage], *, ahead: Sequence[Record] = ()) -> list[Sent]:
        """Put prepared messages on their queues, and run everything that is queued."""
        sent = super().send_ready(some, ahead=ahead)
        self._drain()
        return sent

    def check_service_options(self, signature: Signature[Any]) -> None:
        """Accept all options: no service reads them."""

    def _with_service_options(self, signature: Signature[Any]) -> Signature[Any]:
        """Leave *signature* as it is: the options in its message would be those of another broker."""
        return signature

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
        """Set the clock to the next due time; return false if nothing is delayed."""
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
        prepared = self._merger.one(self._executor.prepare(delivery, marks))
        outcome = self._run(prepared) if isinstance(prepared, Run) else prepared
        self._workflows.expand([outcome])
        write(self._runtime, [outcome], lose=self._workflows.lose)
        if outcome.event is not None:
            self._runtime.events.emit(outcome.event)
        announce_settled(self._runtime.events, [outcome], worker="eager")
        if self._hooks:
            self._hooks.call([outcome])

    def _run(self, run: Run) -> Outcome:
        announce_claimed(self._runtime.events, [run], worker="eager")
        early = self._executor.begin(run)
        if early is not None:
            return early
        # No time limit in eager mode: a developer may stop in the body with a debugger.
        run.timeout = None
        return self._coroutine(run) if run.task.is_async else self._executor.call(run)

    def _coroutine(self, run: Run) -> Outcome:
        """Run a coroutine to its end, in another thread, since an event loop may be running in this one."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            return pool.submit(_variables().run, self._executor.call_on_loop, run).result()


def _variables() -> contextvars.Context:
    """Return a copy of the context variables of the outermost sender, so that nested tasks do not see each other's."""
    caller = _caller.get() or contextvars.copy_context()
    own = caller.copy()
    own.run(_caller.set, caller)
    return own
