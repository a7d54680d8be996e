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

from queuekit.demo.place import Place

__all__ = ["Crew", "CrewError", "WorkerLog"]

START_TIMEOUT = 30.0
STOP_TIMEOUT = 8.0
_TAIL = 15
_LOOK = 0.02


class CrewError(Exception):
    """The workers could not be started, or ended too soon; the demo tells that itself."""

    def __init__(self, what: str, *, tail: list[str]) -> None:
        super().__init__(what)
        self.what = what
        self.tail = tail
        """What they said last."""


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


class Crew:
    """A supervisor and its worker processes, in a process group of their own.

    Args:
        place: Config, log and environment.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._process: subprocess.Popen[bytes] | None = None
        self.log = WorkerLog(place.log)

    def start(self) -> None:
        """Start them, and return when all take up work.

        Raises:
            CrewError: They do not.
        """
        command = [sys.executable, "-m", "queuekit.demo.workers", str(self._place.config)]
        with self._place.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own module and a path of our own
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, process_group=0, env=self._place.environ()
            )
        deadline = time.monotonic() + START_TIMEOUT
        while len(self.log.ready) < self._place.processes:
            self.check()
            if time.monotonic() > deadline:
                raise self.error(f"The workers did not start within {START_TIMEOUT:g} s")
            time.sleep(_LOOK)

    def check(self) -> None:
        """Read the log.

        Raises:
            CrewError: The supervisor is gone.
        """
        code = self._process.poll() if self._process else None
        self.log.read()
        if code is not None:
            raise self.error(f"The workers ended with exit code {code}")

    def error(self, what: str) -> CrewError:
        """Return the error that says *what*, with the end of the log."""
        return CrewError(what, tail=self.log.tail())

    def kill(self, pid: int) -> bool:
        """Kill worker process *pid* with SIGKILL; false, and nothing done, if it is not one of this crew's."""
        leader = self._process.pid if self._process else 0
        try:
            ours = pid != leader and os.getpgid(pid) == leader
        except ProcessLookupError:
            return False
        if ours:
            os.kill(pid, signal.SIGKILL)
        return ours

    def stop(self) -> None:
        """Let them finish what they run and end; kill those that take too long. May be called again."""
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            process.wait(STOP_TIMEOUT)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.log.read()
