"""Suspects get their processes one after the other, as they become ready or have done well."""

import threading
from collections.abc import Sequence

import pytest

from queuekit import Signature
from queuekit.execution.outcome import Run
from queuekit.worker.suspect_processes import SuspectProcesses
from support.waiting import PATIENCE, wait_until
from support.working import make_app, prepared


class Process:
    """A process that does nothing."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        """Note it."""
        self.closed = True


class Suspects:
    """Suspects, and processes that are made when a test says so."""

    def __init__(self, count: int, *, most: int = 8) -> None:
        self.allowed = threading.Semaphore(0)
        self.made: list[Process] = []
        self.fails = False
        self.submitted: list[Run] = []
        self.processes = SuspectProcesses(self._spawn, submit=self._submit, most=most)
        app = make_app()
        app.task(name="t")(lambda: None)
        app.send_many([Signature("t") for _ in range(count)])
        self.runs = [prepared(app) for _ in range(count)]
        for serial, run in enumerate(self.runs, 1):
            run.serial, run.suspect = serial, True

    def _spawn(self) -> Process:
        assert self.allowed.acquire(timeout=PATIENCE)
        if self.fails:
            raise OSError("no more processes")
        self.made.append(Process())
        return self.made[-1]

    def _submit(self, runs: Sequence[Run]) -> None:
        self.submitted += runs

    def begin_all(self) -> list[bool]:
        """Return for each suspect whether it may begin."""
        return [self.processes.may_begin(run) for run in self.runs]

    def allow(self, count: int) -> None:
        """Let *count* processes be made, and wait until those that wait have them."""
        before = len(self.submitted)
        self.allowed.release(count)
        wait_until(lambda: len(self.submitted) == before + count)


def test_each_gets_a_process_when_one_is_ready() -> None:
    """Nobody waits in a thread: a suspect is submitted again, and then it may begin."""
    suspects = Suspects(2)
    first, second = suspects.runs
    before = suspects.begin_all()

    suspects.allow(1)
    one = (suspects.submitted[:], suspects.processes.may_begin(first), suspects.processes.take(first))
    suspects.allow(1)

    assert before == [False, False]
    assert one == ([first], True, suspects.made[0])
    assert suspects.submitted == [first, second]
    assert suspects.processes.waiting == 0


def test_a_process_that_has_done_well_serves_the_next() -> None:
    """Without another one being made."""
    suspects = Suspects(2)
    first, second = suspects.runs
    suspects.begin_all()
    suspects.allow(1)
    process = suspects.processes.take(first)
    assert process is not None

    suspects.processes.give_back(process)

    assert suspects.submitted == [first, second]
    assert suspects.processes.take(second) is process
    suspects.allowed.release()


def test_what_has_crashed_before_gets_a_fresh_one() -> None:
    """A process that has run another body is for those that have not crashed yet."""
    suspects = Suspects(2)
    first, crashed = suspects.runs
    crashed.known_crashes = 1
    suspects.begin_all()
    suspects.allow(1)
    process = suspects.processes.take(first)
    assert process is not None

    suspects.processes.give_back(process)
    begins = suspects.processes.may_begin(first)
    suspects.allow(1)

    assert begins
    assert suspects.processes.take(crashed) is suspects.made[1]


def test_no_more_are_made_than_threads_can_take() -> None:
    """The next one is made when the last ones have been taken."""
    suspects = Suspects(2, most=1)
    suspects.begin_all()
    suspects.allow(1)

    suspects.allowed.release()
    early = len(suspects.made)
    suspects.processes.take(suspects.runs[0])
    wait_until(lambda: len(suspects.made) == 2)

    assert early == 1


def test_if_none_can_be_made_the_threads_try_it() -> None:
    """Which tells what is wrong, of each suspect."""
    suspects = Suspects(2)
    suspects.fails = True
    suspects.begin_all()

    suspects.allowed.release()
    wait_until(lambda: len(suspects.submitted) == 2)

    assert suspects.begin_all() == [True, True]
    assert [suspects.processes.take(run) for run in suspects.runs] == [None, None]


def test_one_that_does_not_begin_leaves_its_process_to_the_next() -> None:
    """As when its lease was lost meanwhile."""
    suspects = Suspects(2)
    first, second = suspects.runs
    suspects.begin_all()
    suspects.allow(1)

    suspects.processes.forget(first)

    assert suspects.processes.take(second) is suspects.made[0]
    suspects.allowed.release()


@pytest.mark.parametrize("leave", ["given", "free", "late"])
def test_none_is_left_at_the_end(leave: str) -> None:
    """Whether it waits for a thread, for a suspect, or becomes ready only then."""
    suspects = Suspects(1)
    (run,) = suspects.runs
    suspects.begin_all()
    if leave != "late":
        suspects.allow(1)
    if leave == "free":
        suspects.processes.forget(run)

    closed = suspects.processes.close()
    if leave == "late":
        suspects.allowed.release()
    wait_until(lambda: suspects.made)

    assert closed == ([] if leave == "late" else suspects.made)
    wait_until(lambda: leave != "late" or suspects.made[0].closed)


def test_those_that_wait_are_taken_back() -> None:
    """By a worker that stops."""
    suspects = Suspects(2)
    suspects.begin_all()

    assert suspects.processes.take_waiting() == suspects.runs
    suspects.allowed.release()
