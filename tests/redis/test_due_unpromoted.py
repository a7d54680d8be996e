"""Delayed messages that are due where no worker runs: more of them than one step promotes are ready all the same."""

import itertools

import pytest

from queuekit.broker import Place
from queuekit.envelope import Envelope
from queuekit_redis.broker import RedisBroker
from queuekit_testing.kit import eventually

COUNT = 2_500
"""Messages: a step promotes 1,000."""


@pytest.fixture
def crowded(broker: RedisBroker) -> RedisBroker:
    """Return a broker with many messages that are due, and one that is not."""
    ids = (f"id-{number:04}" for number in range(COUNT))
    while part := list(itertools.islice(ids, 500)):
        broker.send([Envelope(id=id, queue="jobs", body=b"", delay=0.01) for id in part])
    broker.send([Envelope(id="late", queue="jobs", body=b"", delay=600.0)])
    eventually(lambda: broker.counts(["jobs"])["jobs"].ready == COUNT)
    return broker


def shown(broker: RedisBroker, place: Place) -> list[str]:
    """Return the ids that are shown in *place*, page by page."""
    found, cursor = list[str](), None
    while True:
        page = broker.peek("jobs", place=place, limit=200, cursor=cursor)
        found += [stored.envelope.id for stored in page.items]
        cursor = page.cursor
        if cursor is None:
            return found


def test_purge_takes_all_that_are_ready(crowded: RedisBroker) -> None:
    """All that are counted as ready are taken out, and the one that is not due stays."""
    purged = crowded.purge("jobs")

    counts = crowded.counts(["jobs"])["jobs"]
    assert (purged, counts.ready, counts.delayed) == (COUNT, 0, 1)


def test_purge_takes_the_delayed_alone(crowded: RedisBroker) -> None:
    """Those that are due are delayed no more, and stay."""
    purged = crowded.purge("jobs", place=Place.DELAYED)

    counts = crowded.counts(["jobs"])["jobs"]
    assert (purged, counts.ready, counts.delayed) == (1, COUNT, 0)


@pytest.mark.parametrize("place", [Place.READY, Place.DELAYED], ids=str)
def test_remove_knows_where_a_message_is(crowded: RedisBroker, place: Place) -> None:
    """One that is due can be taken out of the ready ones, and not out of the delayed ones."""
    last = f"id-{COUNT - 1:04}"

    removed = crowded.remove("jobs", [last, "late"], place=place)

    assert removed == ([last] if place is Place.READY else ["late"])


def test_find_says_where_a_message_is(crowded: RedisBroker) -> None:
    """One that is due is ready, when it is looked for by its id."""
    found = crowded.find("jobs", [f"id-{COUNT - 1:04}", "late"])

    assert [stored.place for stored in found] == [Place.READY, Place.DELAYED]


def test_peek_shows_each_in_its_place(crowded: RedisBroker) -> None:
    """The delayed ones are shown without those that are due, which are among the ready ones."""
    delayed, ready = shown(crowded, Place.DELAYED), shown(crowded, Place.READY)

    assert delayed == ["late"]
    assert ready == [f"id-{number:04}" for number in range(COUNT)]
