"""The clock that stands still until a test moves it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from queuekit.clock import VirtualClock
from support.waiting import PATIENCE


def test_stands_still() -> None:
    """Nothing but ``advance`` moves it."""
    clock = VirtualClock(start=1_000)

    assert (clock.time(), clock.monotonic()) == (1_000.0, 0.0)
    assert (clock.time(), clock.monotonic()) == (1_000.0, 0.0)


def test_advances() -> None:
    """Both of its times move together."""
    clock = VirtualClock(start=1_000)

    clock.advance(2.5)

    assert (clock.time(), clock.monotonic()) == (1_002.5, 2.5)


@pytest.mark.parametrize("step", [0.1, 0.2, 1 / 3, 1e-6, 86_400.7])
def test_reaches_what_was_planned(step: float) -> None:
    """After an advance by as much, ``time() + seconds`` has come, however the sum was rounded."""
    clock = VirtualClock()
    for _ in range(100):
        due = clock.time() + step

        clock.advance(step)

        assert clock.time() >= due


def test_lets_sleepers_go_on() -> None:
    """A thread that sleeps goes on when its time has come, and not before."""
    clock = VirtualClock()
    with ThreadPoolExecutor(1) as pool:
        sleeper = pool.submit(clock.sleep, 10.0)
        clock.wait_for_waiters(1)
        clock.advance(9.0)
        early = sleeper.done()
        clock.advance(1.0)

        sleeper.result(timeout=PATIENCE)

    assert not early
    assert clock.waiting == 0


def test_tells_whether_the_time_has_passed() -> None:
    """``wait`` is false when its seconds have passed, and true when it was woken before."""
    clock = VirtualClock()
    condition = threading.Condition()

    def wait() -> bool:
        with condition:
            return clock.wait(condition, 5.0)

    with ThreadPoolExecutor(1) as pool:
        woken = pool.submit(wait)
        clock.wait_for_waiters(1)
        with condition:
            condition.notify_all()
        notified = woken.result(timeout=PATIENCE)
        clock.advance(1.0)
        with condition:
            at_once = clock.wait(condition, 0.0)

    assert notified
    assert not at_once


def test_complains_about_missing_waiters() -> None:
    """A test that waits for threads that do not wait is told so."""
    with pytest.raises(TimeoutError, match="0 of 1 threads"):
        VirtualClock().wait_for_waiters(1, timeout=0.01)
