"""Records of a kind are listed by an index, so that commands of operators do not go through all keys of a server."""

from collections.abc import Callable
from typing import Any

import pytest

from queuekit.backend import Record
from queuekit.broker import CommitItem
from queuekit.envelope import Envelope
from queuekit_redis.backend import RedisBackend
from queuekit_redis.broker import RedisBroker
from queuekit_testing.kit import eventually
from support.redis_fleets import RedisCluster
from support.redis_servers import RedisServer

MANY = 3_000
"""More keys than two steps of a scan visit."""


def keys_of(backend: RedisBackend, prefix: str) -> list[str]:
    """Return the keys of the records that begin with *prefix*."""
    return sorted(record.key for record in backend.walk(prefix))


def listed_in(raw: Any, kind: str) -> int:
    """Return how many keys the index of *kind* has."""
    count: int = raw.zcard(f"own:listed:{kind}:")
    return count


@pytest.fixture
def backend(redis_server: RedisServer, connect_backend: Callable[..., RedisBackend]) -> RedisBackend:
    """Return a backend with a prefix of its own."""
    return connect_backend(redis_server.url, key_prefix="own")


def test_other_records_cost_a_scan_of_a_kind_nothing(raw: Any, backend: RedisBackend) -> None:
    """Each message has a result, of which a server may hold millions."""
    backend.put([Record(key=f"result:{number}", body=b"x", ttl=60.0) for number in range(MANY)])
    backend.put([Record(key="worker:a*", body=b"x", ttl=60.0), Record(key="worker:b", body=b"x")])
    backend.put([Record(key="workers", body=b"x")])
    before = raw.info("commandstats")["cmdstat_zscan"]["calls"] if "cmdstat_zscan" in raw.info("commandstats") else 0

    assert keys_of(backend, "worker:") == ["worker:a*", "worker:b"]
    assert keys_of(backend, "worker:a*") == ["worker:a*"]
    assert raw.info("commandstats")["cmdstat_zscan"]["calls"] - before == 2
    assert keys_of(backend, "work") == ["worker:a*", "worker:b", "workers"]
    assert len(keys_of(backend, "result:")) == MANY


def test_a_record_that_is_gone_leaves_its_index(raw: Any, backend: RedisBackend) -> None:
    """It was deleted, by whichever way, or it expired; one that was refused never enters."""
    backend.put([Record(key=f"limit:{name}", body=b"x") for name in "abc"])
    backend.put([Record(key="limit:short", body=b"x", ttl=0.05)])
    backend.put([Record(key="limit:d", body=b"x")], expect=7)
    version = backend.get(["limit:b"])["limit:b"].version

    assert listed_in(raw, "limit") == 4
    assert backend.delete(["limit:a", "limit:none"]) == 1
    assert backend.delete(["limit:b"], expect=version) == 1
    assert backend.delete(["limit:c"], expect=version + 1) == 0
    assert keys_of(backend, "limit:c") == ["limit:c"]

    def trimmed() -> bool:
        backend.put([Record(key="limit:c", body=b"x")])
        return listed_in(raw, "limit") == 1

    eventually(trimmed, timeout=30, what="only one key is listed")


def test_a_record_that_is_committed_is_listed(
    raw: Any, redis_server: RedisServer, connect: Callable[..., RedisBroker], backend: RedisBackend
) -> None:
    """Also where the quick scripts write the results of other messages."""
    broker = connect(redis_server.url, key_prefix="own")
    one, two = (Envelope(id=id, queue="q", body=b"x") for id in ("one", "two"))

    broker.commit([CommitItem(sends=(one,), records=(Record(key="slots:one", body=b"x"),))])
    broker.commit([CommitItem(sends=(two,), records=(Record(key="result:two", body=b"x"),))] * 2)

    assert keys_of(backend, "slots:") == ["slots:one"]
    assert keys_of(backend, "result:") == ["result:two"]
    assert raw.keys("own:listed:*") == [b"own:listed:slots:"]


def test_a_cluster_scans_all_its_keys(
    redis_cluster: RedisCluster, connect_backend: Callable[..., RedisBackend]
) -> None:
    """A step accesses one slot there, so no index can be kept."""
    backend = connect_backend(redis_cluster.url)
    backend.put([Record(key=f"worker:{number}", body=b"x") for number in range(10)])

    assert backend.delete(["worker:0"]) == 1
    assert keys_of(backend, "worker:") == [f"worker:{number}" for number in range(1, 10)]
