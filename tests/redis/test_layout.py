"""The layout has a version: another one is refused, in one line with the way out."""

from collections.abc import Callable
from typing import Any

import pytest

from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit_redis.backend import RedisBackend
from queuekit_redis.broker import RedisBroker
from queuekit_redis.keys import LAYOUT
from support.redis_fleets import RedisCluster
from support.redis_servers import RedisServer


def message(queue: str = "jobs") -> Envelope:
    """Return a message."""
    return Envelope(id="one", queue=queue, body=b"body")


def test_the_first_who_comes_writes_it(
    redis_server: RedisServer, raw: Any, connect: Callable[..., RedisBroker]
) -> None:
    """What was laid out before there was a version has the first one."""
    connect(redis_server.url, key_prefix="own").send([message()])
    connect(redis_server.url, key_prefix="own").send([message()])

    assert raw.get("own:layout") == b"%d" % LAYOUT


@pytest.mark.parametrize("version", ["0", f"{LAYOUT + 1}", "x"])
def test_another_one_is_refused(
    redis_server: RedisServer,
    raw: Any,
    connect: Callable[..., RedisBroker],
    connect_backend: Callable[..., RedisBackend],
    version: str,
) -> None:
    """Nothing is read or written, and the error says what to do."""
    raw.set("own:layout", version)
    broker = connect(redis_server.url, key_prefix="own")
    backend = connect_backend(redis_server.url, key_prefix="own")

    calls: list[Callable[[], object]] = [
        lambda: broker.send([message()]),
        lambda: broker.receive(["jobs"], limit=1, wait=0, lease=1),
        lambda: backend.get(["key"]),
        lambda: backend.wait(["key"], timeout=0),
    ]
    for call in calls:
        with pytest.raises(
            UnavailableError, match=f"another version of queuekit: layout {version}, this version reads {LAYOUT}"
        ) as caught:
            call()
        assert "set another key_prefix" in caught.value.fix
        assert not caught.value.passing
    assert raw.keys("*") == [b"own:layout"]


def test_a_cluster_has_one_as_well(
    redis_cluster: RedisCluster, connect: Callable[..., RedisBroker], prefix: str
) -> None:
    """Whichever node keeps it."""
    broker = connect(redis_cluster.url)
    for number in range(30):
        broker.send([message(queue=f"q{number}")])

    again = connect(redis_cluster.url)
    again.send([message(queue=f"q{number}") for number in range(30)])

    assert again._engine.keys.layout == f"{prefix}:layout"
