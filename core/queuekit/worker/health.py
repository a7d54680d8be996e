"""End a worker that cannot go on: its process ends and the supervisor starts another, or the worker stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from queuekit.events import Events
from queuekit.execution.outcome import Run
from queuekit.worker.probes import Moves, Pulse, Still
from queuekit.worker.recycling import Usage
from queuekit.worker.run_table import RunTable
from queuekit.worker.watch import Watch

if TYPE_CHECKING:
    from queuekit.worker.async_pool import LoopPool
    from queuekit.worker.blocked import BlockedLoop

__all__ = ["Health"]


class Health:
    """Checks the threads and the event loop of a worker once a second.

    Args:
        worker: Name of the worker.
        events: Receives an event for a blocked loop.
        run_table: The running bodies.
        parts: Returns the threads that must be alive while the worker works.
        pool: Returns the pool of its event loop, if it has one.
        begun: Returns the serials of runs that have started and are not settled.
        more: Further checks; each returns why the worker cannot go on, or an empty text.
        loops: Returns how far the fetch loop and the settle loop have come.
        usage: Returns what the process has used; ``None`` where that has no bound.
        stop: Called with the reason to stop a worker without a supervisor at once.
        on_fault: Ends this process, whose supervisor starts another; ``None`` without a supervisor.
    """

    def __init__(
        self,
        *,
        worker: str,
        events: Events,
        run_table: RunTable,
        parts: Callable[[], Iterable[threading.Thread]],
        pool: Callable[[], LoopPool | None],
        begun: Callable[[], list[int]],
        more: Iterable[Callable[[], str]] = (),
        loops: Callable[[], Moves] = Moves,
        usage: Callable[[], Usage] | None = None,
        stop: Callable[[str], None],
        on_fault: Callable[[str], None] | None,
    ) -> None:
        self._worker = worker
        self._events = events
        self._run_table = run_table
        self._pool = pool
        self._begun = begun
        self._loops, self._usage = loops, usage
        self._fetching, self._settling = Still(), Still()
        self._stop = stop
        self._on_fault = on_fault
        self._blocked: BlockedLoop | None = None
        self._overdue = False
        """Whether the cause is known: a run, or none of them."""
        self.failed = False
        """Whether the worker stopped because of a fault."""
        self.watch = Watch(
            run_table, parts=parts, checks=[self._look_at_loop, *more], on_beat=self._report_pulse, on_fault=self.fail
        )

    def _report_pulse(self) -> None:
        """Write down for the supervisor for how long each loop has not moved."""
        moves, now, pool = self._loops(), time.monotonic(), self._pool()
        asked = None if pool is None else pool.asked
        pulse = Pulse(
            fetch=min(moves.late, self._fetching.look(moves.fetch, now)),
            settle=self._settling.look(moves.settle, now),
            loop=0.0 if asked is None else max(0.0, now - asked),
            down=moves.down,
        )
        self._run_table.report(pulse)
        if self._usage is not None:
            self._run_table.use(self._usage())

    def fail(self, reason: str) -> None:
        """End a worker that cannot go on, as it has lost a thread, or its file descriptors.

        Runs that have started may be the cause, even if they have ended: mark them, or they might repeat it forever.
        """
        if self._on_fault is not None:
            if not self._overdue:
                self._run_table.suspect(self._begun(), time.monotonic())
            self._on_fault(reason)
        self.failed = True
        self._stop(reason)

    def _look_at_loop(self) -> str:
        if self._pool() is None:
            return ""
        if self._blocked is None:
            from queuekit.worker.blocked import BlockedLoop

            self._blocked = BlockedLoop(
                worker=self._worker,
                events=self._events,
                run_table=self._run_table,
                pool=self._pool,
                on_overdue=self._is_overdue,
                on_hung=self._is_hung,
            )
        return self._blocked.check()

    def _is_overdue(self, run: Run) -> str:
        """End the process if a run blocks the event loop past its limit; without a supervisor, give up on the run."""
        if self._on_fault is not None:
            self._overdue = True
            self._run_table.keep_only([run.serial])
            limit = run.time_limit or run.timeout
            return f"{run.message.task} {run.message.id} blocks the event loop past its time limit of {limit:g} s"
        pool = self._pool()
        if pool is not None:
            pool.give_up(run)
        return ""

    def _is_hung(self, task: str) -> str:
        """End the process if code of no run blocks the event loop: the task that left it behind has ended."""
        self._overdue = True
        self._run_table.keep_only([])
        return f"code that {task or 'a task'} left behind blocks the event loop"
