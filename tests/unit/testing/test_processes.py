"""The child processes of the conformance suites: found, heard, killed, and never waited for without end."""

import os
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

import pytest

from queuekit_testing.processes import Child, run_in_fork
from support.waiting import PATIENCE


class Maker:
    """Stands for a test class: the child finds it again by its file."""

    def make(self) -> str:
        """Return what a child works with."""
        return "made"


def say(pipe: Connection, make: Callable[[], str], word: str) -> None:
    """Say what was made, and wait for ever."""
    pipe.send((make(), word, os.getpid()))
    pipe.recv()


def leave(pipe: Connection, make: Callable[[], str]) -> None:
    """End without a word."""
    os._exit(3)


def test_makes_things_in_another_process() -> None:
    """A child calls the factory of the test's own class, though its file cannot be imported by name."""
    child = Child(say, Maker().make, "word")
    try:
        made, word, pid = child.hear(timeout=PATIENCE)
    finally:
        child.kill()

    assert (made, word) == ("made", "word")
    assert pid != os.getpid()


def test_complains_about_a_silent_child() -> None:
    """A test that waits for a child's word fails when its time is over."""
    child = Child(say, Maker().make, "word")
    try:
        child.hear(timeout=PATIENCE)

        with pytest.raises(pytest.fail.Exception, match="sent nothing"):
            child.hear(timeout=0.01)
    finally:
        child.kill()


def test_complains_about_a_child_that_ends() -> None:
    """A test that waits for a child's word is told with what exit code it ended instead."""
    child = Child(leave, Maker().make)
    try:
        with pytest.raises(pytest.fail.Exception, match="exit code 3"):
            child.hear(timeout=PATIENCE)
    finally:
        child.kill()


@pytest.mark.parametrize(("work", "code"), [(lambda: None, 0), (lambda: 1 / 0, 1)], ids=["works", "raises"])
def test_tells_how_a_fork_ended(work: Callable[[], object], code: int) -> None:
    """The exit code of a fork tells whether its work raised."""
    assert run_in_fork(work) == code


def test_ends_a_fork_that_hangs() -> None:
    """A fork that does not end is killed, and the test fails."""
    with pytest.raises(pytest.fail.Exception, match="did not end"):
        run_in_fork(threading.Event().wait, timeout=0.2)
