"""How many messages are held ready: about 100 ms of work, none of it of tasks that take long."""

from collections.abc import Mapping

import pytest

from queuekit.worker.prefetch import Prefetch


def test_holds_a_tenth_where_lanes_take_turns() -> None:
    """What is held ready has had its turn: a message of a quiet lane waits behind it."""
    prefetch = Prefetch(concurrency=10, most=1000)
    prefetch.observe("quick", 0.001)
    prefetch.saw({"quick"})
    prefetch.fair = True

    assert prefetch.size() == 100


def size_for(times: Mapping[str, float], *, seen: set[str], concurrency: int = 10, most: int = 1000) -> int:
    """Return the size after tasks of *times* have run and the last batch held those of *seen*."""
    prefetch = Prefetch(concurrency=concurrency, most=most)
    for name, seconds in times.items():
        prefetch.observe(name, seconds)
    prefetch.saw(seen)
    return prefetch.size()


@pytest.mark.parametrize(
    ("times", "seen", "size"),
    [
        pytest.param({}, set(), 0, id="nothing-known"),
        pytest.param({"quick": 0.001}, {"quick"}, 1000, id="quick"),
        pytest.param({"some": 0.01}, {"some"}, 100, id="ten-milliseconds"),
        pytest.param({"slow": 0.1}, {"slow"}, 0, id="slow"),
        pytest.param({"quick": 0.001}, {"quick", "new"}, 0, id="unknown-counts-as-long"),
        pytest.param({"quick": 0.001, "slow": 5.0}, {"quick", "slow"}, 0, id="the-slowest-decides"),
        pytest.param({"quick": 0.001, "slow": 5.0}, {"quick"}, 1000, id="only-the-last-batch-counts"),
        pytest.param({"instant": 0.0}, {"instant"}, 1000, id="no-time-at-all"),
    ],
)
def test_holds_about_a_tenth_of_a_second(times: Mapping[str, float], seen: set[str], size: int) -> None:
    """By the longest of the tasks in the last batch."""
    assert size_for(times, seen=seen) == size


def test_is_bounded_by_the_setting() -> None:
    """``worker.prefetch`` is the most; 0 switches it off."""
    assert size_for({"quick": 0.0001}, seen={"quick"}, most=7) == 7
    assert size_for({"quick": 0.0001}, seen={"quick"}, most=0) == 0


def test_follows_a_task_that_changes() -> None:
    """The average moves, so a task that becomes slow is soon not prefetched."""
    prefetch = Prefetch(concurrency=10, most=1000)
    prefetch.saw({"t"})
    prefetch.observe("t", 0.001)
    before = prefetch.size()

    for _ in range(20):
        prefetch.observe("t", 1.0)

    assert (before, prefetch.size()) == (1000, 0)


def test_large_bodies_are_not_piled_up() -> None:
    """Of messages of a megabyte it holds some, however quick their task is."""
    prefetch = Prefetch(concurrency=10, most=1000)
    prefetch.observe("quick", 0.0001)
    prefetch.saw({"quick"})

    prefetch.weigh([125_000] * 10)

    assert prefetch.size() == 4


@pytest.mark.parametrize(
    ("sizes", "held", "free", "fit"),
    [
        pytest.param([1_000] * 500, 0, 10, 500, id="small"),
        pytest.param([125_000] * 30, 0, 0, 4, id="large"),
        pytest.param([125_000] * 30, 312_500, 0, 1, id="beside-others"),
        pytest.param([125_000] * 30, 0, 20, 20, id="as-many-as-begin"),
        pytest.param([125_000] * 30, 20_000_000, 0, 0, id="full"),
        pytest.param([20_000_000, 10], 0, 1, 1, id="one-alone"),
    ],
)
def test_bodies_are_held_up_to_a_number_of_bytes(sizes: list[int], held: int, free: int, fit: int) -> None:
    """Beyond that, those alone that begin at once."""
    assert Prefetch(concurrency=10, most=1000).fitting(sizes, held=held, free=free) == fit


def test_what_did_not_fit_is_not_asked_for_again_at_once() -> None:
    """It would come again and again, until what is held is done."""
    prefetch = Prefetch(concurrency=10, most=1000)
    prefetch.observe("quick", 0.0001)
    prefetch.saw({"quick"})
    prefetch.weigh([10] * 100 + [375_000])

    prefetch.fitting([10] * 100 + [375_000], held=375_000, free=0)

    assert prefetch.size() == 1
