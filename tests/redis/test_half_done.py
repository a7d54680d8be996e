"""Outcomes that a server refuses in part: a script is done as a whole, or has not begun."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from queuekit.backend import Join, Record
from queuekit.broker import Ack, CommitItem, Dead, Delivery, Release, Replace
from queuekit.envelope import Envelope, Unique
from queuekit_redis.backend import RedisBackend
from queuekit_redis.broker import RedisBroker
from queuekit_testing.kit import eventually, in_thread
from support.redis_servers import RedisServer
from support.waiting import PATIENCE


def message(id: str = "one", **fields: Any) -> Envelope:
    """Return a message."""
    return Envelope(**{"id": id, "queue": "jobs", "body": b"body", **fields})


def messages(count: int, **fields: Any) -> list[Envelope]:
    """Return *count* messages."""
    return [message(f"id-{number}", **fields) for number in range(count)]


def take(broker: RedisBroker, limit: int = 100, *, lease: float = 60.0) -> list[Delivery]:
    """Return what is ready."""
    return broker.receive(["jobs"], limit=limit, wait=0, lease=lease)


def outcomes(taken: list[Delivery]) -> list[CommitItem]:
    """Return outcomes of all kinds that no quick script serves."""
    first, second, third, fourth = taken
    result = Record(key="result:first", rank=9, final=True, ttl=60)
    return [
        CommitItem(settlement=Ack(first), records=(result,)),
        CommitItem(settlement=Replace(second, message(second.id, attempt=1))),
        CommitItem(settlement=Ack(third), sends=(message("next"),)),
        CommitItem(settlement=Ack(fourth), joins=(Join(group="g", member=1, size=1, then=(message("then"),)),)),
    ]


@pytest.mark.parametrize("place", range(4))
def test_a_full_server_still_takes_outcomes(
    redis_server: RedisServer, raw: Any, connect: Callable[..., RedisBroker], place: int
) -> None:
    """Above ``maxmemory`` each kind of outcome is written, whichever comes first: or workers could not make room."""
    broker = connect(redis_server.url)
    broker.send(messages(4))
    broker.settle([Release(each) for each in take(broker)])
    items = outcomes(take(broker))
    raw.config_set("maxmemory", 1)

    done = broker.commit([*items[place:], *items[:place]])

    assert done == [True] * 4
    assert broker.counts(["jobs"])["jobs"].ready == 3


def test_an_outcome_is_whole_for_a_user_who_may_not_publish(
    own: RedisBroker, raw: Any, connect: Callable[..., RedisBroker], connect_backend: Callable[..., RedisBackend]
) -> None:
    """Without the right to tell who waits for a result, all of an outcome is written: nothing is half done."""
    raw.acl_setuser(
        "worker", enabled=True, passwords=["+secret"], keys=["*"], categories=["+@all"], reset_channels=True
    )
    port = raw.get_connection_kwargs()["port"]
    worker = connect(f"redis://worker:secret@127.0.0.1:{port}/0")
    backend = connect_backend(f"redis://127.0.0.1:{port}/0")
    own.send(messages(2))
    one, two = take(own)
    result = Record(key="result:one", rank=9, final=True, ttl=60)

    waiting = in_thread(lambda: backend.wait(["result:one"], timeout=PATIENCE))
    eventually(raw.pubsub_channels, what="somebody listens")
    quick = worker.commit([CommitItem(settlement=Ack(one), records=(result,))])
    slow = worker.commit(
        [
            CommitItem(settlement=Ack(two), records=(attrs.evolve(result, key="result:two"),)),
            CommitItem(sends=(message("next"), message("other"))),
        ]
    )

    assert (quick, slow) == ([True], [True, True])
    assert sorted(each.id for each in take(own)) == ["next", "other"]
    assert list(waiting.result(timeout=PATIENCE)) == ["result:one"]


def test_replays_a_message_whose_key_has_no_end(own: RedisBroker) -> None:
    """A unique key that is held for ever keeps no dead letter from being replayed."""
    own.send([message(unique=Unique(key="k", ttl=float("inf")))])
    own.settle([Dead(each, reason="failed") for each in take(own)])

    replayed = own.requeue("jobs")

    assert replayed == ["one"]
    assert [each.id for each in take(own)] == ["one"]
