"""Puts an app on the engines of a test, and back."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator

import attrs

from queuekit.app import Queuekit
from queuekit.broker import Place
from queuekit.clock import Clock, SystemClock
from queuekit.config.settings import NO_BACKEND
from queuekit.ids import new_id
from queuekit.urls import EngineURL
from queuekit_testing.application.clock import StandingClock
from queuekit_testing.application.ledger import WithLedger
from queuekit_testing.application.queue import AppQueue

__all__ = ["queue_of"]


@contextlib.contextmanager
def queue_of(app: Queuekit, *, url: str | None = None, start: int | None = None) -> Iterator[AppQueue]:
    """Put *app* on an engine in memory and a clock that stands still, and give its queue.

    Args:
        app: The app. Its tasks, schedules, settings, middleware and subscribers stay; its connections are not used.
        url: URL of another engine, whose queues are emptied before and after. Then the clock is the real one.
        start: Initial time in UTC epoch seconds; default: now, in whole seconds.
    """
    virtual = url is None
    clock: Clock = StandingClock(start) if virtual else SystemClock()
    with _elsewhere(app, url or f"memory://test-{new_id()}", clock):
        queue = AppQueue(app, clock)
        if not virtual:
            _empty(queue)
        try:
            yield queue
        finally:
            queue.close()
            if not virtual:
                _empty(queue)


@contextlib.contextmanager
def _elsewhere(app: Queuekit, url: str, clock: Clock) -> Iterator[None]:
    config, plugins, events = app.config, app.plugins, copy.copy(app.events)
    vars(events)["_subscribers"] = [*vars(events)["_subscribers"]]
    kept = dict(vars(app))
    resources = app.resources
    # A service without records, such as SQS, gets those of this process.
    records = url if plugins.has_backend(EngineURL.parse(url).scheme) else f"memory://test-{new_id()}"
    backend = NO_BACKEND if config.backend == NO_BACKEND else records
    checks = True if "check_types" not in config.settings else config.check_types
    changed = attrs.evolve(config, broker=url, backend=backend, eager=False, check_types=checks)
    vars(app).update(
        _config=changed,
        _plugins=plugins,
        _events=events,
        _chance=random.Random(0),  # noqa: S311 - the same in each run of a test
        _threads=type(kept["_threads"])(),
        clock=clock,
        _scope=None if resources is None else resources.again(),
        **dict.fromkeys(("_runtime", "_sending", "_results")),
    )
    broker = app.runtime.broker
    if not broker.capabilities.inspect:
        vars(app)["_runtime"] = attrs.evolve(app.runtime, broker=WithLedger(broker, clock))
    try:
        yield
    finally:
        app.close()
        vars(app).update(kept)


def _empty(queue: AppQueue) -> None:
    """Delete all messages of the queues that the app uses."""
    broker = queue.app.runtime.broker
    if isinstance(broker, WithLedger):
        return  # it deletes what is not its own
    names = {task.defaults.queue or queue.app.config.default_queue for task in queue.app.tasks.values()}
    for name in {*names, *broker.queues()}:
        for place in Place:
            if place is Place.LEASED:
                ids = [stored.envelope.id for stored in broker.walk(name, place)]
                broker.remove(name, ids) if ids else []
            else:
                broker.purge(name, place=place)
