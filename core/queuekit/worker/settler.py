"""Write outcomes, in one thread: each round trip writes all outcomes that arrived since the last one."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Callable

from queuekit.broker import Dead
from queuekit.client.outage import Outage
from queuekit.client.runtime import Runtime
from queuekit.errors import UnavailableError
from queuekit.events import LeasesLost
from queuekit.execution.commit import writable, write
from queuekit.execution.ending import unwritten
from queuekit.execution.outcome import Outcome
from queuekit.execution.workflow_advance import WorkflowAdvancer
from queuekit.failure import in_words
from queuekit.logs.errors import log_error
from queuekit.worker.unwritten_outcomes import UnwrittenOutcomes

__all__ = ["Settler"]

_logger = logging.getLogger("queuekit.worker")
_LARGEST_BATCH = 1_000
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0


class Settler:
    """Settles at once when idle, and in batches of hundreds when busy.

    While an engine does not answer, outcomes are kept in memory and settled when it is back.

    Args:
        runtime: Broker, backend, clock.
        workflows: Advances workflows.
        worker: Name of the worker, for events.
        on_settled: Called with each batch that is settled.
        unwritten: Notified of each round trip.
    """

    def __init__(
        self,
        runtime: Runtime,
        workflows: WorkflowAdvancer,
        *,
        worker: str = "",
        on_settled: Callable[[list[Outcome]], None],
        unwritten: UnwrittenOutcomes | None = None,
    ) -> None:
        self._runtime = runtime
        self._workflows = workflows
        self._worker = worker
        self._on_settled = on_settled
        self._batch = min(_LARGEST_BATCH, runtime.broker.limits.max_batch)
        self._inbox: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._unwritten = unwritten or UnwrittenOutcomes()
        self._unwritten.waiting = self._inbox.qsize
        self.turns: int | None = None
        """Round trips begun; ``None`` while there is nothing to do but wait."""
        self.seconds = 0.0
        """Seconds that the last round trip took, while its batch is reported."""
        self._trips = itertools.count()
        self._interrupted: Outcome | None = None
        self._give_up = threading.Event()
        self._outage = Outage(runtime, doing="settle", first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)
        self.put = self._inbox.put
        """Add an outcome; never blocks."""
        self.thread = threading.Thread(target=self._loop, name="queuekit-settler", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self, timeout: float) -> None:
        """Settle all outcomes and end; after *timeout* seconds, give up on an engine that does not answer."""
        self._inbox.put(None)
        self.thread.join(timeout)
        self._give_up.set()
        self.thread.join(1.0)

    def _loop(self) -> None:
        closing = False
        while not closing:
            batch, closing = self._collect()
            if batch:
                began = self._runtime.clock.monotonic()
                self._unwritten.writing = len(batch)
                self._flush(batch)
                self.turns = None
                self._unwritten.wrote(len(batch), self._runtime.clock.monotonic() - began)

    def _collect(self) -> tuple[list[Outcome], bool]:
        """Wait for an outcome, then take all that have arrived."""
        batch: list[Outcome] = []
        outcome = self._inbox.get()
        take = self._inbox.get_nowait
        try:
            while outcome is not None:
                batch.append(outcome)
                if len(batch) >= self._batch:
                    return batch, False
                outcome = take()
        except queue.Empty:
            return batch, False
        return batch, True

    def _flush(self, batch: list[Outcome]) -> None:
        """Write *batch*, and retry until the engine answers: each step is idempotent (QK12).

        From the second failure on, try ever smaller parts: the engine may be too slow for the whole batch.
        """
        size, outage, now = len(batch), self._outage, self._runtime.clock.monotonic
        while batch and not self._give_up.is_set():
            part = batch[:size]
            self.turns = next(self._trips)
            began = now()
            try:
                part, lost = self._write(part)
            except UnavailableError as error:
                self.turns = None
                self._give_up.wait(outage.failed(error.what))
                size = max(1, size // 2) if outage.failures > 1 else size
                continue
            except BaseException as error:  # noqa: BLE001 - logged once the outcome that causes it is found
                self._part(part, error)
            else:
                if outage.failures:
                    outage.over()
                self.seconds = now() - began
                self._report(part, lost)
            batch = batch[len(part) :]

    def _part(self, batch: list[Outcome], error: BaseException) -> None:
        """Find the outcome that the engine refuses, so that the others of its batch are settled (QK8)."""
        if len(batch) > 1:
            middle = len(batch) // 2
            self._flush(batch[:middle])
            self._flush(batch[middle:])
            return
        (outcome,) = batch
        if not isinstance(error, Exception) and self._interrupted is not outcome:
            self._interrupted = outcome  # raised by a body in this thread, such as SystemExit: no fault of the outcome
            self._flush(batch)
            return
        log_error(_logger, "the outcome of %s cannot be written", outcome.delivery.id, error=error)
        if outcome.records or outcome.sends or outcome.joins:
            text = f"its outcome could not be written: {in_words(error)}"[:2000]
            outcome.records, outcome.joins, outcome.sends = (), (), ()
            outcome.ended, outcome.expanded = unwritten(outcome.delivery, outcome.ended, text), False
            outcome.settlement = Dead(outcome.delivery, reason="failed", error=text)
            self._flush(batch)
        else:
            self._report(batch, batch)

    def _report(self, batch: list[Outcome], lost: list[Outcome]) -> None:
        if lost:
            ids = tuple(one.delivery.id for one in lost)
            self._runtime.events.emit(LeasesLost(count=len(lost), ids=ids, worker=self._worker))
            for outcome in lost:
                outcome.status = "lost"
        self._on_settled(batch)

    def _write(self, batch: list[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
        """Advance workflows and write as many outcomes at the start of *batch* as one round trip takes.

        Returns:
            The outcomes that were written, and those of them whose lease was lost.
        """
        self._workflows.expand(batch)
        part = batch[: writable(self._runtime, batch)]
        return part, write(self._runtime, part, lose=self._workflows.lose)
