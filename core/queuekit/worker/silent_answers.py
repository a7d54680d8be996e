"""Answer and obey an operator in place of a silent worker process.

A body holds its interpreter, or a signal has stopped it.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable

import attrs

from queuekit.backend import Backend, Condition
from queuekit.client.runtime import Runtime
from queuekit.errors import UnavailableError
from queuekit.logs.errors import log_error
from queuekit.wire.records import CANCEL_TTL, Cancellation, cancel_key, cancel_mark, read_cancellation
from queuekit.wire.stacks import Frame, StackReport, ask_key, reported, token_of
from queuekit.worker.lease_table import HeldLease, LeaseTable
from queuekit.worker.run_table import Inside, RunTable
from queuekit.worker.stacks import StackFile

__all__ = ["SilentAnswers"]

_logger = logging.getLogger("queuekit.worker")
_SILENT = 1.5
"""Seconds without a heartbeat after which the supervisor answers for a process."""
_LONGEST_END = 1.0


class SilentAnswers:
    """Looks for requests once a second while a process is silent, in a thread: an engine may not answer.

    Args:
        runtime: Its backend holds the requests.
        pid: Id of the process.
        run_table: The bodies that it runs.
        leases: The messages that it holds.
        stacks: The file into which it writes its stacks at a signal.
        is_stopped: Returns whether a signal has stopped the process.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        pid: int,
        run_table: RunTable,
        leases: LeaseTable,
        stacks: StackFile,
        is_stopped: Callable[[], bool],
    ) -> None:
        self._runtime = runtime
        self._pid = pid
        self._run_table = run_table
        self._leases = leases
        self._stacks = stacks
        self._is_stopped = is_stopped
        self._thread: threading.Thread | None = None
        self._closed = False
        self.doomed = ""
        """Why the process is to be killed, as an operator asked; empty if it is not."""

    def look(self, silence: float, worker: str) -> None:
        """Look for requests unless the last look goes on; *silence* is the number of seconds without a heartbeat."""
        if silence < _SILENT or self._closed or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._answer, args=(worker,), name="queuekit-answers", daemon=True)
        self._thread.start()

    def close(self) -> bool:
        """End; return whether nothing uses the memory of the process any more."""
        self._closed = True
        if self._thread is not None:
            self._thread.join(_LONGEST_END)
        self._stacks.close()
        return self._thread is None or not self._thread.is_alive()

    def _answer(self, worker: str) -> None:
        backend = self._runtime.backend
        if backend is None:
            return
        try:
            self._look(backend, worker)
        except UnavailableError:
            return
        except Exception:  # noqa: BLE001 - the next look tries again
            log_error(_logger, "unexpected error while answering for a silent worker process")

    def _look(self, backend: Backend, worker: str) -> None:
        entered = self._run_table.entered()
        held = [one for one in self._leases.held() if one.serial in entered]
        keys = [key for one in held for key in (ask_key(one.id), cancel_key(one.id))]
        found = backend.get(keys) if keys else {}
        for one in held:
            request, mark = found.get(ask_key(one.id)), found.get(cancel_key(one.id))
            if request is not None and not self._closed:
                backend.delete([request.key])
                report = self._report(one, entered[one.serial], others=len(entered) - 1, worker=worker)
                backend.put([reported(one.id, token_of(request), report)])
            if mark is not None and not self._closed:
                self._kill(backend, one.id, read_cancellation(mark), worker)

    def _kill(self, backend: Backend, id: str, wish: Cancellation, worker: str) -> None:
        """Have the process killed if an operator wishes it; whoever gets the message next records that it has ended."""
        if wish.hard and not self.doomed:
            told = attrs.evolve(wish, did="killed", worker=worker)
            backend.put([cancel_mark(id, ttl=CANCEL_TTL, wish=told)], condition=Condition.NEWER)
            self.doomed = f"{id} was killed by {wish.by}"

    def _report(self, one: HeldLease, inside: Inside, *, others: int, worker: str) -> StackReport:
        kind = "process" if one.apart else "coroutine" if self._run_table.is_loop(inside) else "thread"
        frames, note = self._stack(one, inside)
        return StackReport(
            worker=worker,
            host=socket.gethostname(),
            pid=self._pid,
            kind=kind,
            seconds=round(max(0.0, time.monotonic() - inside.since), 1),
            others=others,
            replaceable=True,
            frames=frames,
            note=note,
        )

    def _stack(self, one: HeldLease, inside: Inside) -> tuple[tuple[Frame, ...], str]:
        """Return the stack of a body and a note on it."""
        if self._is_stopped():
            return (), "its worker process is stopped by a signal, as SIGSTOP does"
        if one.apart:
            return (), "its worker process does not respond; the body has a process of its own"
        frames = self._stacks.signal(self._pid, inside.ident)
        silent = "its worker process does not respond: a body holds the interpreter"
        return frames, silent if frames else f"{silent}, and its stack could not be read"
