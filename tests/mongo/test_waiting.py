"""How often those look by themselves whom no change stream calls."""

import threading
import time
from collections.abc import Iterator

import pytest
from pymongo.errors import AutoReconnect

from queuekit.errors import UnavailableError
from queuekit_mongo.waiting import POLLING, QUIET, SLUMBER, Notifier
from support.forks import status_of_a_fork_beside
from support.waiting import wait_until


@pytest.fixture
def notifier() -> Iterator[Notifier]:
    """Return a notifier without a stream."""
    made = Notifier(available=lambda: False, follow=lambda: pytest.fail("there is no stream"), name_of=str)
    yield made
    made.close()


def pauses(notifier: Notifier, *, quiet: float) -> list[float]:
    """Return the pauses that somebody makes who listens after *quiet* seconds without anything."""
    with notifier.listen(["q"], since=time.monotonic() - quiet) as listener:
        made = []
        for _ in range(8):
            made.append(listener._pause)
            listener.wake()
            listener.wait(60)
    return made


def test_polls_are_close_together_at_first(notifier: Notifier) -> None:
    """Right after a message one looks often, then less, and no less than the longest pause of busy times."""
    made = pauses(notifier, quiet=0.0)

    assert made[0] == POLLING[0]
    assert made == sorted(made)
    assert made[-1] == POLLING[1]


def test_polls_are_rare_where_nothing_comes(notifier: Notifier) -> None:
    """After a long time without a message one looks as seldom as ever, from the start."""
    assert pauses(notifier, quiet=QUIET + 1) == [SLUMBER] * 8


class Silent:
    """A stream in which nothing happens."""

    alive = True

    def try_next(self) -> None:
        """Return nothing, after a while."""
        threading.Event().wait(0.01)

    def close(self) -> None:
        """Nothing to close."""


def test_a_stream_that_cannot_be_opened_is_opened_later() -> None:
    """Whatever is wrong, also an error of ours such as an index in the way: the thread is at it again soon."""
    errors = [UnavailableError("there is something in the way"), AutoReconnect("gone")]

    def follow() -> Silent:
        if errors:
            raise errors.pop()
        return Silent()

    notifier = Notifier(available=lambda: True, follow=follow, name_of=str)
    with notifier.listen(["q"]):
        wait_until(lambda: notifier.streams, "the stream is open")

    assert errors == []
    notifier.close()


def test_an_interrupt_ends_a_wait(notifier: Notifier) -> None:
    """A waiter is woken by an interrupt, however long its pause."""
    with notifier.listen(["q"]) as listener:
        notifier.interrupts.interrupt()

        assert listener.wait(60)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_does_not_wait_for_a_lock_of_its_parents_threads(notifier: Notifier) -> None:
    """A process that forks while another thread holds the notifier's lock has a child that can close its broker."""

    def work() -> None:
        notifier.interrupts.interrupt()
        notifier.close()

    status = status_of_a_fork_beside(notifier._changed, work)

    assert status == 0
