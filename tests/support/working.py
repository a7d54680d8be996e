"""Apps on engines of their own, and workers on them: what most tests of the core begin with."""

import random
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from queuekit import Queuekit
from queuekit.backend import Record
from queuekit.broker import Delivery, Place, Stored
from queuekit.client.sender import Sending
from queuekit.clock import Clock, VirtualClock
from queuekit.events import Event
from queuekit.execution.commit import write
from queuekit.execution.executor import Executor
from queuekit.execution.outcome import Outcome, Run
from queuekit.execution.workflow_advance import WorkflowAdvancer
from queuekit.worker import Worker
from queuekit_testing.kit import unique_name
from support.flaky import FlakyBackend, FlakyBroker
from support.waiting import PATIENCE

E = TypeVar("E", bound=Event)
T = TypeVar("T")


def make_app(*, clock: Clock | None = None, **settings: Any) -> Queuekit:
    """Return an app on a memory engine that nobody else uses, with chance that is the same each time."""
    settings.setdefault("broker", f"memory://{unique_name('app')}")
    return Queuekit(clock=clock, chance=random.Random(7), **settings)


def flaky_app(**settings: Any) -> Queuekit:
    """Return an app whose broker and backend are separate engines, each behind a wire that can be cut."""
    engines = {"broker": f"flaky://{unique_name('b')}", "backend": f"flaky://{unique_name('r')}"}
    return make_app(**{**engines, "plugins": {"load": ["support.flaky"]}, **settings})


def with_same(app: Queuekit) -> Queuekit:
    """Return *app* with one task, ``same``."""

    @app.task(name="same")
    def same(x: int) -> int:
        """Return *x*."""
        return x

    return app


def broker_of(app: Queuekit) -> FlakyBroker:
    """Return the broker of a flaky app."""
    broker = app.runtime.broker
    assert isinstance(broker, FlakyBroker)
    return broker


def backend_of(app: Queuekit) -> FlakyBackend:
    """Return the backend of a flaky app."""
    backend = app.runtime.backend
    assert isinstance(backend, FlakyBackend)
    return backend


def seen(app: Queuekit, kind: type[E]) -> list[E]:
    """Return a list that fills with the app's events of *kind*."""
    found: list[E] = []
    app.events.subscribe(lambda event: found.append(event) if isinstance(event, kind) else None)
    return found


def burst(app: Queuekit, **options: Any) -> Worker:
    """Work until the queues are empty, and return the worker that did."""
    worker = Worker(app, burst=True, **options)
    worker.run()
    return worker


@contextmanager
def working(app: Queuekit, **options: Any) -> Iterator[Worker]:
    """Yield a worker that runs in a thread, and stop it in the end."""
    worker = Worker(app, **options)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        yield worker
    except BaseException as error:
        error.add_note(_account(worker))
        raise
    finally:
        worker.stop("the test is over")
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the worker does not stop"


def _account(worker: Worker) -> str:
    """Return what *worker* holds and where its threads are, for who reads why a test failed."""
    broker, names = worker.app.runtime.broker, {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames().items()
    lines = [f"{worker.load()} {worker.stats} {broker.counts(list(worker.app.config.worker.queues))}"]
    lines += [f"{names.get(ident)}:\n{''.join(traceback.format_stack(frame)[-6:])}" for ident, frame in frames]
    return "\n".join(lines)


def take(app: Queuekit, count: int = 1, *, queue: str = "default", lease: float = 30.0) -> list[Delivery]:
    """Return *count* deliveries, as a worker would get them."""
    deliveries = app.runtime.broker.receive([queue], limit=count, wait=0, lease=lease)
    assert len(deliveries) == count
    return deliveries


def take_one(app: Queuekit, **options: Any) -> Delivery:
    """Return one delivery."""
    (delivery,) = take(app, **options)
    return delivery


def executor_of(app: Queuekit) -> Executor:
    """Return what runs deliveries, without threads."""
    return Executor(app.runtime, app.tasks, Sending(app.runtime, app.tasks), worker="w-1")


def finish(app: Queuekit, delivery: Delivery) -> Outcome:
    """Do with one message all that a worker does, step by step in this thread, and return its outcome."""
    executor, backend = executor_of(app), app.runtime.need_backend("a test")
    found = executor.prepare(delivery, backend.get(executor.keys(delivery)))
    outcome = executor.call(found) if isinstance(found, Run) else found
    workflows = WorkflowAdvancer(app.runtime, Sending(app.runtime, app.tasks))
    workflows.expand([outcome])
    write(app.runtime, [outcome], lose=workflows.lose)
    return outcome


def prepared(app: Queuekit, delivery: Delivery | None = None, *records: Record) -> Run:
    """Return a run for the next message, where *records* are all that the backend holds."""
    run = executor_of(app).prepare(delivery or take_one(app), {record.key: record for record in records})
    assert isinstance(run, Run), run
    return run


def refused(app: Queuekit, delivery: Delivery | None = None, *records: Record) -> Outcome:
    """Return the outcome of the next message, which must not run, where *records* are all that the backend holds."""
    executor = executor_of(app)
    outcome: Run | Outcome | None = executor.prepare(
        delivery or take_one(app), {record.key: record for record in records}
    )
    if isinstance(outcome, Run):
        outcome = executor.begin(outcome)
    assert isinstance(outcome, Outcome), outcome
    return outcome


def needs(app: Queuekit, capability: str) -> None:
    """Skip a test where the broker does not declare *capability*."""
    if not getattr(app.runtime.broker.capabilities, capability):
        pytest.skip(f"capability not declared: {capability}")


def inside(app: Queuekit, place: Place, *, queue: str = "default") -> list[Stored]:
    """Return the messages of a queue in one place."""
    return list(app.runtime.broker.peek(queue, place=place).items)


def counts(app: Queuekit, *, queue: str = "default") -> dict[str, int]:
    """Return how many messages of a queue are where, leaving out places without any."""
    found = app.runtime.broker.counts([queue])[queue]
    places = {place.value: getattr(found, place.value) for place in Place}
    return {place: count for place, count in places.items() if count}


def drive(clock: VirtualClock, future: Future[T], step: float) -> Future[T]:
    """Let time pass in steps whenever somebody waits for it, until *future* is done; and return that."""
    deadline = time.monotonic() + PATIENCE
    while not wait([future], timeout=0.001).done:
        assert time.monotonic() < deadline, "it does not end, however much time passes"
        if clock.waiting:
            clock.advance(step)
    return future
