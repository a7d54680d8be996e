"""The server's time as this machine knows it."""

import time

import pytest

from queuekit_mongo.servertime import FRESH, ServerTime, steady


def test_a_machine_that_was_suspended_asks_anew() -> None:
    """After hours of sleep the server's time is asked for again, so that nothing sent is stamped with the past."""
    ours, theirs = [100.0], [1_000.0]
    server = ServerTime(lambda: theirs[0], clock=lambda: ours[0])
    before = server.earliest()

    ours[0] += FRESH + 3_600
    theirs[0] += FRESH + 3_700  # theirs was set meanwhile as well

    assert before == 1_000
    assert server.earliest() == theirs[0]
    assert server.latest() >= server.earliest()


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="no clock here goes on in a suspended machine")
def test_the_clock_goes_on_in_a_suspended_machine() -> None:
    """It is the one that counts from the boot, whatever happened since."""
    first = time.clock_gettime(time.CLOCK_BOOTTIME)

    between = steady()

    assert first <= between <= time.clock_gettime(time.CLOCK_BOOTTIME)
