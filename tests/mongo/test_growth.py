"""What is left behind: nothing but results within their TTL (QK14)."""

import time
from collections.abc import Callable

import pytest

from queuekit.backend import Record
from queuekit.broker import Ack, CommitItem
from queuekit.envelope import Envelope
from queuekit.ids import new_id
from queuekit.urls import EngineURL
from queuekit_mongo.backend import MongoBackend
from queuekit_mongo.broker import MongoBroker
from queuekit_testing.kit import unique_name
from support.mongod import shared_url
from support.waiting import PATIENCE, wait_until

BATCH = 1_000


@pytest.mark.timeout(900)
@pytest.mark.parametrize("total", [2_000, pytest.param(100_000, marks=pytest.mark.torture)])
def test_collections_are_empty_after_a_drain(connect: Callable[..., MongoBroker], total: int) -> None:
    """When ids are forgotten and results have expired, no document of messages, records or groups is left."""
    broker = connect(prefix=unique_name("t"), dedup_window=2.0, timeout=30)
    backend = MongoBackend(EngineURL.parse(shared_url("plugin")), options=broker._engine.options)
    since = time.monotonic()
    for _ in range(total // BATCH):
        broker.send([Envelope(id=new_id(), queue="q", body=b"x" * 100) for _ in range(BATCH)])
        taken = broker.receive(["q"], limit=BATCH, wait=PATIENCE, lease=60)
        records = [Record(key=f"result:{one.id}", body=b"x", rank=9, ttl=2.0, final=True) for one in taken]
        pairs = zip(taken, records, strict=True)
        assert all(broker.commit([CommitItem(settlement=Ack(one), records=(record,)) for one, record in pairs]))
    backend.join("group", 0, 2, ttl=1.0)
    backend.put([Record(key="kept", body=b"within its time", ttl=9_999.0)])
    spent = time.monotonic() - since

    wait_until(lambda: left(broker) == [0, 1, 0], "all is swept but the one record that lives", timeout=300)

    assert backend.get(["kept"])["kept"].body == b"within its time"
    assert broker.counts(["q"])["q"].ready == 0
    backend.close()
    print(f"{total} messages in {spent:.1f} s")  # noqa: T201 - the figure is the point


def left(broker: MongoBroker) -> list[int]:
    """Return how many messages, records and groups there are, swept or not."""
    return [broker._engine.collection(name).count_documents({}) for name in ("messages", "records", "groups")]
