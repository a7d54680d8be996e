"""One leads at a time: by a record that its holder renews, and that ends when it does not."""

import pytest

from queuekit.backend import Backend
from queuekit.clock import VirtualClock
from queuekit.errors import UnavailableError
from queuekit.schedules.leadership import Leadership
from support.working import backend_of, flaky_app

TTL = 15.0


class Bench:
    """A backend and a clock."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.app = flaky_app(clock=self.clock)

    def seeker(self, name: str) -> Leadership:
        """Return one who seeks the lead."""
        return Leadership(self.backend, self.clock, key="leader:x", name=name, ttl=TTL)

    @property
    def backend(self) -> Backend:
        """The backend."""
        return backend_of(self.app)


@pytest.fixture
def bench() -> Bench:
    """Return a bench."""
    return Bench()


def test_first_to_seek_leads(bench: Bench) -> None:
    """Who comes first leads; who comes later does not, and knows for how long at least."""
    first, second = bench.seeker("a"), bench.seeker("b")

    answers = (first.seek(), second.seek())

    assert answers == (True, False)
    assert (first.is_leader, second.is_leader) == (True, False)
    assert second.left == pytest.approx(TTL)


def test_renewed_lead_is_kept(bench: Bench) -> None:
    """As long as it is renewed in time the lead stays where it is."""
    first, second = bench.seeker("a"), bench.seeker("b")
    for _ in range(5):
        assert first.seek()
        bench.clock.advance(TTL * 0.9)

    assert not second.seek()
    assert first.seek()


def test_lead_of_the_silent_is_taken_over(bench: Bench) -> None:
    """When the lease is over another leads; the first finds that out by its own clock, before it asks."""
    first, second = bench.seeker("a"), bench.seeker("b")
    first.seek()
    bench.clock.advance(TTL + 0.01)

    assert not first.is_leader
    assert second.seek()
    assert not first.seek()


def test_lead_ends_by_the_time_before_it_was_asked_for(bench: Bench) -> None:
    """Time that passes on the way to the backend counts: the lease is never thought longer than it is."""
    first = bench.seeker("a")
    backend_of(bench.app).wire.answers["put"] = lambda: bench.clock.advance(10)

    first.seek()
    bench.clock.advance(5)

    assert not first.is_leader


def test_one_wins_where_two_seek_at_once(bench: Bench) -> None:
    """Between the look and the write another may have come: the write is refused then."""
    first, second = bench.seeker("a"), bench.seeker("b")
    backend_of(bench.app).wire.answers["put"] = second.seek

    assert not first.seek()
    assert second.is_leader


def test_resigned_lead_is_free(bench: Bench) -> None:
    """Who resigns leaves the lead to the next at once; who does not lead leaves it where it is."""
    first, second = bench.seeker("a"), bench.seeker("b")
    first.seek()

    second.resign()
    assert first.seek()
    first.resign()

    assert not first.is_leader
    assert second.seek()


def test_outage_leaves_the_lease_until_its_end(bench: Bench) -> None:
    """A backend that does not answer takes nobody's lead away before its time, and gives it to nobody."""
    first = bench.seeker("a")
    first.seek()
    backend_of(bench.app).wire.cut = {"get"}

    with pytest.raises(UnavailableError):
        first.seek()
    still = first.is_leader
    bench.clock.advance(TTL)

    assert (still, first.is_leader) == (True, False)
