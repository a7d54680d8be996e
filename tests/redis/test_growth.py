"""What is left behind: nothing but results within their TTL (QK14)."""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from queuekit.backend import Record
from queuekit.broker import Ack, CommitItem
from queuekit.envelope import Envelope
from queuekit.ids import new_id
from queuekit_redis.backend import RedisBackend
from queuekit_redis.broker import RedisBroker
from queuekit_testing.kit import eventually
from support.redis_servers import RedisServer

BATCH = 1_000
MOST_BYTES = 2_000
"""What a queue may take when it is empty."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("total", [5_000, pytest.param(200_000, marks=pytest.mark.torture)])
def test_a_drained_queue_leaves_its_name_and_its_clock(
    redis_server: RedisServer,
    connect: Callable[..., RedisBroker],
    connect_backend: Callable[..., RedisBackend],
    prefix: str,
    total: int,
) -> None:
    """When ids are forgotten and results have expired, every key and every byte of ours is accounted for."""
    broker, backend = connect(redis_server.url, dedup_window=2.0), connect_backend(redis_server.url)
    raw: Any = redis.Redis(port=redis_server.port)
    run_through(broker, BATCH)
    before = raw.info("memory")["used_memory"]

    for _ in range(total // BATCH):
        run_through(broker, BATCH)
    backend.join("group", 0, 2, ttl=1.0)
    most = raw.info("memory")["used_memory"]

    def left() -> set[str]:
        broker.receive(["q"], limit=1, wait=0, lease=60)
        return {key.decode().removeprefix(prefix) for key in raw.scan_iter(f"{prefix}*", count=10_000)}

    eventually(lambda: left() == {":layout", ":queues", ":{q}:clock"}, timeout=120, what="no key but three")
    sizes = {key: raw.memory_usage(f"{prefix}{key}") for key in left()}
    after = raw.info("memory")["used_memory"]
    raw.close()
    assert sum(sizes.values()) < MOST_BYTES
    assert after - before < max(1_000_000, (most - before) // 10)
    print(f"{total} messages: {before:,} bytes before, {most:,} at most, {after:,} after; {sizes}")  # noqa: T201 - ...


def run_through(broker: RedisBroker, count: int) -> None:
    """Send, claim and finish *count* messages, each with a record that lives for a second."""
    sends = [Envelope(id=new_id(), queue="q", body=b"x" * 100) for _ in range(count)]
    broker.commit([CommitItem(sends=(each,), records=(record_of(each.id, rank=1),)) for each in sends])
    taken = broker.receive(["q"], limit=count, wait=5, lease=60)
    done = broker.commit([CommitItem(settlement=Ack(each), records=(record_of(each.id, rank=9),)) for each in taken])
    assert len(taken) == count
    assert all(done)


def record_of(id: str, *, rank: int) -> Record:
    """Return the record of message *id*, final or not."""
    return Record(key=f"result:{id}", body=b"x", rank=rank, ttl=1.0, final=rank > 1)
