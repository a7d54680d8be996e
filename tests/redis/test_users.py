"""Users who may do less than all: what queuekit needs, and what it can do without."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from queuekit.backend import Join, Record
from queuekit.broker import Ack, CommitItem, Dead, Place, Replace
from queuekit.envelope import Envelope, Unique
from queuekit_redis.backend import RedisBackend
from queuekit_redis.broker import RedisBroker
from queuekit_testing.kit import eventually, in_thread
from support.redis_servers import RedisServer
from support.waiting import PATIENCE

GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "redis.md"


@pytest.fixture
def signed(raw: Any, redis_server: RedisServer) -> Callable[[str], str]:
    """Return what makes a user with some rules, and gives the URL that signs in."""

    def make(rules: str) -> str:
        raw.execute_command("ACL", "SETUSER", "worker", "on", ">secret", *rules.split())
        return f"redis://worker:secret@127.0.0.1:{redis_server.port}/0"

    return make


def message(id: str, **fields: Any) -> Envelope:
    """Return a message."""
    return Envelope(**{"id": id, "queue": "jobs", "body": b"body", **fields})


def test_the_user_of_the_guide_may_do_all(
    signed: Callable[[str], str], connect: Callable[..., RedisBroker], connect_backend: Callable[..., RedisBackend]
) -> None:
    """With the rules in the guide a user sends, works, waits, looks, mends and checks, with keys of ours alone."""
    (rules,) = (
        line.partition(">password ")[2] for line in GUIDE.read_text().splitlines() if line.startswith("ACL SETUSER")
    )
    url = signed(rules)
    broker, backend = connect(url, key_prefix="queuekit"), connect_backend(url, key_prefix="queuekit")

    broker.send([message("one"), message("two", unique=Unique(key="k")), message("three"), message("four")])
    one, two, three, four = broker.receive(["jobs"], limit=10, wait=0, lease=60)
    broker.extend([one.lease], lease=60)
    final = Record(key="result:one", rank=9, final=True, ttl=60)
    waiting = in_thread(lambda: backend.wait(["result:one"], timeout=PATIENCE))
    broker.settle([Replace(two, message("two", attempt=1, delay=0.2)), Dead(three, reason="failed")])
    joined = CommitItem(settlement=Ack(four), joins=(Join(group="g", member=0, size=2),))
    broker.commit([CommitItem(settlement=Ack(one), records=(final,)), joined])
    again = broker.receive(["jobs"], limit=10, wait=30, lease=60)

    assert list(waiting.result(timeout=PATIENCE)) == ["result:one"]
    assert [each.id for each in again] == ["two"]
    assert (broker.requeue("jobs"), broker.purge("jobs")) == (["three"], 1)
    assert broker.peek("jobs", place=Place.LEASED).items[0].envelope.id == "two"
    assert [record.key for record in backend.scan("result:").items] == ["result:one"]
    assert (broker.check(), backend.check(), broker.queues()) == ([], [], ["jobs"])


def test_who_may_not_listen_looks(
    signed: Callable[[str], str], connect_backend: Callable[..., RedisBackend], raw: Any
) -> None:
    """A user without channels, as the server makes them by default, waits for a result by looking for it."""
    backend = connect_backend(signed("~* +@all resetchannels"))

    waiting = in_thread(lambda: backend.wait(["result:one"], timeout=PATIENCE))
    eventually(lambda: raw.info("commandstats").get("cmdstat_subscribe"), what="somebody tries to listen")
    backend.put([Record(key="result:one", final=True, ttl=60)])

    assert list(waiting.result(timeout=PATIENCE)) == ["result:one"]
    assert backend.wait(["result:none"], timeout=0.1) == {}


def test_check_says_what_it_may_not_see(signed: Callable[[str], str], connect: Callable[..., RedisBroker]) -> None:
    """A user who may not ask the server about itself is told so, and what to grant; the rest is looked at."""
    broker = connect(signed("~* &* +@all -@dangerous"))

    (problem,) = broker.check()

    assert "+info" in problem
