"""A process that is ready before it is needed."""

import threading

import pytest

from queuekit.worker.spare_processes import SpareProcesses
from support.waiting import PATIENCE, wait_until


class Process:
    """A process that only knows whether it was ended."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        """End it."""
        self.closed = True


def never() -> bool:
    """Do not give up."""
    return False


def test_another_is_made_as_soon_as_one_is_taken() -> None:
    """Nobody waits for it."""
    spares = SpareProcesses(Process)
    assert spares.take() is None

    spares.start()
    spares.wait(never, PATIENCE)
    first = spares.take()
    spares.wait(never, PATIENCE)

    assert first is not None
    assert spares.take() not in (None, first)
    spares.close()


def test_the_last_one_is_ended_with_the_others() -> None:
    """Also one that is ready only after the end."""
    begun, go, made = threading.Event(), threading.Event(), Process()

    def slowly() -> Process:
        begun.set()
        assert go.wait(PATIENCE)
        return made

    spares = SpareProcesses(slowly)
    spares.start()
    assert begun.wait(PATIENCE)

    assert spares.close() == []
    go.set()

    wait_until(lambda: made.closed, what="its end")


def test_waits_no_longer_for_one_that_cannot_be_made() -> None:
    """The next body that needs one tries again, and tells the error."""
    tries: list[int] = []

    def fail() -> Process:
        tries.append(1)
        raise OSError("no processes left")

    spares = SpareProcesses(fail)
    spares.start()
    spares.wait(never, PATIENCE)
    assert len(tries) == 1

    assert spares.take() is None

    wait_until(lambda: len(tries) == 2, what="another try")
    spares.close()


@pytest.mark.parametrize("gives_up", [True, False], ids=["given-up", "too-long"])
def test_does_not_wait_for_ever(*, gives_up: bool) -> None:
    """A worker that is told to stop while its app is imported does not wait for that."""
    SpareProcesses(Process).wait(lambda: gives_up, 0.0 if not gives_up else PATIENCE)
