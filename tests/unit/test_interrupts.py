"""Interrupts of waits from another thread."""

import os

import pytest

from queuekit.interrupts import Interrupts
from queuekit_testing.processes import run_in_fork


class Wait:
    """A wait that counts how often it was woken."""

    woken = 0

    def wake(self) -> None:
        """Count."""
        self.woken += 1


def test_wakes_those_that_wait() -> None:
    """Those that have left are left alone."""
    interrupts, here, gone = Interrupts(), Wait(), Wait()
    interrupts.join(here)
    interrupts.join(gone)
    interrupts.leave(gone)

    interrupts.interrupt()

    assert (here.woken, gone.woken) == (1, 0)


def test_an_interrupt_before_the_wait_is_not_lost() -> None:
    """The next one to ask is interrupted, or woken as it joins; once handled it interrupts nobody."""
    interrupts, early, late = Interrupts(), Wait(), Wait()
    handled = interrupts.handled
    interrupts.interrupt()

    interrupts.join(early, since=handled)
    answers = [interrupts.interrupted(handled), interrupts.interrupted(interrupts.handled)]
    interrupts.join(late, since=interrupts.handled)

    assert (answers, early.woken, late.woken) == ([True, False], 1, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_begins_with_none() -> None:
    """What waits in the parent, and what has interrupted it, is not the child's; nor is a lock that is held."""
    interrupts, wait = Interrupts(), Wait()
    interrupts.join(wait)
    interrupts.interrupt()

    def child() -> None:
        assert not interrupts.interrupted(interrupts.handled)
        interrupts.interrupt()
        assert wait.woken == 1

    with interrupts._lock:
        assert run_in_fork(child) == 0
