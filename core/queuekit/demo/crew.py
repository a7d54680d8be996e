"""The demo's worker processes: started, watched through their log, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from queuekit.demo.place import Place
from queuekit.errors import QueuekitError

__all__ = ["Crew", "CrewError", "WorkerLog"]

START_TIMEOUT = 30.0
STOP_TIMEOUT = 8.0
_TAIL = 15
_LOOK = 0.02


class CrewError(QueuekitError):
    """The demo's workers could not be started, or ended too soon; ``tail`` holds what they said last."""

    code = "QK601"

    def __init__(self, what: str, *, tail: list[str]) -> None:
        super().__init__(what)
        self.tail = tail


class WorkerLog:
    """Reads the workers' log, one JSON object a line, as it grows.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._starts: Counter[tuple[str, int]] = Counter()
        self.ready: set[str] = set()
        """Names of the worker processes that took up work."""
        self.crashes: list[str] = []
        """How worker processes ended that nobody stopped, in words."""
        self.retries: Counter[str] = Counter()
        """Attempts that failed and were followed by another, by task."""

    def read(self) -> None:
        """Take in what has been written since the last time."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, _, _ = file.read().rpartition(b"\n")
        if whole:
            self._offset += len(whole) + 1
            for event in _events(whole):
                self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        match event.get("event"):
            case "TaskStarted":
                self._starts[event["id"], event["attempt"]] += 1
            case "TaskFinished" if event["state"] == "RETRY":
                self.retries[event["task"]] += 1
            case "WorkerReady":
                self.ready.add(event["worker"])
            case "WorkerCrashed":
                self.crashes.append(event["how"])
            case _:
                pass

    def repeated(self) -> list[str]:
        """Return the ids of messages of which one attempt was started more than once."""
        return [id for (id, _), starts in self._starts.items() if starts > 1]

    def tail(self) -> list[str]:
        """Return the last lines, as people read them."""
        lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for raw in lines[-_TAIL:] for line in _readable(raw).splitlines()][-_TAIL:]


def _events(data: bytes) -> Iterator[dict[str, Any]]:
    """Yield the objects in whole lines; what is no JSON (a warning of Python's, a line cut by a kill) is left out."""
    for line in data.splitlines():
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                yield event


def _readable(line: str) -> str:
    try:
        event = json.loads(line)
        return f"{event['level']:<7} {event['message']}"
    except (ValueError, TypeError, KeyError):
        return line


@attrs.define
class Crew:
    """A supervisor and its worker processes, in a process group of their own."""

    place: Place
    processes: int
    log: WorkerLog = attrs.field(init=False)
    _process: subprocess.Popen[bytes] = attrs.field(init=False)

    def start(self) -> None:
        """Start them, and return when all take up work.

        Raises:
            CrewError: They do not.
        """
        command = [sys.executable, "-m", "queuekit.demo.workers", str(self.place.config)]
        with self.place.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own module and a path of our own
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, process_group=0, env=self.place.environ()
            )
        self.log = WorkerLog(self.place.log)
        deadline = time.monotonic() + START_TIMEOUT
        while len(self.log.ready) < self.processes:
            self.check()
            if time.monotonic() > deadline:
                raise self._error(f"the workers did not start within {START_TIMEOUT:g} s")
            time.sleep(_LOOK)

    def check(self) -> None:
        """Read the log.

        Raises:
            CrewError: The supervisor is gone.
        """
        code = self._process.poll()
        self.log.read()
        if code is not None:
            raise self._error(f"the workers ended with exit code {code}")

    def give_up(self, what: str) -> CrewError:
        """Return the error that says *what*, with the end of the log."""
        return self._error(what)

    def _error(self, what: str) -> CrewError:
        return CrewError(what, tail=self.log.tail())

    def kill(self, pid: int) -> bool:
        """Kill worker process *pid* with SIGKILL; false, and nothing done, if it is not one of this crew's."""
        try:
            ours = pid != self._process.pid and os.getpgid(pid) == self._process.pid
        except ProcessLookupError:
            return False
        if ours:
            os.kill(pid, signal.SIGKILL)
        return ours

    def stop(self) -> None:
        """Let them finish what they run and end; kill those that take too long. May be called again."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self.log.read()
