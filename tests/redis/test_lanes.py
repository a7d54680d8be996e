"""Lanes on a server: what they leave behind, and what foreign bytes in their place do."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.resources import files

import pytest
import redis

from queuekit.broker import Broker
from queuekit.envelope import Envelope
from queuekit.urls import EngineURL
from queuekit_redis.broker import RedisBroker
from support.lanes import LaneCases, drain, in_lane, message
from support.redis_servers import shared_url


@pytest.fixture
def shared() -> Iterator[redis.Redis]:
    """Return the client library's own client of the server that all tests share."""
    host, _, port = EngineURL.parse(shared_url("valkey")).hosts[0].rpartition(":")
    client = redis.Redis(host, int(port))
    yield client
    client.close()


class TestLanes(LaneCases):
    """The cases of all engines."""

    @pytest.fixture(autouse=True)
    def look(self, shared: redis.Redis, prefix: str) -> None:
        """Let the cases look into the server."""
        self.shared, self.prefix = shared, prefix

    def left(self, broker: Broker) -> int:
        """Return how many lanes and times there are."""
        base = f"{self.prefix}:{{q}}"
        return int(self.shared.zcard(f"{base}:lanes")) + int(self.shared.hlen(f"{base}:turns"))


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
    connect().send(in_lane("laned", 3))
    connect().send([Envelope(id=f"plain-{number}", queue="q", body=b"") for number in range(3)])

    assert drain(connect()) == ["plain-0", "plain-1", "plain-2", "laned-0", "laned-1", "laned-2"]
