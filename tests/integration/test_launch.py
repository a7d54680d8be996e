"""Workers that a program runs itself: one file that is producer or worker, and a worker in a thread of a program."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fleet import ROOT
from support.waiting import wait_until

PROGRAM = """
import os, signal, sys, threading, time
from pathlib import Path
from queuekit import Queuekit

app = Queuekit(broker="sqlite:///jobs.db")


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def poison() -> None:
    with open("runs", "a") as file:
        file.write("run\\n")
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def hold() -> str:
    Path("begun").touch()
    while not Path("gate").exists():
        time.sleep(0.01)
    return "held"


def produce() -> None:
    print(add.send(1, 2).get(timeout=60))


def embed() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
    worker = app.worker(concurrency=2)
    thread = threading.Thread(target=worker.run)
    thread.start()
    produce()
    after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
    worker.stop()
    thread.join(60)
    print(before == after, thread.is_alive(), add.send(1, 2).state.value)


if __name__ == "__main__":
    if "worker" in sys.argv:
        sys.exit(app.worker(queues="default", concurrency=10, name="one").run())
    {"embed": embed, "poison": poison.send}.get(sys.argv[-1], produce)()
"""


class Place:
    """A folder with a program, and what was started there."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder, self._program = folder, program
        self.started: list[subprocess.Popen[bytes]] = []
        (folder / program).write_text(PROGRAM, encoding="utf-8")

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run the program to its end."""
        return subprocess.run(
            [sys.executable, self._program, *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )

    def worker(self) -> "subprocess.Popen[bytes]":
        """Start the program as a worker, and return when it works."""
        with (self.folder / "log").open("wb") as log:
            command = [sys.executable, self._program, "worker"]
            found = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
        self.started.append(found)
        wait_until(lambda: " ready" in self.log(), self.log)
        return found

    def log(self) -> str:
        """Return what the worker has written."""
        return (self.folder / "log").read_text(encoding="utf-8")


@pytest.fixture(params=["my-jobs.py", pytest.param("jobs.py", marks=pytest.mark.full)])
def place(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Return a place with a program, whose name need not be one that can be imported."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "core"))
    found = Place(tmp_path, request.param)
    yield found
    for process in found.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_one_file_is_producer_and_worker(place: Place) -> None:
    """The worker runs what the program sends, under its own name, and drains at SIGTERM."""
    worker = place.worker()

    assert place.run().stdout == "3\n"
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(60) == 0
    assert "one-" in place.log()
    assert " stopped after " in place.log()


@pytest.mark.full
def test_poison_is_dead_after_three_runs(place: Place) -> None:
    """Crash marks are left as by ``queuekit worker``."""
    place.worker()

    place.run("poison")
    wait_until(lambda: "dead " in place.log(), place.log)

    assert (place.folder / "runs").read_text(encoding="utf-8").count("run") == 3


def test_works_in_a_thread_of_a_program(place: Place) -> None:
    """No signal handler of the program is touched, ``stop`` ends it, and the program's own app stays usable."""
    assert place.run("embed").stdout.splitlines() == ["3", "True False PENDING"]
