"""What the contract of a broker answers where a plugin has nothing of its own."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from queuekit.backend import Page
from queuekit.broker import Broker, Delivery, Lease, Place, QueueCounts, Settlement, Stored, count_each
from queuekit.engines.memory import MemoryBackend
from queuekit.engines.uniqueness import WithUniqueKeys
from queuekit.envelope import Envelope
from queuekit.errors import CapabilityError, UnavailableError
from queuekit.timelimit import time_limit
from queuekit.urls import EngineURL


class LeastBroker(Broker):
    """A broker that delivers, and no more."""

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Take nothing."""
        return []

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Give nothing."""
        return []

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Extend nothing."""
        return []

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Settle nothing."""
        return []


class PagingBroker(LeastBroker):
    """A broker that shows its messages, one a page."""

    def peek(self, queue: str, *, place: Place, limit: int = 100, cursor: str | None = None) -> Page[Stored]:
        """Return one message of each id."""
        number = int(cursor or 0)
        stored = Stored(envelope=Envelope(id=f"{place}-{number}", queue=queue, body=b""), place=place)
        return Page(items=(stored,), cursor=str(number + 1) if number < 2 else None)


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        pytest.param(lambda broker: broker.commit([]), "commit", id="commit"),
        pytest.param(lambda broker: broker.queues(), "list queues", id="queues"),
        pytest.param(lambda broker: broker.counts(["q"]), "count messages", id="counts"),
        pytest.param(lambda broker: broker.peek("q", place=Place.READY), "show waiting messages", id="peek"),
        pytest.param(lambda broker: broker.find("q", ["a"]), "show waiting messages", id="find"),
        pytest.param(lambda broker: broker.requeue("q"), "replay dead letters", id="requeue"),
        pytest.param(lambda broker: broker.remove("q", ["a"]), "remove messages by id", id="remove"),
        pytest.param(lambda broker: broker.purge("q"), "purge", id="purge"),
    ],
)
def test_says_what_it_cannot_do(ask: Callable[[Broker], Any], what: str) -> None:
    """New verbs do not break old plugins: each has a body that names the broker and the deed."""
    with pytest.raises(CapabilityError, match=f"LeastBroker cannot {what}"):
        ask(LeastBroker())


def test_the_rest_may_be_left_out() -> None:
    """Nothing to interrupt, to check, to tell or to close is a legal answer."""
    broker = LeastBroker()

    broker.interrupt()
    broker.close()

    assert broker.check() == broker.check_queues(["q"], max_deliveries=3) == broker.notes() == []


def test_unique_keys_hide_no_findings() -> None:
    """What the broker inside finds in queues, and what it tells, is heard through the keys put around it."""

    class Talker(LeastBroker):
        def check_queues(self, queues: Sequence[str], *, max_deliveries: int) -> list[str]:
            """Find something wrong with each."""
            return [f"{queue} allows less than {max_deliveries}" for queue in queues]

        def notes(self) -> list[str]:
            """Tell of costs."""
            return ["3 requests a task"]

    broker = WithUniqueKeys(Talker(), MemoryBackend(EngineURL.parse("memory://")))

    assert broker.check_queues(["q"], max_deliveries=3) == ["q allows less than 3"]
    assert broker.notes() == ["3 requests a task"]


def test_finds_by_looking_through_all_pages() -> None:
    """A broker that can show its messages can find them, wherever they are."""
    found = PagingBroker().find("q", ["ready-2", "dead-0", "leased-9"])

    assert [stored.envelope.id for stored in found] == ["ready-2", "dead-0"]


def test_a_queue_that_cannot_be_counted_leaves_the_others_counted() -> None:
    """One that takes too long holds 0 or more of everything; where none is counted, there is an error."""

    def count(queue: str) -> QueueCounts:
        if queue == "slow":
            raise UnavailableError("no answer in time")
        return QueueCounts(ready=3)

    found = count_each(["a", "slow", "b"], count)

    assert found == {
        "a": QueueCounts(ready=3),
        "slow": QueueCounts(at_least=frozenset(Place)),
        "b": QueueCounts(ready=3),
    }
    with pytest.raises(UnavailableError, match="no answer in time"):
        count_each(["slow"], count)
    assert count_each([], count) == {}


def test_no_queue_is_counted_after_the_time_is_over() -> None:
    """A service that has used up the time is not asked for each of the other queues as well."""
    asked: list[str] = []

    def count(queue: str) -> QueueCounts:
        asked.append(queue)
        if len(asked) > 1:
            raise UnavailableError("no answer in time")
        return QueueCounts()

    with time_limit(0):
        found = count_each(["a", "b", "c", "d"], count)

    assert asked == ["a", "b"]
    assert [bool(found[queue].at_least) for queue in "abcd"] == [False, True, True, True]
