"""One peer on an empty server of its own: a process that sends, and workers that are watched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from peers.peer import STAMP

HERE = Path(__file__).parent
PATIENCE = 120.0
"""Seconds without a task run after which a worker has failed."""


class Run:
    """A peer on an empty server of its own."""

    def __init__(self, module: str, folder: Path, url: str, *, stored: bool) -> None:
        self.module = module
        self.url = url
        self.folder = folder
        self.file = folder / "stamps"
        self.file.touch()
        without = folder / "without"
        without.mkdir()
        if not module.endswith("_fast"):  # msgspec is installed for one peer, and a worker imports it before its app
            (without / "msgspec.py").write_text("raise ImportError('hidden')\n", encoding="utf-8")
        hidden = ("QUEUEKIT_", "BENCH_", "CELERY", "dramatiq_")
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(hidden)},
            "BENCH_URL": url,
            "BENCH_STAMPS": str(self.file),
            "BENCH_RESULTS": "1" if stored else "",
            "PYTHONPATH": os.pathsep.join([str(HERE), str(without)]),
        }

    def send(self, **actions: int) -> dict[str, Any]:
        """Carry out *actions* in a process that sends, and return its figures."""
        command = [sys.executable, str(HERE / "sender.py"), self.module, json.dumps(actions)]
        done = subprocess.run(command, env=self.environ, cwd=self.folder, stdout=subprocess.PIPE, check=True)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    @contextmanager
    def worker(self, described: Mapping[str, Any]) -> Iterator[Worker]:
        """Run a worker as the peer has *described* it."""
        program, *arguments = [part.replace("URL", self.url) for part in described["worker"]]
        worker = Worker(
            [str(Path(sys.executable).with_name(program)), *arguments],
            {**self.environ, **described["environ"]},
            self.folder,
        )
        try:
            yield worker
        finally:
            worker.stop()

    def stamps(self, count: int) -> list[float]:
        """Wait for *count* runs in all, and return their moments in order."""
        seen, changed = -1, time.monotonic()
        while (size := self.file.stat().st_size // STAMP.size) < count:
            if size != seen:
                seen, changed = size, time.monotonic()
            if time.monotonic() - changed > PATIENCE:
                log = (self.folder / "worker.log").read_text(errors="replace")[-2_000:]
                raise TimeoutError(f"{self.module}: {size} of {count} tasks ran\n{log}")
            time.sleep(0.005)
        found = sorted(moment for (moment,) in STAMP.iter_unpack(self.file.read_bytes()))
        if len(found) > count:
            raise RuntimeError(f"{self.module}: {len(found)} runs of {count} tasks")
        return found

    def drained(self, count: int) -> float:
        """Return tasks a second between the first run and the last of *count*."""
        moments = self.stamps(count)
        return (count - 1) / (moments[-1] - moments[0])


class Worker:
    """A worker with all of its processes."""

    def __init__(self, command: list[str], environ: Mapping[str, str], folder: Path) -> None:
        with (folder / "worker.log").open("ab") as log:
            self.since = time.monotonic()
            """Moment of its start."""
            self._process = subprocess.Popen(
                command, env=environ, cwd=folder, stdout=log, stderr=log, start_new_session=True
            )

    def memory(self) -> float:
        """Return the resident megabytes of its processes together; what they share counts in each."""
        return sum(one.memory_info().rss for one in self.processes()) / 1e6

    def processes(self) -> list[psutil.Process]:
        """Return its processes, itself first."""
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]

    def stop(self) -> None:
        """Stop it as a service manager does, and kill what is left."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
