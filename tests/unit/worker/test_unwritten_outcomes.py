"""How many outcomes may wait to be written."""

import threading

import pytest

from queuekit.worker.unwritten_outcomes import UnwrittenOutcomes
from queuekit_testing.kit import in_thread
from support.waiting import wait_until


class Place:
    """Outcomes that wait, at a given pace of bodies."""

    def __init__(self, pace: float = 0.0, *, places: int = 10) -> None:
        self.queued = 0
        self.unwritten = UnwrittenOutcomes(places, pace=lambda: pace)
        self.unwritten.waiting = lambda: self.queued

    def room(self, *, busy: int = 0) -> int:
        """Return how many outcomes wait when no other body may begin."""
        self.queued = next(count for count in range(100_000) if self._is_full(count, busy))
        return self.queued

    def _is_full(self, count: int, busy: int) -> bool:
        self.queued = count
        return self.unwritten.full(busy)


def test_of_long_bodies_there_are_no_more_outcomes_than_places() -> None:
    """However quick the engine is."""
    place = Place(0.02)

    place.unwritten.wrote(10, 0.001)

    assert (place.room(), place.room(busy=9)) == (10, 10)


def test_where_the_engine_is_slower_than_bodies_an_outcome_takes_a_place() -> None:
    """Or there would be twice as many when the bodies that run now have ended."""
    place = Place(0.02)

    place.unwritten.wrote(10, 0.03)

    assert (place.room(busy=4), place.room(busy=9)) == (6, 1)


@pytest.mark.parametrize(
    ("count", "seconds", "room"),
    [
        pytest.param(300, 0.5, 600, id="two-round-trips"),
        pytest.param(50, 0.005, 1000, id="a-tenth-of-a-second"),
        pytest.param(1, 0.5, 10, id="the-places"),
    ],
)
def test_of_short_bodies_there_are_as_many_as_are_soon_written(count: int, seconds: float, room: int) -> None:
    """What two round trips write, or a tenth of a second of work, whichever is more; the places in any case."""
    place = Place(0.001)

    place.unwritten.wrote(count, seconds)

    assert place.room() == room


def test_what_is_being_written_counts() -> None:
    """It may run again as well."""
    place = Place(0.02)
    place.unwritten.wrote(1, 0.001)

    place.unwritten.writing = 7

    assert place.room() == 3


def test_a_body_waits_until_outcomes_are_written() -> None:
    """And those who listen hear of it."""
    place = Place(0.02)
    place.unwritten.wrote(1, 0.001)
    heard = threading.Event()
    place.unwritten.listeners.append(heard.set)
    place.queued = 10

    waiting = in_thread(lambda: place.unwritten.wait(lambda: 0))
    wait_until(lambda: place.unwritten._waiters)
    place.queued = 0
    place.unwritten.wrote(10, 0.001)

    assert waiting.result(60) is None
    assert heard.is_set()
