"""Answer an operator's requests for the stacks of running bodies."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from queuekit.backend import Backend
from queuekit.client.runtime import Runtime
from queuekit.errors import UnavailableError
from queuekit.execution.outcome import Run
from queuekit.logs.errors import log_error
from queuekit.wire.stacks import Frame, StackReport, ask_key, reported
from queuekit.worker.stacks import frames_of_thread

if TYPE_CHECKING:
    from queuekit.worker.async_pool import LoopPool
    from queuekit.worker.isolation import Isolation

__all__ = ["StackReporter"]

_logger = logging.getLogger("queuekit.worker")


class StackReporter:
    """Reads stacks and writes the answers, in a thread of its own: meanwhile the watchdog enforces time limits.

    Args:
        runtime: Its backend gets the answers.
        worker: Name of the worker.
        in_threads: Returns the runs in threads, each with its row.
        thread_of: Returns the identifier of the thread of a row.
        loop: Returns the pool of the event loop, if there is one.
        isolation: Runs bodies in processes of their own, if there is one.
        is_apart: Returns whether the body of a run is in a process of its own.
        running: Returns how many bodies run in this process.
        replaceable: Whether a supervisor replaces this process if it ends.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        worker: str,
        in_threads: Callable[[], Sequence[tuple[int, Run]]],
        thread_of: Callable[[int], int],
        loop: Callable[[], LoopPool | None],
        isolation: Isolation | None,
        is_apart: Callable[[Run], bool],
        running: Callable[[], int],
        replaceable: bool,
    ) -> None:
        self._runtime = runtime
        self._worker = worker
        self._in_threads = in_threads
        self._thread_of = thread_of
        self._loop = loop
        self._isolation = isolation
        self._is_apart = is_apart
        self._running = running
        self._replaceable = replaceable

    def answer(self, requests: Mapping[str, Run]) -> None:
        """Answer *requests*, tokens with the runs that they are about; does not wait for the answers."""
        threading.Thread(target=self._answer, args=(requests,), name="queuekit-stacks", daemon=True).start()

    def _answer(self, requests: Mapping[str, Run]) -> None:
        backend = self._runtime.backend
        if backend is None:
            return
        for token, run in requests.items():
            try:
                self._write(backend, token, run)
            except UnavailableError:
                return
            except Exception:  # noqa: BLE001 - a stack that cannot be read leaves others readable
                log_error(_logger, "unexpected error while reading a stack")

    def _write(self, backend: Backend, token: str, run: Run) -> None:
        id = run.message.id
        with suppress(UnavailableError):  # it expires
            backend.delete([ask_key(id)])
        report = self._report(run)
        if report is not None:
            backend.put([reported(id, token, report)])

    def _report(self, run: Run) -> StackReport | None:
        """Return where *run* is; ``None`` if its body has ended."""
        since, now = run.started, self._runtime.clock.monotonic()
        kind, pid, frames = self._find(run)
        if since is None or run.decided:
            return None
        return StackReport(
            worker=self._worker,
            host=socket.gethostname(),
            pid=pid,
            kind=kind,
            task=run.message.task,
            seconds=round(max(0.0, now - since), 1),
            others=0 if kind == "process" else max(0, self._running() - 1),
            replaceable=self._replaceable,
            frames=frames,
            note="" if frames else "its stack could not be read: it is just starting or ending",
        )

    def _find(self, run: Run) -> tuple[str, int, tuple[Frame, ...]]:
        if self._isolation is not None and self._is_apart(run):
            pid, frames = self._isolation.stack_of(run)
            return "process", pid, frames
        loop = self._loop()
        if run.task.is_async and loop is not None:
            return "coroutine", os.getpid(), loop.stack_of(run)
        row = next((row for row, other in self._in_threads() if other is run), None)
        return "thread", os.getpid(), () if row is None else frames_of_thread(self._thread_of(row))
