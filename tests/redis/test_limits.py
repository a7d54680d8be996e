"""More than there is room for: waiting threads, long keys, a key that is another's, priorities that are none."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from queuekit.backend import Record
from queuekit.broker import Delivery, Replace
from queuekit.envelope import Envelope, Unique
from queuekit.errors import TooLargeError
from queuekit_redis.backend import RedisBackend
from queuekit_redis.broker import RedisBroker
from queuekit_testing.kit import in_thread
from support.redis_fleets import RedisCluster
from support.waiting import PATIENCE


def message(id: str = "one", **fields: Any) -> Envelope:
    """Return a message."""
    return Envelope(**{"id": id, "queue": "jobs", "body": b"body", **fields})


def take(broker: RedisBroker) -> list[Delivery]:
    """Return what is ready."""
    return broker.receive(["jobs"], limit=100, wait=0, lease=60)


@pytest.mark.parametrize("most", [2, 4])
def test_more_may_wait_than_there_are_connections(connect_backend: Callable[..., RedisBackend], most: int) -> None:
    """Whoever finds no connection to listen on looks from time to time; nobody is refused for it."""
    backend = connect_backend(max_connections=most)
    keys = [f"result:{number}" for number in range(8)]

    waiting = [in_thread(partial(backend.wait, [key], timeout=60)) for key in keys]
    nothing = backend.wait(["result:none"], timeout=0.5)
    backend.put([Record(key=key, final=True, ttl=60) for key in keys])

    assert nothing == {}
    assert [list(each.result(timeout=PATIENCE)) for each in waiting] == [[key] for key in keys]


def test_a_worker_on_many_queues_of_a_cluster_leaves_connections(
    redis_cluster: RedisCluster, connect: Callable[..., RedisBroker]
) -> None:
    """Of more queues than a node has connections for it hears all the same, and its others can go on meanwhile."""
    broker = connect(redis_cluster.url, max_connections=2)
    names = [f"q{number}" for number in range(12)]
    nothing = broker.receive(names, limit=10, wait=0.2, lease=60)
    waiting = in_thread(lambda: broker.receive(names, limit=10, wait=60, lease=60))

    broker.send([message("one", queue="q11")])

    assert nothing == []
    assert [each.id for each in waiting.result(timeout=PATIENCE)] == ["one"]


def test_a_key_that_is_too_long_is_refused(broker: RedisBroker) -> None:
    """A unique key above what can be stored is refused by name before anything is sent."""
    with pytest.raises(TooLargeError, match="unique key of message one"):
        broker.send([message("zero"), message(unique=Unique(key="k" * 65_536))])

    assert take(broker) == []


def test_a_record_without_end_is_kept(connect_backend: Callable[..., RedisBackend]) -> None:
    """A time to live that is beyond all numbers is as long as the server can make it."""
    backend = connect_backend()

    backend.put([Record(key="kept", ttl=float("inf"))])

    assert list(backend.get(["kept"])) == ["kept"]


def test_a_priority_out_of_range_is_cut(broker: RedisBroker) -> None:
    """A message that waits at one is found and taken out as any other."""
    broker.send([message("low", priority=-1, delay=60), message("high", priority=12, delay=60)])

    assert sorted(broker.remove("jobs", ["low", "high"])) == ["high", "low"]


def test_a_retry_elsewhere_is_not_lost_to_a_key(
    redis_cluster: RedisCluster, connect: Callable[..., RedisBroker]
) -> None:
    """On a Cluster a message keeps its life when it comes to a queue where its unique key is another message's."""
    broker = connect(redis_cluster.url)
    key = Unique(key="k")
    broker.send([message("mine", unique=key), message("theirs", queue="other", unique=key)])
    (mine,) = take(broker)

    lost = broker.settle([Replace(mine, message("mine", queue="other", attempt=1, unique=key))])

    found = broker.receive(["other"], limit=10, wait=0, lease=60)
    assert (lost, [each.id for each in found]) == ([], ["theirs", "mine"])
