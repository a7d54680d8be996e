"""The figures of all queues and workers, read once for everybody who looks, with a short history."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait

import attrs

from queuekit.broker import Place, QueueCounts
from queuekit.operations.admin import Admin, QueueView
from queuekit.wire.pauses import Pause
from queuekit.wire.presence import Presence

__all__ = ["Figures", "Sample", "rate_of", "total_of"]

_FRESH = 1.0
"""Seconds for which a sample is shown to others."""
_SHARE = 10.0
"""Times as long as reading takes, for which a sample is shown: reading takes a tenth of the time at most."""
_OLDEST = 10.0
"""Seconds after which a sample is shown to nobody: those who look wait for the next one."""
_SLOW = 1.0
"""Seconds of reading from which on a first look does not wait for another one."""
_STEP = 5.0
"""Seconds between two points of the history."""
_POINTS = 60
"""Points of a sparkline: five minutes."""


@attrs.frozen(kw_only=True)
class Sample:
    """The figures of one moment."""

    at: float
    """UTC epoch seconds."""
    queues: tuple[QueueView, ...]
    workers: tuple[Presence, ...] | None
    """All workers, also silent ones; ``None`` without a backend that can list records."""
    pauses: tuple[Pause, ...]

    @property
    def live(self) -> list[Presence]:
        """The workers that run."""
        return [worker for worker in self.workers or () if worker.live]

    @property
    def rate(self) -> float:
        """Messages per second that all workers finish."""
        return sum(worker.rate or 0.0 for worker in self.live)

    @property
    def unserved(self) -> list[QueueView]:
        """The queues in which messages wait that no worker serves."""
        return [view for view in self.queues if view.workers == 0 and view.counts.ready + view.counts.delayed]

    def faults(self) -> Iterator[str]:
        """Yield what an operator should look at among the workers, a sentence each."""
        for worker in self.workers or ():
            if not worker.live:
                yield f"Worker {worker.name} has been silent for {worker.quiet:.0f} s."
            if worker.live and worker.gate:
                yield f"Worker {worker.name} is held back by its gate: {worker.gate.splitlines()[0][:200]}."
            if worker.unknown:
                yield f"Worker {worker.name} received tasks that its code does not have: {', '.join(worker.unknown)}."


class Figures:
    """Reads the figures of an app, once for all who look, and no more often than is cheap.

    A broker may have to count, which takes longer the more messages wait. So those who look wait only a moment, and get
    the last figures if the next ones are not there by then.

    Args:
        admin: The operator's interface to the app.
        moment: Seconds that those who look wait for the next figures, if there are some of before.
    """

    def __init__(self, admin: Admin, *, moment: float) -> None:
        self._admin = admin
        self._moment = moment
        self._lock = threading.Lock()
        self._last: Sample | None = None
        self._read_at = self._until = float("-inf")
        self._changes = 0
        """How often something was changed, which a reading that had begun before may have missed."""
        self._reading: Future[Sample] | None = None
        self._noted = float("-inf")
        self._history: dict[str, deque[float]] = {}

    def look(self) -> Sample:
        """Return the figures of now, or of a moment ago.

        Raises:
            UnavailableError: An engine does not answer.
        """
        with self._lock:
            last, now = self._last, time.monotonic()
            if last is not None and now < self._until:
                return last
            if now - self._read_at > _OLDEST:
                last = None
            reading = self._reading
            if reading is None:
                reading = self._reading = Future()
                threading.Thread(target=self._read, args=(reading,), name="queuekit-figures", daemon=True).start()
        wait([reading], None if last is None else self._moment)
        return reading.result() if last is None or reading.done() else last

    def history(self, queue: str = "") -> list[float]:
        """Return how many messages waited in *queue* lately, or for no queue the rate of all workers, oldest first."""
        with self._lock:
            return list(self._history.get(queue, ()))

    def warm(self) -> None:
        """Read once before anybody looks. The first look reads again, and shows these figures only if that is slow.

        Raises:
            UnavailableError: An engine does not answer.
        """
        begun = time.monotonic()
        self.look()
        self.forget()
        if time.monotonic() - begun < _SLOW:
            with self._lock:
                self._last = None

    def forget(self) -> None:
        """Read anew at the next look, since something was changed."""
        with self._lock:
            self._changes += 1
            self._until = float("-inf")

    def close(self) -> None:
        """Wait until nothing is read any more."""
        with self._lock:
            reading = self._reading
        if reading is not None:
            wait([reading])

    def _read(self, reading: Future[Sample]) -> None:
        """Read the figures, for all who wait for them."""
        begun, changes = time.monotonic(), self._changes
        try:
            sample = self._sample()
        except BaseException as error:  # noqa: BLE001 - those who wait raise it
            with self._lock:
                self._reading = None
            reading.set_exception(error)
            return
        with self._lock:
            now = time.monotonic()
            self._last, self._reading, self._read_at = sample, None, now
            if changes == self._changes:
                self._until = begun + max(_FRESH, (now - begun) * _SHARE)
            if now - self._noted >= _STEP:
                self._noted = now
                self._note(sample)
        reading.set_result(sample)

    def _sample(self) -> Sample:
        queues = tuple(self._admin.queues())
        workers = self._admin.seen_workers()
        return Sample(
            at=self._admin.now(),
            queues=queues,
            workers=None if workers is None else tuple(sorted(workers, key=lambda one: one.name)),
            pauses=tuple(self._admin.pauses()),
        )

    def _note(self, sample: Sample) -> None:
        points = {view.name: float(view.counts.ready) for view in sample.queues} | {"": sample.rate}
        for gone in self._history.keys() - points.keys():
            del self._history[gone]
        for name, value in points.items():
            self._history.setdefault(name, deque(maxlen=_POINTS)).append(value)


def rate_of(sample: Sample, queue: str) -> tuple[float, bool] | None:
    """Return how many messages per second the workers of *queue* finish, and whether all of these are of that queue.

    Returns:
        ``None`` if no worker of it reports a rate.
    """
    serving = [worker for worker in sample.live if queue in worker.queues and worker.rate is not None]
    if not serving:
        return None
    return sum(worker.rate or 0.0 for worker in serving), all(len(worker.queues) == 1 for worker in serving)


def total_of(queues: Sequence[QueueView]) -> QueueCounts:
    """Return the counts of all *queues* together."""
    numbers = {place: sum(getattr(view.counts, place) for view in queues) for place in Place}
    return QueueCounts(**numbers, at_least=frozenset().union(*(view.counts.at_least for view in queues)))
