"""Whether a process has fallen silent, and whose fault that is."""

import math

import pytest

from queuekit.worker.lease_table import HeldLease, LeaseTable
from queuekit.worker.run_table import RunTable
from queuekit.worker.silence import Silence


class Process:
    """What a supervisor sees of a process, on a clock of its own."""

    def __init__(self, *, lease: float = math.inf) -> None:
        self.now = 1_000.0
        self.run_table = RunTable(4)
        self.leases = LeaseTable()
        self.silence = Silence(self.run_table, 0, longest=lease)
        self.run_table.beat(self.now)
        self.silence.look(self.now)

    def passes(self, seconds: int, *, alive: bool = False) -> list[int] | None:
        """Look once in each of some seconds, and return who is to blame."""
        for _ in range(seconds):
            self.now += 1.0
            if alive:
                self.run_table.beat(self.now)
            self.silence.look(self.now)
        return self.silence.suspects(self.now, self.leases)


def test_a_process_that_says_that_it_is_alive_may_go_on() -> None:
    """Whatever runs in it: what is past its time is dealt with there."""
    process = Process()
    process.run_table.enter(0, 1, process.now, 1.0)

    assert process.passes(60, alive=True) is None


def test_a_silent_process_must_end_because_of_what_is_past_its_time() -> None:
    """Not before the limit and a moment are over; what runs beside it is not to blame."""
    process = Process()
    process.run_table.enter(0, 1, process.now, 5.0)
    process.run_table.enter(1, 2, process.now)
    process.run_table.enter(2, 3, process.now, 60.0)

    assert process.passes(6) is None
    assert process.passes(1) == [1]


@pytest.mark.parametrize("timeout", [None, 3600.0])
def test_a_body_within_its_time_may_hold_the_interpreter(timeout: float | None) -> None:
    """For as long as it likes, if it has no limit."""
    process = Process()
    process.run_table.enter(0, 1, process.now, timeout)

    assert process.passes(600) is None


@pytest.mark.parametrize("timeout", [None, 3600.0])
def test_a_body_ends_a_process_that_alone_can_renew_its_leases(timeout: float | None) -> None:
    """When they have ended, whatever its limit: others run its messages by then."""
    process = Process(lease=30.0)
    process.run_table.enter(0, 1, process.now, timeout)

    assert process.passes(29) is None
    assert process.passes(1) == [1]
    assert process.silence.has_lost_leases


def test_a_process_that_alone_can_renew_is_given_time_to_fall_silent() -> None:
    """A lease of a second does not make a busy machine's pause an end."""
    process = Process(lease=1.0)
    process.run_table.enter(0, 1, process.now)

    assert process.passes(5) is None


def test_a_body_elsewhere_does_not_keep_this_process_silent() -> None:
    """It has its own process, which is killed at its limit."""
    process = Process()
    process.leases.hold([HeldLease(1, "q", "id", "token", 1, 5.0, apart=True)])
    process.run_table.enter(0, 1, process.now, 5.0)

    assert process.passes(60) is None


def test_a_process_that_runs_nothing_and_is_silent_has_hung() -> None:
    """It must end, and nobody is to blame."""
    process = Process()

    assert process.passes(10) is None
    assert process.passes(10) == []


def test_a_process_that_has_not_begun_is_not_silent() -> None:
    """It may take long to import an app."""
    process = Process()
    process.run_table.beat(0.0)

    assert process.passes(600) is None


def test_time_in_which_nobody_looked_does_not_count() -> None:
    """Supervisor and process have stood still together."""
    process = Process()
    process.run_table.enter(0, 1, process.now, 5.0)

    process.now += 3_600
    process.silence.look(process.now)

    assert process.silence.suspects(process.now, process.leases) is None


def test_a_process_that_was_stopped_has_time_to_come_back() -> None:
    """What was counted is forgotten."""
    process = Process()
    process.run_table.enter(0, 1, process.now, 1.0)
    blamed = process.passes(5)

    process.silence.forget()

    assert (blamed, process.passes(2), process.passes(3)) == ([1], None, [1])
