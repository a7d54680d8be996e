"""Programs of a developer: started together, and started again when source files change."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import IO

import attrs

__all__ = ["DRAIN", "DevProgram", "Programs"]

DRAIN = 5.0
"""Default seconds that running tasks have to finish before their worker starts again."""
_LATE = 10.0
"""Seconds past the time of tasks after which a program that does not end is killed."""
_LOOK = 0.2
"""Seconds between two looks at signals while programs end."""
_REST = 2.0
"""Seconds to wait for the last lines of a program that has ended: a process that it left behind may hold the pipe."""
_SHOWN = 3


@attrs.define(kw_only=True)
class DevProgram:
    """A command that runs beside others.

    Attributes:
        name: Shown before its lines, if there are several.
        command: The command and its arguments.
        reloads: Whether it starts again when source files change.
        process: Its process; ``None`` if it does not run.
        reader: The thread that copies its lines.
    """

    name: str
    command: Sequence[str]
    reloads: bool = True
    process: subprocess.Popen[bytes] | None = None
    reader: threading.Thread | None = None


class Programs:
    """Runs programs until a signal, and starts them again when source files change.

    The standard input of each is a pipe that ends when this process does, however it does.

    Args:
        programs: What to run.
        changes: Yields the source files that have changed, often none; its first step begins to watch.
        say: Prints a line for the developer.
        copy: Prints a line of a program; ``None``: it inherits the terminal.
        drain: Seconds that a program has to end before it is killed.
    """

    def __init__(
        self,
        programs: Iterable[DevProgram],
        changes: Callable[[threading.Event], Iterator[Sequence[str]]],
        *,
        say: Callable[[str], None],
        copy: Callable[[str, bytes], None] | None = None,
        drain: float = DRAIN,
    ) -> None:
        self._programs = list(programs)
        self._changes = changes
        self._say = say
        self._copy = copy
        self._limit = drain + _LATE
        self._stopping = threading.Event()
        self._signals = 0
        self._stdin = self._alive = -1

    def run(self) -> int:
        """Run until the first SIGTERM, SIGINT or, unless it is ignored, SIGHUP.

        Returns:
            The exit code of a single program; of several, 0.
        """
        old = {number: signal.signal(number, self._signal) for number in _ends()}
        self._stdin, self._alive = os.pipe()
        try:
            changes = self._changes(self._stopping)
            next(changes, None)  # from here on no change is missed
            for program in self._programs:
                self._start(program)
            for changed in changes:
                if self._stopping.is_set():
                    break
                self._look(changed)
        finally:
            codes = self._stop(self._programs)
            os.close(self._stdin)
            os.close(self._alive)
            for number, handler in old.items():
                signal.signal(number, handler)
        return max(codes[0], 0) if len(codes) == 1 else 0  # a program that had not begun ends by the signal itself

    def _signal(self, *_: object) -> None:
        self._signals += 1
        self._stopping.set()

    def _look(self, changed: Sequence[str]) -> None:
        """Report programs that have ended, and start again what *changed* concerns."""
        for program in self._programs:
            if program.process is not None and program.process.poll() is not None:
                code = self._end(program)
                self._say(f"{program.name} ended with exit code {code}; {self._next(program)}")
        if not changed:
            return
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        self._say(f"{', '.join(changed[:_SHOWN])}{more} changed: starting again")
        again = [program for program in self._programs if program.reloads]
        self._stop(again)
        for program in again:
            if not self._stopping.is_set():
                self._start(program)

    @staticmethod
    def _next(program: DevProgram) -> str:
        return "it starts again when a file changes" if program.reloads else "the others go on"

    def _start(self, program: DevProgram) -> None:
        output = None if self._copy is None else subprocess.PIPE
        process = program.process = subprocess.Popen(  # noqa: S603 - commands of the developer
            program.command,
            stdin=self._stdin,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        if process.stdout is not None and self._copy is not None:
            program.reader = threading.Thread(
                target=self._read, args=(program.name, process.stdout, self._copy), daemon=True
            )
            program.reader.start()

    def _read(self, name: str, lines: IO[bytes], copy: Callable[[str, bytes], None]) -> None:
        with lines:
            for line in lines:
                try:
                    copy(name, line)
                except OSError:  # nobody reads the output any more; tasks that print go on until they have ended
                    self._stopping.set()

    def _stop(self, programs: Iterable[DevProgram]) -> list[int]:
        """End *programs*, those that take long at the second signal or when their time is over; return exit codes."""
        running = [program for program in programs if program.process is not None]
        end, obeyed = time.monotonic() + self._limit, -1
        for program in running:
            assert program.process is not None  # noqa: S101 - it runs
            while program.process.poll() is None:
                if obeyed != self._signals:
                    obeyed = self._signals
                    _terminate(running)
                if time.monotonic() > end:
                    end = math.inf
                    self._kill(running)
                with suppress(subprocess.TimeoutExpired):
                    program.process.wait(_LOOK)
        return [self._end(program) for program in running]

    def _kill(self, programs: Iterable[DevProgram]) -> None:
        for program in programs:
            if program.process is not None and program.process.poll() is None:
                self._say(f"{program.name} did not end in time and was killed")
                program.process.kill()

    @staticmethod
    def _end(program: DevProgram) -> int:
        """Forget the process of *program*, which has ended, and return its exit code."""
        process, program.process = program.process, None
        assert process is not None  # noqa: S101 - it has ended
        if program.reader is not None:
            program.reader.join(_REST)
        return process.wait()


def _ends() -> list[signal.Signals]:
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # by nohup
    return [signal.SIGTERM, signal.SIGINT, *([] if ignored else [signal.SIGHUP])]


def _terminate(programs: Iterable[DevProgram]) -> None:
    for program in programs:
        if program.process is not None:
            program.process.terminate()
