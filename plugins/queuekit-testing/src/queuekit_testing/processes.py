"""Child processes for suites: fresh, killed reliably, and never left behind."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import os
import pickle
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

__all__ = ["Child", "run_in_fork"]

HANGS = 120.0
"""Seconds after which a process that should end counts as hanging. Only failures take that long."""
_MEASURED = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
"""Set where a coverage tool measures children, which it can do only in those that start as programs."""


class Child:
    """A fresh process that runs ``work(talk, make, *args)``.

    *talk* is the child's end of a pipe. *make* is a method of the test class, such as ``self.make_broker``; the child
    loads the class from its file, so it need not be importable. It is the fork of a process that has imported the kit
    and no more than that, so it has nothing of the tests' own process, and starts sooner than a program.
    """

    def __init__(self, work: Callable[..., None], make: Callable[[], object], *args: object) -> None:
        suite = getattr(make, "__self__", make)
        owner = type(suite)
        self._patience = max(HANGS, float(getattr(suite, "PATIENCE", 0.0)))
        """Seconds after which it counts as hanging: more than usual if the suite is given more."""
        payload = pickle.dumps((work, make, args))
        context = _context()
        self.pipe, end = context.Pipe()
        source = (owner.__module__, inspect.getfile(owner))
        self._process = context.Process(target=_run, args=(end, dict(os.environ), *source, payload), daemon=True)
        self._process.start()
        end.close()

    def hear(self, *, timeout: float | None = None) -> Any:
        """Return the next message of the child; fail if it sends none within *timeout* seconds or ends first.

        By default *timeout* is 120, or the suite's ``PATIENCE`` if that is more: a child has to start first.
        """
        timeout = self._patience if timeout is None else timeout
        if not self.pipe.poll(timeout):
            pytest.fail(f"a child process sent nothing within {timeout:g} s")
        try:
            return self.pipe.recv()
        except EOFError:
            self._process.join(timeout)
            pytest.fail(f"a child process ended with exit code {self._process.exitcode} (its error is in stderr)")

    def end(self) -> None:
        """Wait until the child ends, which its work does at the latest when the pipe closes; kill it if it hangs.

        A child that has done its work is not killed, because coverage tools write their data when it exits.
        """
        self.pipe.close()
        self._process.join(self._patience)
        self._process.kill()
        self._process.join()

    def kill(self) -> None:
        """Kill the child with SIGKILL, as the kernel does when memory runs out, and wait until it has ended."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _context() -> multiprocessing.context.SpawnContext | multiprocessing.context.ForkServerContext:
    """Return how a child starts."""
    if any(name in os.environ for name in _MEASURED):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # Once the server runs, this changes nothing. A module that cannot be imported there is imported by the child.
    context.set_forkserver_preload([name for name in sys.modules if name.partition(".")[0].startswith("queuekit")])
    return context


def _run(
    pipe: multiprocessing.connection.Connection, environ: dict[str, str], module: str, path: str, payload: bytes
) -> None:
    """Load the test's module in the child, then do the work."""
    os.environ.clear()  # of the moment when the first child started
    os.environ.update(environ)
    _load(module, Path(path))
    work, make, args = pickle.loads(payload)  # noqa: S301 - made by the parent, a line above
    work(pipe, make, *args)


def _load(name: str, path: Path) -> None:
    """Make the module in *path* importable as *name*, as in the parent, however pytest imported it there."""
    try:
        if importlib.import_module(name).__file__ == str(path):
            return
    except ImportError:
        pass
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(name)
    for dot in (index for index, letter in enumerate(name) if letter == "."):
        sys.modules.setdefault(name[:dot], ModuleType(name[:dot]))  # pickle imports the parent packages, too
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


def run_in_fork(work: Callable[[], object], *, timeout: float = HANGS) -> int:
    """Run *work* in a fork of this process and return its exit code: 0, or 1 if it raised.

    The fork ends without exit handlers: a coverage tool would write the parent's data, too, which may take longer
    than the work. Work that takes longer than *timeout* is killed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # on threads in the parent; users fork like this, too
        pid = os.fork()
    if pid == 0:
        _work_and_leave(work)
    deadline = time.monotonic() + timeout
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pytest.fail(f"a forked process did not end within {timeout:g} s")
        time.sleep(0.005)


def _work_and_leave(work: Callable[[], object]) -> None:
    """Run *work* and end the process at once, so that pytest does not continue in both processes."""
    import posix  # a coverage tool may have replaced os._exit, but not this

    code = 1
    try:
        work()
        code = 0
    finally:
        if code:
            traceback.print_exc()
        posix._exit(code)  # pyright: ignore[reportPrivateUsage] # noqa: SLF001 - ends the process without exit handlers
