"""What an idle worker asks of the server."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from queuekit.backend import Record
from queuekit_redis.backend import RedisBackend
from queuekit_redis.broker import RedisBroker
from support.redis_servers import RedisServer

_OWN = {"info", "config|resetstat"}
"""Commands of the tests."""


@contextmanager
def commands(raw: Any) -> Iterator[Counter[str]]:
    """Count the commands that the server runs meanwhile, those of scripts too."""
    counted = Counter[str]()
    raw.config_resetstat()
    yield counted
    stats = raw.info("commandstats")
    names = {name.removeprefix("cmdstat_"): one["calls"] for name, one in stats.items()}
    counted.update({name: calls for name, calls in names.items() if name not in _OWN})


def test_claim_from_an_unused_queue_is_one_command_of_a_script(
    redis_server: RedisServer, connect: Callable[..., RedisBroker], raw: Any
) -> None:
    """The script asks once whether there is anything to hand out or to clean up."""
    broker = connect(redis_server.url)
    broker.receive(["q"], limit=1, wait=0, lease=60)

    with commands(raw) as counted:
        broker.receive(["q"], limit=1, wait=0, lease=60)

    assert counted == {"evalsha": 1, "time": 1, "exists": 1}


def test_missing_records_are_read_without_the_time(
    redis_server: RedisServer, connect_backend: Callable[..., RedisBackend], raw: Any
) -> None:
    """Workers look for marks that are almost never there; the server's time is needed only for what is."""
    backend = connect_backend(redis_server.url)
    backend.get(["paused"])

    with commands(raw) as counted:
        assert backend.get(["paused", "drain:w"]) == {}

    assert counted == {"mget": 1}


def test_first_record_after_missing_ones_has_its_remaining_life(
    redis_server: RedisServer, connect_backend: Callable[..., RedisBackend]
) -> None:
    """It is read by the server's clock, as any other."""
    backend = connect_backend(redis_server.url)
    backend.get(["a"])
    backend.put([Record(key="a", body=b"x", ttl=3_600.0)])

    lives = [backend.get(["a"])["a"].ttl for _ in range(2)]

    assert all(ttl is not None and 0 < ttl <= 3_600.0 for ttl in lives)
