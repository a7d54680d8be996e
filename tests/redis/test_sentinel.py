"""A primary that steps down and does not know it: the Sentinels do, and nobody stays with it."""

from collections.abc import Callable, Iterator

import pytest

from queuekit.envelope import Envelope
from queuekit_redis.broker import RedisBroker
from queuekit_testing.kit import eventually, in_thread, unique_name
from support.redis_fleets import RedisPair
from support.waiting import PATIENCE

UNTAUGHT = ("--rename-command", "SLAVEOF", "", "--rename-command", "REPLICAOF", "")
"""Makes a server that cannot be told to follow another, so that it stays a primary when its replica is one."""


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisPair]:
    """Return a primary that will not step down, a replica and a Sentinel."""
    pair = RedisPair(tmp_path_factory.mktemp("pair"))
    pair.first.arguments += UNTAUGHT
    try:
        yield pair.start()
    finally:
        pair.stop()


def exchange(pair: RedisPair) -> None:
    """Make the replica the primary, and return when the Sentinel says so."""
    port = str(pair.second.port).encode()
    pair.sentinel.say("SENTINEL", "FAILOVER", "jobs")
    eventually(
        lambda: port in pair.sentinel.say("SENTINEL", "MASTERS"),
        timeout=PATIENCE,
        what="another primary",
    )


def message(id: str) -> Envelope:
    """Return a message."""
    return Envelope(id=id, queue="jobs", body=b"")


@pytest.mark.full
def test_nobody_sends_to_a_primary_of_yesterday(pair: RedisPair, connect: Callable[..., RedisBroker]) -> None:
    """A process with open connections sends to the new primary soon, though the old one takes its messages."""
    sender = connect(pair.url)
    sender.send([message("one")])
    exchange(pair)
    other = connect(pair.url)

    def arrives() -> bool:
        (id,) = sender.send([message(unique_name("id"))])
        return bool(other.find("jobs", [id]))

    eventually(arrives, timeout=PATIENCE, what="a message at the new primary")

    assert b"role:master" in pair.first.say("INFO", "replication")


def test_nobody_waits_at_a_primary_of_yesterday(pair: RedisPair, connect: Callable[..., RedisBroker]) -> None:
    """A worker that waits at the old primary hears what is sent to the new one, though nobody cuts it off."""
    worker = connect(pair.url)
    waiting = in_thread(lambda: worker.receive(["jobs"], limit=1, wait=60, lease=60))
    eventually(lambda: b"blocked_clients:1" in pair.first.say("INFO", "clients"), what="a worker that waits")
    exchange(pair)

    connect(pair.url).send([message("one")])

    assert [each.id for each in waiting.result(timeout=PATIENCE)] == ["one"]
