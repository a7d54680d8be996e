"""The time that a caller gives to the calls of engines."""

import math
import time

import pytest

from queuekit.timelimit import end_of_time, time_left, time_limit, until
from queuekit_testing.kit import in_thread


def test_without_a_limit_it_is_the_usual_time() -> None:
    """Whoever sets none waits as long as the engine's options say."""
    assert (time_left(7), end_of_time()) == (7, None)


def test_a_limit_cuts_what_is_longer() -> None:
    """A shorter timeout of the engine stays."""
    with time_limit(50):
        assert time_left(7) == 7
        assert 0 < time_left(math.inf) <= 50


def test_what_is_over_leaves_nothing() -> None:
    """Less than no time there never is."""
    with until(time.monotonic() - 1):
        assert time_left(7) == 0


@pytest.mark.parametrize("inner", [10, 1_000], ids=["shorter", "longer"])
def test_the_earliest_end_counts(inner: float) -> None:
    """Inside a limit another one can only cut it, and it ends with its block."""
    with time_limit(100):
        with time_limit(inner):
            assert time_left(math.inf) <= min(100, inner)
        assert time_left(math.inf) > 10


def test_a_limit_is_that_of_its_thread() -> None:
    """Others are handed the end."""
    with time_limit(5):
        end = end_of_time()
        other = in_thread(lambda: time_left(7))

        assert other.result(60) == 7
    with until(end):
        assert time_left(7) <= 5
