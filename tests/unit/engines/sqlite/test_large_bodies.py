"""Large bodies, which are not in the row that changes: what a change writes, and what is left of them."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from queuekit.broker import Ack, Dead, Delivery, Place, Release, Replace
from queuekit.engines.sqlite import SqliteBroker
from queuekit.engines.sqlite.rows import LARGE_BODY
from queuekit.envelope import Envelope

LARGE = bytes(range(256)) * 4_000
SMALL = b"body"


def message(body: bytes = LARGE, *, id: str = "a", queue: str = "q", attempt: int = 0) -> Envelope:
    """Return a message."""
    return Envelope(id=id, queue=queue, body=body, attempt=attempt)


def claim(broker: SqliteBroker, queue: str = "q") -> Delivery:
    """Claim the only message."""
    (delivery,) = broker.receive([queue], limit=10, wait=0, lease=30)
    return delivery


def change(path: Path, sql: str) -> list[tuple[object, ...]]:
    """Execute a statement as another program could, and return its rows."""
    with contextlib.closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as file:
        return file.execute(sql).fetchall()


def kept(path: Path) -> list[object]:
    """Return the large bodies that are in the file."""
    return [body for (body,) in change(path, "SELECT body FROM bodies")]


def retry(delivery: Delivery, body: bytes = LARGE) -> Replace:
    """Return the settlement of a run that has failed."""
    return Replace(delivery, attrs.evolve(delivery.envelope, body=body, attempt=delivery.envelope.attempt + 1))


@pytest.mark.parametrize(
    "settle",
    [
        lambda broker, delivery: broker.extend([delivery.lease], lease=60),
        lambda broker, delivery: broker.settle([Release(delivery)]),
        lambda broker, delivery: broker.settle([Release(delivery, delay=60)]),
        lambda broker, delivery: broker.settle([retry(delivery, bytes(LARGE))]),
        lambda broker, delivery: broker.settle([Dead(delivery, reason="failed", error="")]),
        lambda broker, delivery: broker.settle([Ack(delivery)]),
    ],
    ids=["extend", "release", "snooze", "retry", "dead", "ack"],
)
def test_are_not_written_again(
    broker: SqliteBroker, path: Path, settle: Callable[[SqliteBroker, Delivery], object]
) -> None:
    """A claim and what follows write a few pages, as for a small message."""
    log = path.with_name(f"{path.name}-wal")
    broker.send([message()])
    before = log.stat().st_size

    settle(broker, claim(broker))

    assert log.stat().st_size - before < len(LARGE) / 10


@pytest.mark.parametrize("size", [LARGE_BODY, LARGE_BODY + 1], ids=["small", "large"])
def test_come_back_whole(broker: SqliteBroker, path: Path, size: int) -> None:
    """As a delivery, shown, dead and replayed."""
    body = LARGE[:size]
    broker.send([message(body), message(body[::-1], id="b")])

    found = broker.receive(["q"], limit=10, wait=0, lease=30)
    broker.settle([Dead(delivery, reason="failed", error="") for delivery in found])
    shown = broker.peek("q", place=Place.DEAD).items
    broker.requeue("q")
    again = broker.receive(["q"], limit=10, wait=0, lease=30)

    assert [delivery.envelope.body for delivery in found] == [body, body[::-1]]
    assert sorted(stored.envelope.body for stored in shown) == sorted([body, body[::-1]])
    assert [delivery.envelope.body for delivery in again] == [body, body[::-1]]
    assert len(kept(path)) == (2 if size > LARGE_BODY else 0)


@pytest.mark.parametrize(
    "end",
    [
        lambda broker: broker.settle([Ack(claim(broker))]),
        lambda broker: broker.settle([retry(claim(broker), SMALL)]),
        lambda broker: broker.send([message(SMALL, attempt=1)]),
        lambda broker: broker.purge("q"),
        lambda broker: broker.remove("q", ["a"]),
    ],
    ids=["ack", "retry", "later-step", "purge", "remove"],
)
def test_leave_with_their_message(broker: SqliteBroker, path: Path, end: Callable[[SqliteBroker], object]) -> None:
    """No body stays in the file that no message has."""
    broker.send([message()])
    assert kept(path) == [LARGE]

    end(broker)

    assert kept(path) == []


def test_repeated_send_leaves_one(broker: SqliteBroker, path: Path) -> None:
    """The first one counts, also within a batch; a later step brings its own."""
    broker.send([message(), message(LARGE[1:])])
    broker.send([message(LARGE[2:])])
    first = kept(path)

    broker.send([message(LARGE[3:], attempt=1)])

    assert first == [LARGE]
    assert kept(path) == [LARGE[3:]]


def test_retry_brings_another(broker: SqliteBroker, path: Path) -> None:
    """On another queue, where the same id has one too, only the retry's own is left."""
    broker.send([message(), message(LARGE[1:], queue="other")])

    broker.settle([retry(claim(broker), LARGE[2:])])
    delivery = claim(broker)
    broker.settle([Replace(delivery, attrs.evolve(delivery.envelope, queue="other", attempt=2))])

    assert claim(broker, "other").envelope.body == LARGE[2:]
    assert kept(path) == [LARGE[2:]]


def test_one_that_is_missing_sets_its_message_aside(broker: SqliteBroker, path: Path) -> None:
    """Another program has deleted it, and the rest of the claim is handed out."""
    broker.send([message(), message(id="b")])
    change(path, "DELETE FROM bodies WHERE number = 1")

    assert claim(broker).id == "b"
    (dead,) = broker.peek("q", place=Place.DEAD).items
    assert (dead.envelope.id, dead.reason) == ("a", "malformed")
    assert "body" in dead.error


def test_foreign_row_keeps_its_own(broker: SqliteBroker, path: Path) -> None:
    """So that an operator sees what was set aside."""
    broker.send([message()])
    change(path, "UPDATE messages SET priority = 'high'")

    assert broker.receive(["q"], limit=10, wait=0, lease=30) == []
    (dead,) = broker.peek("q", place=Place.DEAD).items
    assert "priority" in dead.error
    assert dead.envelope.body == LARGE
