"""Reservations of starts: evenly spaced, none twice, whoever reserves at the same time."""

from typing import Any

import pytest

from queuekit.clock import VirtualClock
from queuekit.envelope import Envelope
from queuekit.limiting.rates import RESERVED, LimitKey, Rates, has_turn, slowed, starts, with_turn
from queuekit.limits import Rate
from support.flaky import FlakyBackend
from support.interleaving import Interleaving, Stepping
from support.working import backend_of, flaky_app

NOW = 1_800_000_000.0
RATE = Rate("10/s")
PLACE = LimitKey("stripe", "acme", RATE)


@pytest.fixture
def backend() -> FlakyBackend:
    """Return a backend whose calls are counted."""
    return backend_of(flaky_app(clock=VirtualClock()))


def reserve(backend: Any, count: int, place: LimitKey = PLACE, now: float = NOW) -> list[float]:
    """Reserve *count* starts."""
    return Rates(backend).reserve([place], now, lambda *_: count)[place]


@pytest.mark.parametrize("hops", [0, 1, RESERVED - 1, RESERVED, RESERVED + 7, 2 * RESERVED - 1])
def test_mark_of_a_turn_fits_into_every_engine(hops: int) -> None:
    """A message with a turn is known by its hops, of which SQS and RabbitMQ keep a million."""
    envelope = with_turn(Envelope(id="a", queue="q", body=b"", hop=hops), NOW, 0.0)

    assert has_turn(envelope)
    assert envelope.hop <= 1_000_000


def test_starts_are_evenly_spaced() -> None:
    """The first may start at once, each of the others one interval later."""
    found, following = starts(RATE, 3, next_start=0.0, now=NOW)

    assert found == pytest.approx([NOW, NOW + 0.1, NOW + 0.2])
    assert following == pytest.approx(NOW + 0.3)


def test_burst_may_start_at_once() -> None:
    """After a quiet time as many may start as the burst says; a busy one has used it up."""
    rate = Rate("10/s", burst=3)
    first, following = starts(rate, 5, next_start=0.0, now=NOW)
    second, _ = starts(rate, 1, next_start=following, now=NOW)

    assert first == pytest.approx([NOW, NOW, NOW, NOW + 0.1, NOW + 0.2])
    assert second == pytest.approx([NOW + 0.3])


def test_batches_follow_each_other(backend: FlakyBackend) -> None:
    """A batch begins where the one before it has ended."""
    found = reserve(backend, 3) + reserve(backend, 2)

    assert found == pytest.approx([NOW + 0.1 * number for number in range(5)])


def test_costs_two_round_trips_a_batch(backend: FlakyBackend) -> None:
    """One read and one write, however many limits and messages."""
    places = [LimitKey("stripe", str(number), RATE) for number in range(50)]

    Rates(backend).reserve(places, NOW, lambda *_: 100)

    assert backend.wire.calls == ["get", "put"]


def test_keys_do_not_meet(backend: FlakyBackend) -> None:
    """Each key has its own starts."""
    reserve(backend, 100)

    assert reserve(backend, 1, LimitKey("stripe", "other", RATE)) == [NOW]


def test_record_lives_as_long_as_it_is_needed(backend: FlakyBackend) -> None:
    """Nothing is left of a limit whose time has passed."""
    reserve(backend, 10)

    (record,) = backend.scan("rate:").items

    assert record.ttl == pytest.approx(1.0 + 1.0)


def test_nothing_starts_while_slowed_down(backend: FlakyBackend) -> None:
    """The service's own answer counts more than the numbers."""
    backend.put([slowed("stripe", "acme", until=NOW + 30, seconds=30)])

    assert reserve(backend, 2) == pytest.approx([NOW + 30, NOW + 30.1])


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"next": "x"}', b'{"limit": "x"}', b'{"next": null}'])
def test_bears_with_any_record(backend: FlakyBackend, body: bytes) -> None:
    """A record that cannot be read limits nothing, and is written anew."""
    from queuekit.backend import Record

    backend.put([Record(key=key, body=body) for key in PLACE.records])

    assert reserve(backend, 1) == [NOW]


@pytest.mark.parametrize("seed", range(40))
def test_no_start_is_reserved_twice(seed: int) -> None:
    """Whoever reads and writes in between, all reserved starts are different and one interval apart."""
    search, found = Interleaving(seed), list[float]()
    backend = Stepping(backend_of(flaky_app(clock=VirtualClock())), search)

    def worker() -> None:
        for count in (1, 3, 2):
            found.extend(reserve(backend, count))

    search.run([worker] * 4)

    assert sorted(found) == pytest.approx([NOW + 0.1 * number for number in range(24)])
