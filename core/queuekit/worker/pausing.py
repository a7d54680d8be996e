"""What a worker leaves alone: the queues and tasks that operators have paused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from queuekit.backend import Record
from queuekit.client.runtime import Runtime
from queuekit.events import GateChanged, PausesChanged
from queuekit.execution.outcome import Run
from queuekit.wire.pauses import Pause, read_pauses

__all__ = ["Pausing"]


class Pausing:
    """Follows the record of pauses; the watchdog reads it.

    Args:
        runtime: Clock, events, and the queues of the worker.
        worker: Name of the worker.
        serve: Called with the queues to take messages of, and their weights, whenever these change.
        take_back: Called after a change; takes back the runs that wait and that :meth:`holds` now holds.
        report: Called after a change, to report what is paused.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        worker: str,
        serve: Callable[[Mapping[str, float]], None],
        take_back: Callable[[], None],
        report: Callable[[], None],
    ) -> None:
        self._clock = runtime.clock
        self._events = runtime.events
        self._weights = runtime.config.worker.queues
        self._worker = worker
        self._serve = serve
        self._take_back = take_back
        self._report = report
        self._pauses: tuple[Pause, ...] = ()
        self._queues: frozenset[str] = frozenset()
        self._tasks: tuple[Pause, ...] = ()
        self._closed = False
        self._changing = threading.Lock()
        self.gate = ""
        """Why a gate of the app holds all messages back; empty if none does."""
        self.active = False
        """Whether anything is paused that concerns this worker."""
        self.changes = 0
        """How often what it holds back has changed."""

    @property
    def marks(self) -> list[str]:
        """The marks of the pauses that the worker obeys."""
        return [pause.mark for pause in self._pauses]

    def read(self, record: Record | None) -> None:
        """Obey what *record* says."""
        if record is None and not self._pauses:
            return
        with self._changing:
            self._read(record)

    def _read(self, record: Record | None) -> None:
        before, self._pauses = self._pauses, read_pauses(record, now=self._clock.time())
        if [pause.mark for pause in before] == [pause.mark for pause in self._pauses]:
            self._tasks = tuple(pause for pause in self._pauses if pause.task)  # how long they last has changed
            return
        self._queues = frozenset(pause.queue for pause in self._pauses if pause.queue)
        self._tasks = tuple(pause for pause in self._pauses if pause.task)
        self._change()
        self._events.emit(PausesChanged(worker=self._worker, lines=tuple(_line(pause) for pause in self._pauses)))

    def close(self) -> None:
        """Take no more messages of any queue from now on."""
        with self._changing:
            self._closed = True
            self._change()

    def hold(self, why: str) -> None:
        """Take no messages for the reason *why*, as long as it is not empty."""
        with self._changing:
            was, self.gate = self.gate, why
            if bool(was) != bool(why):
                self._change()
            else:
                self._report()
        self._events.emit(GateChanged(worker=self._worker, why=why))

    def _change(self) -> None:
        closed = self._closed or bool(self.gate)
        self.active = bool(closed or self._tasks or self._queues.intersection(self._weights))
        names = [] if closed else [name for name in self._weights if name not in self._queues]
        self.changes += 1
        self._serve({name: self._weights[name] for name in names})
        self._take_back()
        self._report()

    def holds(self, run: Run) -> bool:
        """Return whether the message of *run*, which has not started, is paused."""
        return (
            self._closed
            or bool(self.gate)
            or run.delivery.envelope.queue in self._queues
            or self.of_task(run) is not None
        )

    def of_task(self, run: Run) -> Pause | None:
        """Return the pause that selects *run* by its task; ``None`` if none does, whatever its queue."""
        for pause in self._tasks:
            if pause.names(run.message.task, run.task.name) and _fits(pause, run):
                return pause
        return None


def _line(pause: Pause) -> str:
    why = f": {pause.why}" if pause.why else ""
    return f"{pause.what}, by {pause.by}{why}"


def _fits(pause: Pause, run: Run) -> bool:
    """Return whether the arguments and headers of *run* are those of the pause; false if they cannot be read."""
    if not pause.where:
        return True
    try:
        run.message.open()
    except Exception:  # noqa: BLE001 - hostile bytes; the message becomes a dead letter when its turn comes
        return False
    return any(pause.fits(values) for values in run.message.calls(run.task.parameters.names))
