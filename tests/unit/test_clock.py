"""The machine's clock, as the rest of the code sees it."""

import threading
import time

from queuekit.clock import Clock, SystemClock


def test_tells_the_machines_time() -> None:
    """Wall time and monotonic time are those of the machine."""
    clock: Clock = SystemClock()

    before, told, after = time.time(), clock.time(), time.time()
    earlier, monotonic, later = time.monotonic(), clock.monotonic(), time.monotonic()

    assert before <= told <= after
    assert earlier <= monotonic <= later


def test_sleeps() -> None:
    """A sleep takes no less than it was told to."""
    clock = SystemClock()
    begin = clock.monotonic()

    clock.sleep(0.002)

    assert clock.monotonic() - begin >= 0.002


def test_waits_on_a_condition() -> None:
    """A wait ends with false when the time has passed, with true when it was notified."""
    clock, condition = SystemClock(), threading.Condition()

    with condition:
        timed_out = clock.wait(condition, 0.001)
        threading.Thread(target=notify, args=(condition,)).start()
        notified = clock.wait(condition, 10)

    assert (timed_out, notified) == (False, True)


def notify(condition: threading.Condition) -> None:
    """Wake whoever waits."""
    with condition:
        condition.notify_all()
