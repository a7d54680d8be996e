"""A server above ``maxmemory``: it takes no more messages, and workers go on with those that are there."""

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest

from queuekit.broker import Ack, CommitItem, Delivery, Replace
from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit_redis.broker import RedisBroker
from queuekit_testing.kit import eventually, in_thread
from support.redis_servers import RedisServer
from support.waiting import PATIENCE


def message(id: str = "one", **fields: Any) -> Envelope:
    """Return a message."""
    return Envelope(**{"id": id, "queue": "jobs", "body": b"body", **fields})


def take(broker: RedisBroker, limit: int = 100, *, wait: float = 0.0) -> list[Delivery]:
    """Return what is ready."""
    return broker.receive(["jobs"], limit=limit, wait=wait, lease=60)


@pytest.fixture
def sender(redis_server: RedisServer, connect: Callable[..., RedisBroker]) -> RedisBroker:
    """Return a broker in the hands of who sends."""
    return connect(redis_server.url)


@pytest.fixture
def worker(redis_server: RedisServer, connect: Callable[..., RedisBroker]) -> RedisBroker:
    """Return a broker in the hands of a worker, which has sent nothing yet."""
    return connect(redis_server.url)


@pytest.fixture
def fill(raw: Any) -> Callable[[], None]:
    """Return what makes the server full."""
    return partial(raw.config_set, "maxmemory", 1)


def test_keeps_leases(sender: RedisBroker, worker: RedisBroker, fill: Callable[[], None]) -> None:
    """Leases are renewed: what runs is not handed out a second time."""
    sender.send([message()])
    (delivery,) = take(worker)
    fill()

    lost = worker.extend([delivery.lease], lease=600)

    (stored,) = worker.find("jobs", ["one"])
    assert lost == []
    assert stored.due > delivery.claimed_at + 300


def test_does_the_upkeep(sender: RedisBroker, worker: RedisBroker, fill: Callable[[], None], raw: Any) -> None:
    """A worker with no room goes on looking after the queue, also where it finds that others should be woken."""
    sender.send([message()])
    take(worker, limit=0)
    raw.delete(*raw.keys("*:notifier"))
    fill()

    assert take(worker, limit=0) == []
    assert [each.id for each in take(worker, wait=5)] == ["one"]


def test_takes_the_outcomes_of_a_worker_that_has_sent_nothing(
    sender: RedisBroker, worker: RedisBroker, fill: Callable[[], None]
) -> None:
    """Retries and follow-ups are written, though the worker has yet to enter their queue in the list of all."""
    sender.send([message("again"), message("first")])
    again, first = take(worker)
    fill()

    lost = worker.settle([Replace(again, attrs.evolve(again.envelope, attempt=1))])
    done = worker.commit([CommitItem(settlement=Ack(first), sends=(message("next", queue="other"),))])

    assert (lost, done) == ([], [True])
    assert worker.queues() == ["jobs", "other"]


def test_hands_out_what_becomes_due(sender: RedisBroker, worker: RedisBroker, fill: Callable[[], None]) -> None:
    """A worker that waits for a delayed message is woken in time and gets it."""
    sender.send([message(delay=0.3)])
    fill()

    assert [each.id for each in take(worker, wait=30)] == ["one"]


def test_lets_a_worker_be_interrupted(worker: RedisBroker, fill: Callable[[], None], raw: Any) -> None:
    """A worker that waits can be told to stop."""
    take(worker)
    fill()
    waiting = in_thread(partial(take, worker, wait=30))
    eventually(lambda: raw.info("clients")["blocked_clients"] == 1)

    worker.interrupt()

    assert waiting.result(timeout=PATIENCE) == []


def test_refuses_messages(sender: RedisBroker, worker: RedisBroker, fill: Callable[[], None]) -> None:
    """A send fails, whether or not its process has sent to the queue before."""
    sender.send([message()])
    fill()

    for broker in (sender, worker):
        with pytest.raises(UnavailableError, match="maxmemory"):
            broker.send([message("more")])
    assert [each.id for each in take(worker)] == ["one"]
