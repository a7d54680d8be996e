"""Dead letters as records of the result backend, for a broker that keeps none."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from queuekit.backend import BackendCapabilities, BackendLimits
from queuekit.broker import Ack, Broker, Dead, Delivery, Place, Settlement
from queuekit.client.runtime import _completed
from queuekit.engines.dead_letters import WithDeadLetters
from queuekit.engines.memory import MemoryBackend, MemoryBroker
from queuekit.envelope import join_frame, split_frame
from queuekit.errors import UnavailableError
from queuekit.urls import EngineURL
from queuekit_testing.brokers.places import PlacesTests
from queuekit_testing.kit import unique_name


def new_url() -> EngineURL:
    """Return the URL of an engine that nobody else uses."""
    return EngineURL.parse(f"memory://{unique_name('dead')}")


class DropsTheDead(MemoryBroker):
    """A broker whose dead letters are gone."""

    capabilities = attrs.evolve(MemoryBroker.capabilities, dead_letters=False, commit=False)
    down = False

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Acknowledge what dies."""
        if self.down:
            raise UnavailableError("no answer")
        return super().settle([Ack(each.delivery) if isinstance(each, Dead) else each for each in settlements])


class TestPlacesWithDeadLetters(PlacesTests):
    """All that is asked of dead letters, and of the other places beside them."""

    SHORT = 0.05

    @pytest.fixture
    def server(self) -> None:
        """Choose engines of broker and backend."""
        self.url, self.results = new_url(), new_url()
        self.engines = (MemoryBroker(self.url), MemoryBackend(self.results))

    def make_broker(self) -> Broker:
        """Return one more client of both."""
        return WithDeadLetters(DropsTheDead(self.url), MemoryBackend(self.results))


@pytest.fixture
def suite() -> TestPlacesWithDeadLetters:
    """Return the suite, for its helpers."""
    made = TestPlacesWithDeadLetters()
    made.url, made.results = new_url(), new_url()
    made.engines = (MemoryBroker(made.url), MemoryBackend(made.results))
    return made


def test_shows_what_was_too_large_to_be_kept(suite: TestPlacesWithDeadLetters) -> None:
    """With its reason, and a word about its body; it is not replayed without one."""
    backend = MemoryBackend(suite.results)
    backend.limits = BackendLimits(max_record=20_000)
    with suite.session() as other:
        broker, queue = WithDeadLetters(DropsTheDead(suite.url), backend), suite.new_queue()
        large = suite.sent_and_taken(other, suite.message(queue, body=bytes(19_000)))
        suite.do(broker, Dead(large, reason="failed", error="ValueError: no"))

        (stored,) = broker.peek(queue, place=Place.DEAD).items

        assert (stored.envelope.id, stored.reason) == (large.id, "failed")
        assert stored.error == "the body was too large to be kept; ValueError: no"
        assert broker.requeue(queue) == []
        assert broker.remove(queue, [large.id], place=Place.DEAD) == [large.id]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("died_at", "yesterday", id="died"),
        pytest.param("died_at", 1e400, id="never"),
        pytest.param("sent_at", [], id="sent"),
        pytest.param("queue", 5, id="queue"),
        pytest.param("generation", "1", id="generation"),
        pytest.param("priority", True, id="priority"),
        pytest.param("reason", None, id="reason"),
        pytest.param("unique", {"key": 5, "until": "done", "ttl": 1}, id="unique"),
        pytest.param("unique", {"key": "k", "until": [], "ttl": 1}, id="until"),
        pytest.param("unique", 5, id="unique-number"),
        pytest.param("more", 1, id="unknown-field"),
    ],
)
def test_a_record_of_others_hides_no_dead_letter(suite: TestPlacesWithDeadLetters, name: str, value: object) -> None:
    """What cannot have been written here is left out; those beside it are counted, shown and replayed."""
    backend = MemoryBackend(suite.results)
    with suite.session() as other:
        broker, queue = WithDeadLetters(DropsTheDead(suite.url), backend), suite.new_queue()
        letters = [Dead(suite.sent_and_taken(other, suite.message(queue)), reason="failed") for _ in range(2)]
        broker.settle(letters)
        spoilt, good = (each.delivery.envelope.id for each in letters)
        (record,) = [one for one in backend.walk("dead:") if spoilt.encode() in one.body]
        header, body = split_frame(record.body)
        backend.put([attrs.evolve(record, body=join_frame({**header, name: value}, body))])

        counted, shown = broker.counts([queue])[queue].dead, broker.peek(queue, place=Place.DEAD).items
        replayed = broker.requeue(queue)

    assert (counted, [each.envelope.id for each in shown], replayed) == (1, [good], [good])


def test_forgets_who_has_not_died(suite: TestPlacesWithDeadLetters) -> None:
    """A settlement under a lost lease leaves no dead letter, and takes away none of whoever was right."""
    with suite.session() as broker:
        queue = suite.new_queue()
        stale, present = suite.lapsed(broker, queue)

        assert broker.settle([Dead(stale, reason="failed")]) == [stale]
        assert suite.seen(broker, queue, Place.DEAD) == []
        suite.do(broker, Dead(present, reason="crashed"))
        assert broker.settle([Dead(stale, reason="failed")]) == [stale]

        (stored,) = broker.peek(queue, place=Place.DEAD).items
        assert stored.reason == "crashed"


def test_loses_no_reason_when_the_broker_is_down(suite: TestPlacesWithDeadLetters) -> None:
    """The record is written first; the settlement may be repeated."""
    with suite.session() as other:
        inner = DropsTheDead(suite.url)
        broker, queue = WithDeadLetters(inner, MemoryBackend(suite.results)), suite.new_queue()
        delivery = suite.sent_and_taken(other, suite.message(queue))
        inner.down = True
        with pytest.raises(UnavailableError):
            broker.settle([Dead(delivery, reason="failed")])
        inner.down = False

        suite.do(broker, Dead(delivery, reason="failed"))

        assert suite.seen(broker, queue, Place.DEAD) == [delivery.id]


def test_is_put_around_brokers_that_keep_none() -> None:
    """Where the backend can list records; else they are deleted, as the broker does it."""
    scans, lists_nothing = MemoryBackend(new_url()), MemoryBackend(new_url())
    lists_nothing.capabilities = BackendCapabilities(scan=False)

    assert _completed(DropsTheDead(new_url()), scans).capabilities.dead_letters
    assert not _completed(DropsTheDead(new_url()), lists_nothing).capabilities.dead_letters
    assert not _completed(DropsTheDead(new_url()), None).capabilities.dead_letters
