"""The time that a caller gives to the calls of engines."""

import math
import time

import pytest

from queuekit.timelimit import end_of_time, made_progress, progress_limit, time_left, time_limit, until
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


def test_each_part_has_its_own_time() -> None:
    """What gets on may take as long as it needs; what hangs ends when the time of one part is over."""
    with progress_limit(100):
        first = end_of_time() or 0.0
        while time.monotonic() <= first - 100:
            pass
        made_progress()
        second = end_of_time() or 0.0

    assert first < second <= time.monotonic() + 100
    assert end_of_time() is None


@pytest.mark.parametrize("inner", [True, False], ids=["inside", "outside"])
def test_progress_moves_no_limit_of_another(inner: bool) -> None:  # noqa: FBT001
    """A limit for all of the work stays what it is, around such parts or in one of them."""
    outer, inner_limit = (progress_limit, time_limit) if inner else (time_limit, progress_limit)
    with outer(100), inner_limit(10):
        before = end_of_time()
        made_progress()

        assert end_of_time() == before


def test_progress_without_a_limit_sets_none() -> None:
    """Engines tell it without asking who called."""
    made_progress()

    assert end_of_time() is None
