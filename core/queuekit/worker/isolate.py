"""Bodies in processes of their own: for suspects of a crash (QK6), and for tasks that must be killable.

The processes are forked by a small server that has imported the app and runs no threads, so one costs a few
milliseconds. A body's process ends when its worker does: it listens on a pipe that only the worker holds.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

import attrs

from queuekit.broker import Delivery, Release
from queuekit.control import TaskTimeout
from queuekit.execute import Executor
from queuekit.loader import AppRef
from queuekit.logs import configure_logging
from queuekit.outcome import Outcome, Run
from queuekit.records import entered_mark
from queuekit.runtime import Runtime

__all__ = ["Isolation"]

_TICK = 0.1
"""Seconds between two looks at a body's time limit and cancel mark."""


class Isolation:
    """Runs bodies in child processes.

    Args:
        runtime: For the marks of suspects.
        executor: Decides for those that never came back.
        ref: How a child finds the app.
        worker: Name of the worker.
        always: Whether all tasks run so (``pool = "process"``), each thread keeping its process.
    """

    def __init__(self, runtime: Runtime, executor: Executor, *, ref: AppRef, worker: str, always: bool) -> None:
        self._runtime = runtime
        self._executor = executor
        self._ref = ref
        self._worker = worker
        self.always = always
        self._context: Any = None
        self._lock = threading.Lock()
        self._kept: dict[int, _Child] = {}

    def call(self, row: int, run: Run) -> Outcome:
        """Run the body of *run* in another process and decide; blocks the calling thread."""
        run.started = self._runtime.clock.monotonic()
        if run.suspect:
            self._mark(run)
        child = self._kept.pop(row, None) if not run.suspect else None
        child = child or self._spawn()
        try:
            outcome = child.call(run)
        finally:
            run.ended = self._runtime.clock.monotonic()
        if outcome is None:
            child.kill()
            outcome = self._timed_out(run) if child.overran else self._died(run, child.exit_reason())
            outcome.run = run
            return outcome
        if run.suspect or not self.always:
            child.close()
        else:
            self._kept[row] = child
        outcome.run = run
        return outcome

    def close(self) -> None:
        """End the processes that are kept."""
        while self._kept:
            self._kept.popitem()[1].close()

    def _mark(self, run: Run) -> None:
        """Leave the mark, before the body, that makes a crash in it known."""
        if self._runtime.backend is not None:
            self._runtime.backend.put([entered_mark(run.delivery)])

    def _spawn(self) -> _Child:
        with self._lock:
            if self._context is None:
                self._context = get_context("forkserver")
                self._context.set_forkserver_preload([__name__, self._ref.target.partition(":")[0]])
            here, there = self._context.Pipe()
            process = self._context.Process(target=_serve, args=(there, self._ref, self._worker), daemon=True)
            process.start()
            there.close()
        return _Child(process, here)

    def _died(self, run: Run, reason: str) -> Outcome:
        """Decide for a body that took its process down."""
        crashes = run.known_crashes + 1
        if crashes >= self._runtime.config.worker.max_deliveries:
            return self._executor.crashed(run, crashes, reason)
        if not run.suspect:
            self._mark(run)
        settlement = Release(run.delivery, delay=min(30.0, 0.5 * 2.0**crashes), counted=True)
        return Outcome(delivery=run.delivery, settlement=settlement, word="crashed")

    def _timed_out(self, run: Run) -> Outcome:
        return self._executor.raised(run, TaskTimeout(f"ran longer than {run.timeout:g} s and was killed"))


class _Child:
    """One process, as its worker sees it."""

    def __init__(self, process: Any, pipe: Connection) -> None:
        self._process = process
        self._pipe = pipe
        self.overran = False

    def call(self, run: Run) -> Outcome | None:
        """Return the outcome, or ``None`` if the process died or ran too long."""
        deadline = None if run.timeout is None else time.monotonic() + run.timeout
        told = False
        try:
            self._pipe.send(run.delivery)
            while not wait([self._pipe, self._process.sentinel], _TICK):
                if run.context.cancelled and not told:
                    self._pipe.send(None)
                    told = True
                if deadline is not None and time.monotonic() >= deadline:
                    self.overran = True
                    return None
            outcome: Outcome = self._pipe.recv()
        except (EOFError, OSError):
            return None
        return outcome

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.join(5)
        self._pipe.close()

    def close(self) -> None:
        """Let it end: it does when the pipe closes."""
        self._pipe.close()
        self._process.join(0.5)
        if self._process.is_alive():
            self.kill()

    def exit_reason(self) -> str:
        """Return how it ended, in words."""
        code = self._process.exitcode
        if code is None or code >= 0:
            return f"exited with code {code}"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"


@attrs.define
class _Inbox:
    """What the watching thread of a child process passes on."""

    deliveries: queue.SimpleQueue[Delivery | None] = attrs.field(factory=queue.SimpleQueue)
    current: Run | None = None


def _serve(pipe: Connection, ref: AppRef, worker: str) -> None:
    """Be a child process: run deliveries one after the other until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    app = ref.load()
    configure_logging(level=app.config.log.level, style=app.config.log.format)
    executor = Executor(app.runtime, app.tasks, app.sending, worker=worker)
    inbox = _Inbox()
    threading.Thread(target=_watch, args=(pipe, inbox), daemon=True).start()
    while (delivery := inbox.deliveries.get()) is not None:
        pipe.send(_run(executor, delivery, inbox))
    os._exit(0)


def _watch(pipe: Connection, inbox: _Inbox) -> None:
    """Take orders; end the process when the worker is gone, so that no body outlives its lease unwatched."""
    while True:
        try:
            order = pipe.recv()
        except (EOFError, OSError):
            os._exit(1 if inbox.current else 0)
        if isinstance(order, Delivery):
            inbox.deliveries.put(order)
        elif inbox.current is not None:
            inbox.current.context.cancel()


def _run(executor: Executor, delivery: Delivery, inbox: _Inbox) -> Outcome:
    prepared = executor.prepare(attrs.evolve(delivery, crashes=0), {})
    if isinstance(prepared, Outcome):
        return prepared
    inbox.current = prepared
    try:
        outcome = _call(executor, prepared)
    finally:
        inbox.current = None
    outcome.run = None
    return outcome


def _call(executor: Executor, run: Run) -> Outcome:
    if not run.task.is_async:
        run.timeout = None
        return executor.call(run)
    import asyncio

    return asyncio.run(executor.acall(run))
