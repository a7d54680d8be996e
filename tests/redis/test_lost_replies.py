"""Replies that are lost on the way: what was asked is done once (QK13), also if the client asks again."""

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from queuekit.backend import Condition, Join, Record
from queuekit.broker import Ack, CommitItem, Dead, Delivery, Place, Release, Replace, Settlement
from queuekit.envelope import Envelope, Unique
from queuekit.errors import UnavailableError
from queuekit_redis.backend import RedisBackend
from queuekit_redis.broker import RedisBroker
from support.proxy import LossyProxy, lossy_proxy
from support.redis_servers import RedisServer

SETTLEMENTS: dict[str, Callable[[Delivery], Settlement]] = {
    "ack": Ack,
    "release": Release,
    "retry": lambda delivery: Replace(delivery, attrs.evolve(delivery.envelope, attempt=1)),
    "dead": lambda delivery: Dead(delivery, reason="failed"),
}


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[LossyProxy]:
    """Return a proxy in front of a server."""
    with lossy_proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def behind(proxy: LossyProxy, connect: Callable[..., RedisBroker]) -> RedisBroker:
    """Return a broker behind the proxy, with an open connection."""
    broker = connect(f"redis://127.0.0.1:{proxy.port}/0")
    broker.counts(["jobs"])
    return broker


def message(id: str = "one", **fields: Any) -> Envelope:
    """Return a message."""
    return Envelope(**{"id": id, "queue": "jobs", "body": b"body", **fields})


def taken(broker: RedisBroker) -> list[Delivery]:
    """Return all that is ready."""
    return broker.receive(["jobs"], limit=100, wait=0, lease=60)


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param([message()], id="one"),
        pytest.param([message(str(number)) for number in range(20)], id="many"),
        pytest.param([message(unique=Unique(key="k"))], id="unique"),
    ],
)
def test_send_is_done_once(behind: RedisBroker, proxy: LossyProxy, batch: list[Envelope]) -> None:
    """A send whose reply is lost is repeated, returns its ids, and has put each message on the queue once."""
    behind.send([message("known")])
    proxy.drop()

    ids = behind.send(batch)

    assert proxy.dropped == 1
    assert ids == [envelope.id for envelope in batch]
    assert sorted(delivery.id for delivery in taken(behind)) == sorted([*ids, "known"])


def test_send_that_gets_no_reply_at_all_raises(behind: RedisBroker, proxy: LossyProxy) -> None:
    """Where every reply is lost the send fails; sent again later it adds nothing."""
    behind.send([message("known")])
    proxy.drop(100)

    with pytest.raises(UnavailableError):
        behind.send([message()])
    proxy.drop(0)

    assert behind.send([message()]) == ["one"]
    assert sorted(delivery.id for delivery in taken(behind)) == ["known", "one"]


@pytest.mark.parametrize("settle", SETTLEMENTS.values(), ids=SETTLEMENTS.keys())
def test_settlement_is_done_once(
    behind: RedisBroker, proxy: LossyProxy, settle: Callable[[Delivery], Settlement]
) -> None:
    """A settlement whose reply is lost is repeated, and neither done twice nor taken for a lost lease."""
    behind.send([message()])
    (delivery,) = taken(behind)
    proxy.drop()

    lost = behind.settle([settle(delivery)])

    places = [stored.place for stored in behind.find("jobs", ["one"])]
    assert proxy.dropped == 1
    assert lost == []
    assert places == {Ack: [], Dead: [Place.DEAD]}.get(type(settle(delivery)), [Place.READY])
    assert behind.settle([settle(delivery)]) == [delivery]


def test_extension_is_repeated(behind: RedisBroker, proxy: LossyProxy) -> None:
    """An ``extend`` whose reply is lost is repeated, and no lease is taken for lost."""
    behind.send([message()])
    (delivery,) = taken(behind)
    proxy.drop()

    lost = behind.extend([delivery.lease], lease=60)

    assert (proxy.dropped, lost) == (1, [])


def test_commit_is_done_once(
    behind: RedisBroker, proxy: LossyProxy, connect_backend: Callable[..., RedisBackend]
) -> None:
    """A whole outcome whose reply is lost is repeated, and each part of it is done once."""
    behind.send([message()])
    (delivery,) = taken(behind)
    item = CommitItem(
        settlement=Ack(delivery),
        records=(Record(key="result:one", body=b"1", rank=3, final=True),),
        joins=(Join(group="g", member=0, size=1, then=(message("then"),)),),
        sends=(message("next"),),
    )
    proxy.drop()

    done = behind.commit([item])

    assert (proxy.dropped, done) == (1, [True])
    assert sorted(delivery.id for delivery in taken(behind)) == ["next", "then"]
    backend = connect_backend(f"redis://127.0.0.1:{proxy.port}/0")
    assert backend.get(["result:one"])["result:one"].body == b"1"
    assert behind.commit([item]) == [False]


def test_claim_is_not_repeated(behind: RedisBroker, proxy: LossyProxy) -> None:
    """A claim whose reply is lost raises; what it took comes back when the lease ends, counted."""
    assert taken(behind) == []
    behind.send([message()])
    proxy.drop()

    with pytest.raises(UnavailableError):
        behind.receive(["jobs"], limit=1, wait=0, lease=0.1)

    (delivery,) = behind.receive(["jobs"], limit=1, wait=10, lease=60)
    assert (delivery.id, delivery.number, delivery.crashes) == ("one", 2, 1)


def test_conditional_put_is_not_repeated(proxy: LossyProxy, connect_backend: Callable[..., RedisBackend]) -> None:
    """A lock whose reply is lost raises: said again, it would deny what it has done."""
    backend = connect_backend(f"redis://127.0.0.1:{proxy.port}/0")
    backend.put([Record(key="other")])
    proxy.drop()

    with pytest.raises(UnavailableError):
        backend.put([Record(key="lock")], condition=Condition.ABSENT)

    assert set(backend.get(["lock"])) == {"lock"}
