"""What a worker process reports of itself in its presence record."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from queuekit.client.runtime import Runtime
from queuekit.execution.outcome import Run
from queuekit.wire.presence import MOST_RUNS
from queuekit.worker.memory import resident_bytes

__all__ = ["Report", "about_this_process"]


class Report:
    """Collects the fields of :class:`~queuekit.wire.presence.Presence` that change, each time anew.

    Args:
        runtime: Clock, and capabilities of the broker.
        runs: Returns the runs in flight.
        done: Returns how many deliveries have ended so far.
        silence: Returns for how many seconds the broker has not answered.
        ages: Returns by queue how long the oldest message of the last batch waited.
        draining: Returns whether the worker takes no more messages.
        unknown: Names of tasks that arrived and are not known, oldest first.
        paused: Returns the marks of the pauses that the worker obeys.
        gate: Returns why a gate of the app holds all messages back; empty if none does.
        recycling: Returns why another process has taken its place; empty if none has.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        runs: Callable[[], Iterable[Run]],
        done: Callable[[], int],
        silence: Callable[[], float],
        ages: Callable[[], dict[str, float]],
        draining: Callable[[], bool],
        unknown: Iterable[str],
        paused: Callable[[], list[str]] = list,
        gate: Callable[[], str] = str,
        recycling: Callable[[], str] = str,
    ) -> None:
        self._inspects = runtime.broker.capabilities.inspect
        self._monotonic = runtime.clock.monotonic
        self._runs = runs
        self._done = done
        self._silence = silence
        self._ages = ages
        self._draining = draining
        self._unknown = unknown
        self._paused = paused
        self._gate = gate
        self._recycling = recycling
        self._since = self._monotonic()
        self._last = (self._since, 0)
        """Monotonic time of the last report, and the number of deliveries that had ended by then."""

    def __call__(self) -> dict[str, Any]:
        """Return the fields; the rate is that since the last call."""
        now = self._monotonic()
        started = [(run.started, run) for run in self._runs() if run.started is not None and not run.decided]
        started.sort(key=lambda pair: pair[0])
        rows = [
            (run.message.id, run.message.task, run.delivery.envelope.queue, round(max(0.0, now - since), 1))
            for since, run in started[:MOST_RUNS]
        ]
        facts: dict[str, Any] = {
            "silent": round(self._silence(), 1),
            "draining": self._draining(),
            "recycling": self._recycling(),
            "rss": resident_bytes(),
            "uptime": round(now - self._since, 1),
            "rate": self._rate(now),
            "runs": rows,
            "unknown": list(self._unknown),
            "paused": self._paused(),
            "gate": self._gate(),
        }
        if not self._inspects:
            facts |= {"begun": [row[0] for row in rows], "ages": self._ages()}
        return facts

    def _rate(self, now: float) -> float:
        (before, counted), done = self._last, self._done()
        self._last = (now, done)
        return round((done - counted) / max(now - before, 1e-3), 2) if now > before else 0.0


def about_this_process(runtime: Runtime) -> dict[str, Any]:
    """Return the fields that stay the same for the life of a worker."""
    settings = runtime.config.worker
    facts: dict[str, Any] = {
        "queues": list(settings.queues),
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "slots": settings.concurrency,
        "pool": settings.pool,
        "version": "",
        "app_version": runtime.config.app_version or "",
    }
    with suppress(PackageNotFoundError):
        facts["version"] = version("queuekit")
    return facts
