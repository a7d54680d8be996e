"""Worker processes that the supervisor's program forks before it imports the app.

What both need of queuekit takes most of the time of a start, so they import it once. They do not share the app: each
process imports that for itself, so no thread, lock or connection of the app is ever forked. A process that is started
later, and each process on other systems than Linux, is a new interpreter.
"""

from __future__ import annotations

import gc
import io
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import NoReturn

from queuekit.execution import children
from queuekit.values import define
from queuekit.worker.protocol import HEAD

__all__ = ["ForkedProcess", "Prefork", "preforked"]


@define
class ForkedProcess:
    """A forked process, with what the supervisor uses of ``subprocess.Popen``."""

    pid: int
    _code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code; ``None`` while the process runs."""
        return self._look(os.WNOHANG)

    def wait(self) -> int:
        """Return the exit code when the process has ended."""
        return self._look(0) or 0

    def kill(self) -> None:
        """Kill it."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _look(self, options: int) -> int | None:
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:  # the app's own code has waited for all children; Popen assumes 0, too
                self._code = 0
            else:
                self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code


class Prefork:
    """The processes that wait for a supervisor."""

    def __init__(self) -> None:
        self._waiting: list[tuple[ForkedProcess, socket.socket]] = []

    def start(self, files: Sequence[int]) -> tuple[ForkedProcess, socket.socket] | None:
        """Pass *files* to a process, which now waits for its Start; ``None`` if no process is left.

        Returns:
            The process, and the supervisor's end of its pipe.
        """
        while self._waiting:
            process, here = self._waiting.pop(0)
            try:
                # What the app and its plugins have set since the fork, as a process that is started would have it.
                environ = json.dumps(dict(os.environ)).encode()
                socket.send_fds(here, [len(environ).to_bytes(HEAD)], files)
                here.sendall(environ)
            except OSError:  # it has ended
                _end(process, here)
            else:
                return process, here
        return None

    def fork(self) -> None:
        """Fork one process. In that process, this does not return.

        Raises:
            OSError: The system allows no more processes.
            SystemExit: This is the new process, and it has ended.
        """
        from queuekit.worker import child  # only a process that is forked here needs it

        here, there = socket.socketpair()
        supervisor = os.getpid()  # a process that asked for its parent might ask too late
        before = signal.pthread_sigmask(signal.SIG_BLOCK, children.STOPS)
        try:
            pid = os.fork()
            if pid == 0:
                for _, other in self._waiting:
                    other.close()
                here.close()
                _run(child, there, supervisor)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        there.close()
        self._waiting.append((ForkedProcess(pid), here))

    def close(self) -> None:
        """End the processes that nobody needed."""
        while self._waiting:
            _end(*self._waiting.pop())


@contextmanager
def preforked(count: int) -> Iterator[Prefork]:
    """Yield up to *count* processes: none on a system or in a program where a fork is not safe."""
    prefork = Prefork()
    if sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1:  # noqa: PTH208 - a count of names
        gc.freeze()  # the collector writes to each object that it looks at, and its page would no longer be shared
        with suppress(OSError):  # the supervisor tries again, and reports it
            for _ in range(count):
                prefork.fork()
    try:
        yield prefork
    finally:
        prefork.close()


def _end(process: ForkedProcess, here: socket.socket) -> None:
    here.close()
    process.kill()
    process.wait()


def _run(child: ModuleType, there: socket.socket, supervisor: int) -> NoReturn:
    """Be a worker process to the end; no error may lead back into the program of the supervisor."""
    try:
        _be_program(child)
        code = child.adopted(there, supervisor)
    except SystemExit:
        raise
    except BaseException:  # noqa: BLE001 - printed as at the end of any program
        traceback.print_exc()
        code = 1
    sys.exit(code)


def _be_program(child: ModuleType) -> None:
    """Look to the app's code like a process that ``python -m queuekit.worker.child`` has started."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdout = sys.__stdout__
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="strict" if sys.stdin is None else sys.stdin.errors)
    sys.argv[:] = [str(child.__file__)]
    sys.orig_argv[:] = [sys.executable, "-m", child.__name__]
    sys.modules["__main__"] = child
