"""Lanes on a server: what they leave behind, and what foreign bytes in their place do."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import pytest
import redis

from queuekit.broker import Ack, Place, Release
from queuekit.envelope import Envelope, Lane
from queuekit.urls import EngineURL
from queuekit_redis.broker import RedisBroker
from support.redis_servers import shared_url

MANY = 2_000


@pytest.fixture
def shared() -> Iterator[redis.Redis]:
    """Return the client library's own client of the server that all tests share."""
    host, _, port = EngineURL.parse(shared_url("valkey")).hosts[0].rpartition(":")
    client = redis.Redis(host, int(port))
    yield client
    client.close()


def message(id: str, lane: str, **options: Any) -> Envelope:
    """Return a message."""
    return Envelope(id=id, queue="q", body=b"b", lane=Lane(lane), **options)


def drain(broker: RedisBroker) -> list[str]:
    """Claim and acknowledge all that is ready; return the ids in their order."""
    ids: list[str] = []
    while taken := broker.receive(["q"], limit=500, wait=0, lease=30):
        assert broker.settle([Ack(each) for each in taken]) == []
        ids += [each.id for each in taken]
    return ids


@pytest.mark.parametrize("way", ["done", "purged"])
def test_many_lanes_leave_nothing_behind(broker: RedisBroker, shared: redis.Redis, prefix: str, way: str) -> None:
    """Lanes with one message each start in their order, and no key of lanes stays when none is ready (QK14)."""
    ids = [f"m{number % 7}-{number}" for number in range(MANY)]  # not in the order of names
    for first in range(0, MANY, 500):
        broker.send([message(id, f"lane-{id}") for id in ids[first : first + 500]])

    if way == "done":
        assert drain(broker) == ids
    else:
        assert broker.purge("q", place=Place.READY) == MANY
        assert drain(broker) == []
    keys = {key.decode().removeprefix(prefix) for key in shared.scan_iter(f"{prefix}*")}
    assert not {":{q}:lanes", ":{q}:turns"} & keys


def test_steady_lanes_are_forgotten_while_others_go_on(broker: RedisBroker, shared: redis.Redis, prefix: str) -> None:
    """A queue that is never empty keeps only the lanes that wait, and those of the turn that goes on."""
    broker.send([message(f"flood-{number}", "flood") for number in range(400)])
    for number in range(300):
        broker.send([message(f"single-{number}", f"lane-{number}")])
        taken = broker.receive(["q"], limit=2, wait=0, lease=30)
        broker.settle([Ack(each) for each in taken])

    assert shared.zcard(f"{prefix}:{{q}}:lanes") < 10


def test_message_that_comes_back_late_sets_nothing_back(broker: RedisBroker) -> None:
    """One that was claimed long ago is next again, and gives no lane an advantage."""
    broker.send([message(f"early-{number}", "early") for number in range(60)])
    (old,) = broker.receive(["q"], limit=1, wait=0, lease=30)
    broker.settle([Ack(each) for each in broker.receive(["q"], limit=30, wait=0, lease=30)])
    broker.settle([Release(old)])
    broker.send([message(f"late-{number}", "late") for number in range(60)])

    first, *others = [each.id for each in broker.receive(["q"], limit=21, wait=0, lease=30)]

    assert first == old.id
    assert Counter(id.partition("-")[0] for id in others)["late"] in (9, 10, 11)


@pytest.mark.parametrize(
    "extras",
    [b"", b"\x00" * 9, b"\x00" * 10, b"\xff" * 10 + b"x", b"\x00\x00\x00\x00\x00\x00\xf0\x3f\xff\xff"],
    ids=["none", "short", "no-weight", "not-a-number", "cut"],
)
def test_foreign_lane_stops_nobody(broker: RedisBroker, shared: redis.Redis, prefix: str, extras: bytes) -> None:
    """Bytes that only look like a lane are delivered, ready or delayed, and others go on (QK9)."""
    broker.send([message("bad", "a"), message("later", "a", delay=0.001), message("good", "b")])
    for id in (b"bad", b"later"):
        value = shared.hget(f"{prefix}:{{q}}:messages", id)
        assert isinstance(value, bytes)
        shared.hset(f"{prefix}:{{q}}:messages", id, value[:23] + extras)

    broker.send([message("next", "b")])
    found = {each.id for _ in range(3) for each in broker.receive(["q"], limit=9, wait=0.05, lease=30)}

    assert found == {"bad", "later", "good", "next"}


def test_positions_of_lanes_begin_in_a_far_year() -> None:
    """Until then, the time of a message without a lane is not taken for the position of one with a lane."""
    lua = (files("queuekit_redis") / "lua" / "base.lua").read_text()
    epoch, lanes = (
        float(found) for found in re.findall(r"EPOCH, LATEST, LANES = .*?, (\S+)e6, .*?, (\S+)$", lua, re.MULTILINE)[0]
    )

    assert datetime.fromtimestamp(epoch + lanes / 1e6, UTC).year == 2049


def test_both_kinds_of_clients_share_a_queue(connect: Callable[..., RedisBroker]) -> None:
    """Messages without a lane come first, in their order, whoever sends them."""
    connect().send([message(f"laned-{number}", "a") for number in range(3)])
    connect().send([Envelope(id=f"plain-{number}", queue="q", body=b"") for number in range(3)])

    assert drain(connect()) == ["plain-0", "plain-1", "plain-2", "laned-0", "laned-1", "laned-2"]
