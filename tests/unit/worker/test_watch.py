"""Who watches over the threads of a worker."""

import threading
from collections.abc import Iterator

import pytest

from queuekit import Queuekit, Signature
from queuekit.worker import Worker
from queuekit.worker.run_table import RunTable
from queuekit.worker.watch import Watch
from support.waiting import wait_until
from support.working import make_app, working


def ended() -> threading.Thread:
    """Return a thread that has ended."""
    thread = threading.Thread(target=lambda: None, name="a-part")
    thread.start()
    thread.join()
    return thread


class Watched:
    """A watch, and what it says."""

    def __init__(self, *parts: threading.Thread, fault: str = "") -> None:
        self.run_table = RunTable(1)
        self.faults: list[str] = []
        self.looks = 0
        self.fault = fault
        self.watch = Watch(self.run_table, parts=lambda: parts, checks=[self.check], on_fault=self.faults.append)

    def check(self) -> str:
        """Find what is wrong, once somebody has looked."""
        self.looks += 1
        if self.looks == 1:
            raise SystemExit(3)
        return self.fault

    def beats(self) -> bool:
        """Return whether it has said twice that the process is alive."""
        first = self.run_table.last_beat
        wait_until(lambda: self.run_table.last_beat > first)
        return True


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("queuekit.worker.watch.LOOK", 0.01)


def test_says_that_the_process_is_alive() -> None:
    """Again and again, whatever a look raises, and when the worker is about to end too."""
    watched = Watched()

    watched.watch.start()
    working_beats = watched.beats()
    watched.watch.ease()
    easy_beats = watched.beats()
    watched.watch.stop()
    watched.watch.thread.join(60)

    assert (working_beats, easy_beats, watched.faults) == (True, True, [])


def test_finds_a_thread_that_has_ended() -> None:
    """Those that were not started, or live, are fine."""
    watched = Watched(threading.current_thread(), threading.Thread(), ended())

    watched.watch.start()
    wait_until(lambda: watched.faults)
    watched.beats()
    watched.watch.stop()

    assert watched.faults == ["its thread a-part has ended"]


def test_hears_why_a_worker_cannot_go_on() -> None:
    """Once."""
    watched = Watched(fault="it is tired")

    watched.watch.start()
    wait_until(lambda: watched.faults)
    watched.beats()
    watched.watch.stop()

    assert watched.faults == ["it is tired"]


def parts_of(worker: Worker) -> Iterator[tuple[str, threading.Thread]]:
    """Return the threads of a worker that works, by name."""
    for thread in worker._parts():
        yield thread.name, thread


def test_a_worker_names_all_its_threads() -> None:
    """Those that run bodies too, as soon as there are some."""

    async def nothing() -> None:
        pass

    app = make_app()
    app.task(name="t")(lambda: None)
    app.task(name="a")(nothing)

    with working(app) as worker:
        done = app.send_many([Signature("t"), Signature("a")])
        for result in done:
            result.get(timeout=60)
        names = {name for name, _ in parts_of(worker)}

    expected = {"fetcher", "settler", "watchdog", "lease-renewer", "scheduler", "run-0", "loop"}
    assert names == {f"queuekit-{name}" for name in expected}


def test_a_worker_without_supervisor_stops_when_a_part_is_dead() -> None:
    """It says that it has failed."""
    app: Queuekit = make_app()
    worker = Worker(app)
    worker.others.append(ended())

    assert worker.run() == 1
