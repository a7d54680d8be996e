"""Processes for the suspects of a crash, and the suspects that wait for one outside the run threads.

The first process takes as long as an import of the app. A thread that waited for it could run nothing else meanwhile,
and after a crash there may be as many suspects as a worker has threads.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from queuekit.execution.run import Run

__all__ = ["SuspectProcesses"]


class Process(Protocol):
    """The part of a process that this module uses."""

    def close(self) -> None:
        """End it."""
        ...


P = TypeVar("P", bound=Process)


class SuspectProcesses(Generic[P]):
    """Assigns a process to each suspect before a thread starts it, and reuses processes that did not crash.

    Args:
        spawn: Returns a process that is ready; may take long.
        submit: Hands suspects that have a process to the threads.
        most: Most processes that may wait for a thread.
    """

    def __init__(self, spawn: Callable[[], P], *, submit: Callable[[Sequence[Run]], None], most: int) -> None:
        self._spawn = spawn
        self._submit = submit
        self._most = most
        self._changed = threading.Condition()
        self._waiting: deque[Run] = deque()
        self._given: dict[int, P | None] = {}
        """The process of each suspect that may start, by serial; ``None`` if none could be created."""
        self._free: list[P] = []
        self._spawning = False
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many suspects have no process yet."""
        return len(self._waiting)

    def may_begin(self, run: Run) -> bool:
        """Return whether *run* may start now; if not, it is submitted again when it has a process."""
        with self._changed:
            if self._closed or run.serial in self._given:
                return True
            if self._free and not run.known_crashes:
                self._given[run.serial] = self._free.pop()
                return True
            self._waiting.append(run)
            begin, self._spawning = not self._spawning, True
        if begin:
            threading.Thread(target=self._spawn_all, name="queuekit-suspects", daemon=True).start()
        return False

    def take(self, run: Run) -> P | None:
        """Return the process of *run*, which starts now; ``None`` if it has none."""
        with self._changed:
            self._changed.notify_all()
            return self._given.pop(run.serial, None)

    def forget(self, run: Run) -> None:
        """Take back the process of *run*, if it has one and will not start."""
        process = self.take(run)
        if process is not None:
            self.give_back(process)

    def give_back(self, process: P) -> None:
        """Keep *process*, whose last body did not crash, for a suspect without known crashes."""
        with self._changed:
            run = next((one for one in self._waiting if not one.known_crashes), None)
            if run is not None:
                self._waiting.remove(run)
                self._given[run.serial] = process
            elif not self._closed:
                self._free.append(process)
        if run is not None:
            self._submit([run])
        elif self._closed:
            process.close()

    def take_waiting(self) -> list[Run]:
        """Take back the suspects that have no process."""
        with self._changed:
            waiting = list(self._waiting)
            self._waiting.clear()
            return waiting

    def close(self) -> list[P]:
        """Assign no more processes, and return the unused ones."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            processes = [*self._free, *filter(None, self._given.values())]
            self._free.clear()
            self._given.clear()
            self._changed.notify_all()
            return processes

    # -- in its own thread, while suspects wait

    def _spawn_all(self) -> None:
        while self._is_wanted():
            try:
                process = self._spawn()
            except BaseException:  # noqa: BLE001 - the thread of each suspect tries again, and reports the error
                self._give_up()
            else:
                self._hand_over(process)

    def _is_wanted(self) -> bool:
        """Wait until there is room for another process; return whether a suspect needs one."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._given) < self._most or not self._waiting)
            self._spawning = bool(self._waiting) and not self._closed
            return self._spawning

    def _hand_over(self, process: P) -> None:
        with self._changed:
            closed = self._closed
            run = self._waiting.popleft() if self._waiting else None
            if run is not None:
                self._given[run.serial] = process
            elif not closed:
                self._free.append(process)
        if run is not None:
            self._submit([run])
        elif closed:
            process.close()

    def _give_up(self) -> None:
        with self._changed:
            runs = list(self._waiting)
            self._waiting.clear()
            self._given |= dict.fromkeys(run.serial for run in runs)
        self._submit(runs)
