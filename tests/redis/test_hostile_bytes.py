"""Bytes under our keys that none of us has written: they harm nothing but themselves (QK8, QK9)."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from queuekit.backend import Condition, Record
from queuekit.broker import Ack, CommitItem, Dead, Delivery, Place, Release
from queuekit.envelope import Envelope
from queuekit_redis.backend import RedisBackend
from queuekit_redis.broker import RedisBroker
from support.redis_servers import shared_url

HEADER = b"M" + bytes(8) + b"\x04"
"""A message up to its priority."""


def messages(count: int) -> list[Envelope]:
    """Return *count* messages."""
    return [Envelope(id=f"good-{number}", queue="jobs", body=b"body") for number in range(count)]


def take(broker: RedisBroker) -> list[Delivery]:
    """Return what is ready."""
    return broker.receive(["jobs"], limit=100, wait=0, lease=60)


@pytest.fixture
def raw() -> Iterator[Any]:
    """Return the client library's own client."""
    client = redis.Redis.from_url(shared_url("valkey"))
    yield client
    client.close()


@pytest.mark.parametrize(
    "value",
    [
        b"M",
        HEADER,
        HEADER + b"\x04" + bytes(12),  # no unique key where the flags tell of one
        HEADER + b"\x04" + bytes(12) + b"\x09" + bytes(8) + b"\xff\xff",  # a key beyond the end
        HEADER + b"\xff" + bytes(20),
    ],
)
def test_a_message_that_cannot_be_read_harms_no_other(broker: RedisBroker, prefix: str, raw: Any, value: bytes) -> None:
    """It is handed out with all its bytes beside the others, can be buried, looked at, replayed and thrown away."""
    broker.send(messages(5))
    raw.hset(f"{prefix}:{{jobs}}:messages", "bad", value)
    raw.zadd(f"{prefix}:{{jobs}}:ready", {"bad": 0})

    bad, *good = take(broker)
    refused = broker.settle([Dead(bad, reason="malformed"), *map(Ack, good)])
    buried = broker.peek("jobs", place=Place.DEAD).items
    replayed = broker.requeue("jobs")

    assert bad.envelope.body.endswith(value)
    assert ([each.id for each in good], refused) == ([f"good-{number}" for number in range(5)], [])
    assert [(each.envelope.id, each.envelope.body, each.reason) for each in buried] == [
        ("bad", bad.envelope.body, "malformed")
    ]
    assert replayed == ["bad"]
    assert broker.remove("jobs", ["bad"]) == ["bad"]


def test_an_id_that_is_no_text_harms_no_other(broker: RedisBroker, prefix: str, raw: Any) -> None:
    """The messages claimed with it arrive and can be settled; it lies among the dead letters, as it is."""
    broker.send(messages(5))
    raw.hset(f"{prefix}:{{jobs}}:messages", b"\xff", HEADER + bytes(20))
    raw.zadd(f"{prefix}:{{jobs}}:ready", {b"\xff": 0})

    taken = take(broker)
    refused = broker.settle([Ack(each) for each in taken])
    dead = broker.peek("jobs", place=Place.DEAD).items
    counts = broker.counts(["jobs"])["jobs"]

    assert ([each.id for each in taken], refused) == ([f"good-{number}" for number in range(5)], [])
    assert [(each.envelope.id, each.reason) for each in dead] == [("\\xff", "malformed")]
    assert (counts.ready, counts.leased, counts.dead) == (0, 0, 1)


def test_an_id_that_is_no_text_can_be_purged(broker: RedisBroker, prefix: str, raw: Any) -> None:
    """It is taken out with the others, and shown before."""
    broker.send(messages(2))
    raw.hset(f"{prefix}:{{jobs}}:messages", b"\xff", HEADER + bytes(20))
    raw.zadd(f"{prefix}:{{jobs}}:ready", {b"\xff": 0})

    first = broker.peek("jobs", place=Place.READY, limit=1)
    rest = broker.peek("jobs", place=Place.READY, cursor=first.cursor)
    purged = broker.purge("jobs")

    shown = [stored.envelope.id for stored in (*first.items, *rest.items)]
    assert (shown, purged) == (["\\xff", "good-0", "good-1"], 3)


@pytest.mark.parametrize("value", [b"", b"abc", bytes(24), bytes(24) + b"\xff" + bytes(3), b"\xff" * 40])
def test_a_record_that_cannot_be_read_is_none(
    connect_backend: Callable[..., RedisBackend], prefix: str, raw: Any, value: bytes
) -> None:
    """The records read with it are there, and a record can be written over it."""
    backend = connect_backend()
    backend.put([Record(key="good", body=b"1")])
    raw.set(f"{prefix}:record:bad", value)
    raw.set(f"{prefix}:record:".encode() + b"\xff", value)

    found = backend.get(["bad", "good"])
    scanned = backend.scan("").items
    deleted = backend.delete(["bad"], expect=5)
    backend.put([Record(key="bad", body=b"2")], condition=Condition.ALWAYS)

    assert (list(found), [each.key for each in scanned], deleted) == (["good"], ["good"], 0)
    assert backend.get(["bad"])["bad"].body == b"2"


def test_an_outcome_is_written_over_what_is_no_record(
    broker: RedisBroker, connect_backend: Callable[..., RedisBackend], prefix: str, raw: Any
) -> None:
    """What is of another type where a result belongs keeps neither this outcome nor others from being written."""
    backend = connect_backend()
    broker.send(messages(2))
    broker.settle([Release(each) for each in take(broker)])
    for number in range(2):
        raw.rpush(f"{prefix}:record:result:good-{number}", "x")

    done = broker.commit(
        [
            CommitItem(settlement=Ack(each), records=(Record(key=f"result:{each.id}", rank=9, final=True, ttl=60),))
            for each in take(broker)
        ]
    )

    assert done == [True, True]
    assert len(backend.get(["result:good-0", "result:good-1"])) == 2


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda value: b"\0" + value[1:], id="another-first-byte"),
        pytest.param(lambda value: b"T" + value[1:], id="that-of-what-has-left"),
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: b"\xff" * 60, id="no-message"),
        pytest.param(lambda _: None, id="missing"),
    ],
)
def test_a_message_that_is_none_of_ours_is_quarantined(
    broker: RedisBroker, prefix: str, raw: Any, change: Callable[[bytes], bytes | None]
) -> None:
    """It is handed out, with what is left of its bytes, so that its worker buries it: it never leaves unseen."""
    broker.send(messages(2))
    key = f"{prefix}:{{jobs}}:messages"
    value = change(raw.hget(key, "good-0"))
    raw.hdel(key, "good-0") if value is None else raw.hset(key, "good-0", value)

    taken = {each.id: each for each in take(broker)}
    broker.settle([Dead(taken["good-0"], reason="malformed"), Ack(taken["good-1"])])
    (dead,) = broker.peek("jobs", place=Place.DEAD).items

    assert taken["good-0"].envelope.body == (value or b"")
    assert (dead.envelope.id, dead.reason) == ("good-0", "malformed")


def test_a_message_that_is_none_of_ours_can_be_seen_and_purged(broker: RedisBroker, prefix: str, raw: Any) -> None:
    """Also before a worker has come by."""
    broker.send(messages(2))
    raw.hset(f"{prefix}:{{jobs}}:messages", "good-0", b"\0rubbish")

    found = broker.find("jobs", ["good-0"])
    shown = broker.peek("jobs", place=Place.READY).items
    purged = broker.purge("jobs")

    assert [each.envelope.id for each in found] == ["good-0"]
    assert [each.envelope.id for each in shown] == ["good-0", "good-1"]
    assert purged == 2


def test_what_has_left_is_not_handed_out(broker: RedisBroker, prefix: str, raw: Any) -> None:
    """An id that is only remembered is no message, even if it is found among those that are ready."""
    broker.send(messages(1))
    broker.settle([Ack(each) for each in take(broker)])
    raw.zadd(f"{prefix}:{{jobs}}:ready", {"good-0": 0})

    assert take(broker) == []


@pytest.mark.parametrize("state", [b"", b"x", b"\xff" * 9], ids=["empty", "short", "cut"])
def test_a_claim_that_cannot_be_read_counts_as_none(broker: RedisBroker, prefix: str, raw: Any, state: bytes) -> None:
    """Neither its message nor the others of its queue are held up by it, ready or under a lease that has ended."""
    broker.send(messages(3))
    take(broker)
    raw.hset(f"{prefix}:{{jobs}}:claims", "good-0", state)
    raw.zadd(f"{prefix}:{{jobs}}:leased", {f"good-{number}": 1 for number in range(3)})

    taken = take(broker)
    refused = broker.settle([Ack(each) for each in taken])

    assert (sorted(each.id for each in taken), refused) == ([f"good-{number}" for number in range(3)], [])


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("clock", ("SET", "x")),
        ("gone", ("LPUSH", "x")),
        ("delayed", ("ZADD", "1", "")),
        ("delayed", ("ZADD", "1", "?good-9")),
    ],
    ids=["clock", "gone", "delayed-empty", "delayed-level"],
)
def test_rubbish_beside_messages_stops_no_queue(
    broker: RedisBroker, prefix: str, raw: Any, name: str, command: tuple[str, ...]
) -> None:
    """What is no time, or no place, is taken for none."""
    verb, *arguments = command
    raw.execute_command(verb, f"{prefix}:{{jobs}}:{name}", *arguments)

    broker.send(messages(2))
    taken = [each.id for each in take(broker)]

    assert [id for id in taken if id.startswith("good-") and id != "good-9"] == ["good-0", "good-1"]
