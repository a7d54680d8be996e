"""Lanes: within a queue and priority, they take turns, so that no message waits behind a long row of another lane."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
import pytest

from queuekit.broker import (
    Broker,
    Capabilities,
    CommitItem,
    Dead,
    Delivery,
    Place,
    Release,
    Replace,
    Settlement,
    Stored,
)
from queuekit.envelope import Envelope, Lane
from queuekit_testing.brokers.kit import BrokerKit
from queuekit_testing.kit import needs

__all__ = ["LanesTests"]


class LanesTests(BrokerKit):
    """Fair shares: one message of each lane per turn, as many as its weight, and first in first out within a lane."""

    def in_lane(self, queue: str, key: str, count: int, *, weight: float = 1.0, **fields: Any) -> list[Envelope]:
        """Return *count* messages of the lane *key*."""
        return self.messages(queue, count, lane=Lane(key, weight), **fields)

    def lanes_of(self, broker: Broker, queue: str, count: int) -> list[str]:
        """Claim *count* messages, one by one, and return their lanes."""
        return [_lane(self.take_one(broker, queue)) for _ in range(count)]

    @needs("lanes", probe=True)
    def test_does_not_let_a_lane_wait_behind_another(self, broker: Broker, queue: str) -> None:
        """The only message of a lane starts after one of each other lane, not after all that were sent before it."""
        broker.send(self.in_lane(queue, "long", 10))
        broker.send(self.in_lane(queue, "longer", 10))
        self.connect().send(self.in_lane(queue, "quiet", 1))

        assert "quiet" in self.lanes_of(broker, queue, 3)

    @needs("lanes")
    def test_gives_each_lane_its_turn(self, broker: Broker, queue: str) -> None:
        """Lanes of equal weight advance together, however much each has sent."""
        broker.send([*self.in_lane(queue, "a", 5), *self.in_lane(queue, "b", 9), *self.in_lane(queue, "c", 7)])

        lanes = self.lanes_of(broker, queue, 15)

        counts = [Counter(lanes[:number]) for number in range(1, 16)]
        assert all(max(count.values()) - min(count[lane] for lane in "abc") <= 1 for count in counts)

    @needs("lanes")
    def test_gives_shares_by_weight(self, broker: Broker, queue: str) -> None:
        """A lane of weight 9 gets nine starts for each one of a lane of weight 1."""
        broker.send(self.in_lane(queue, "light", 10))
        broker.send(self.in_lane(queue, "heavy", 40, weight=9))

        counts = Counter(self.lanes_of(broker, queue, 40))

        assert counts["light"] in (3, 4, 5)

    @needs("lanes")
    def test_takes_a_weight_below_one(self, broker: Broker, queue: str) -> None:
        """A lane of weight 0.1 gets one start for ten of a lane of weight 1, and still gets it."""
        broker.send(self.in_lane(queue, "last", 5, weight=0.1))
        broker.send(self.in_lane(queue, "usual", 30))

        counts = Counter(self.lanes_of(broker, queue, 25))

        assert counts["last"] in (2, 3)

    @needs("lanes")
    def test_keeps_the_order_within_a_lane(self, broker: Broker, queue: str) -> None:
        """Messages of one lane arrive in the order in which they were sent, over several sends and receives."""
        mine, others = self.in_lane(queue, "mine", 6), self.in_lane(queue, "others", 6)
        broker.send([mine[0], others[0], mine[1], *others[1:5], mine[2]])
        broker.send([*mine[3:], others[5]])

        taken = [*self.take(broker, queue, 5), *self.take(broker, queue, 7)]

        assert [each.id for each in taken if _lane(each) == "mine"] == [each.id for each in mine]

    @needs("lanes")
    def test_keeps_the_order_of_many_lanes(self, broker: Broker, queue: str) -> None:
        """Lanes with one message each arrive in the order in which they were sent."""
        batch = [self.message(queue, lane=Lane(f"lane-{number}")) for number in range(30)]
        broker.send(batch)

        assert [each.id for each in self.take(broker, queue, 30)] == [each.id for each in batch]

    @needs("lanes")
    def test_does_not_punish_a_lane_for_the_past(self, broker: Broker, queue: str) -> None:
        """A lane that has had the queue to itself shares it from now on: it owes nothing to a lane that comes later."""
        broker.send(self.in_lane(queue, "early", 30))
        self.lanes_of(broker, queue, 15)
        broker.send(self.in_lane(queue, "late", 15))

        counts = Counter(self.lanes_of(broker, queue, 10))

        assert counts["early"] in (4, 5, 6)

    @needs("lanes")
    def test_keeps_shares_of_lanes_with_one_message_at_a_time(self, broker: Broker, queue: str) -> None:
        """A lane that sends its next message when the last one has started gets its share, not more."""
        broker.send(self.in_lane(queue, "heavy", 40, weight=4))
        broker.send(self.in_lane(queue, "light", 1))
        taken: list[str] = []
        for _ in range(25):
            taken += self.lanes_of(broker, queue, 1)
            if taken[-1] == "light":
                broker.send(self.in_lane(queue, "light", 1))

        assert taken.count("light") in (4, 5, 6, 7)

    @needs("lanes", "priority")
    def test_lets_priority_beat_lanes(self, broker: Broker, queue: str) -> None:
        """Lanes take turns within a priority; a more urgent message comes first, whatever its lane."""
        broker.send(self.in_lane(queue, "quiet", 1, priority=2))
        broker.send(self.in_lane(queue, "long", 4, priority=6))

        assert self.lanes_of(broker, queue, 5) == ["long"] * 4 + ["quiet"]

    @needs("lanes")
    @pytest.mark.parametrize("way", ["sent", "retried", "put back"])
    def test_knows_the_lane(self, broker: Broker, queue: str, way: str) -> None:
        """A delivery says the lane and its weight, as they were sent, also after a retry and a return."""
        sent = self.message(queue, lane=Lane("käse #7", 2.5))
        found = self.sent_and_taken(broker, sent)
        if way == "retried":
            self.do(broker, Replace(found, attrs.evolve(found.envelope, attempt=1)))
        elif way == "put back":
            self.do(broker, Release(found))
        found = found if way == "sent" else self.take_one(broker, queue)

        assert found.envelope.lane == sent.lane

    @needs("approximate_lanes")
    @pytest.mark.parametrize("way", ["retried", "put back"])
    def test_keeps_the_lane(self, broker: Broker, queue: str, way: str) -> None:
        """A message stays in its lane when it is retried or comes back, where the service itself shares out fairly."""
        sent = self.message(queue, lane=Lane("a lane"))
        found = self.sent_and_taken(broker, sent)
        settlement: Settlement = Release(found)
        if way == "retried":
            settlement = Replace(found, attrs.evolve(found.envelope, attempt=1))
        self.do(broker, settlement)

        again = self.take_one(broker, queue)

        assert (found.envelope.lane, again.envelope.lane) == (sent.lane, sent.lane)

    @needs("lanes", "inspect")
    def test_shows_the_lane(self, broker: Broker, queue: str) -> None:
        """``peek`` shows the lane, and messages in the order of turns, in pages too."""
        broker.send([*self.in_lane(queue, "a", 3), *self.in_lane(queue, "b", 2)])

        page = broker.peek(queue, place=Place.READY)
        ids = self.seen(broker, queue, Place.READY, limit=2)

        assert sorted(_lane(stored) for stored in page.items[:2]) == ["a", "b"]
        assert sorted(ids) == sorted(stored.envelope.id for stored in page.items)
        assert len(ids) == 5

    @needs("lanes", "delay")
    def test_gives_what_was_delayed_its_turn(self, broker: Broker, queue: str) -> None:
        """Messages that become due wait for the turns of their lane, and do not come before all others."""
        broker.send(self.in_lane(queue, "delayed", 9, delay=self.short))
        self.let_pass(1.1 * self.short + broker.limits.lease_granularity)
        broker.receive([queue], limit=0, wait=0.0, lease=self.long)
        broker.send(self.in_lane(queue, "quiet", 1))

        assert "quiet" in self.lanes_of(broker, queue, 3)

    @needs("lanes")
    def test_gives_retries_their_turn(self, broker: Broker, queue: str) -> None:
        """Retries without a delay wait for the turns of their lane, and do not come before all others."""
        broker.send(self.in_lane(queue, "failing", 9))
        taken = self.take(broker, queue, 9)
        self.do(broker, *[Replace(each, attrs.evolve(each.envelope, attempt=1)) for each in taken])
        broker.send(self.in_lane(queue, "quiet", 1))

        assert "quiet" in self.lanes_of(broker, queue, 3)

    @needs("lanes", "dead_letters")
    def test_gives_replays_their_turn(self, broker: Broker, queue: str) -> None:
        """Dead letters that are replayed wait for the turns of their lane, and do not come before all others."""
        broker.send(self.in_lane(queue, "dead", 9))
        self.do(broker, *[Dead(each, reason="failed") for each in self.take(broker, queue, 9)])
        broker.requeue(queue)
        broker.send(self.in_lane(queue, "quiet", 1))

        found = [self.take_one(broker, queue) for _ in range(3)]

        assert "quiet" in map(_lane, found)
        assert {_lane(each) for each in found} == {"quiet", "dead"}

    @needs("lanes")
    def test_puts_a_message_back_in_its_place(self, broker: Broker, queue: str) -> None:
        """A message that is released is next again, and moves no lane on or back."""
        broker.send([*self.in_lane(queue, "a", 8), *self.in_lane(queue, "b", 8)])
        self.lanes_of(broker, queue, 8)
        back = self.take_one(broker, queue)
        self.do(broker, Release(back))
        broker.send(self.in_lane(queue, "late", 8))

        first, *others = [self.take_one(broker, queue) for _ in range(7)]

        assert first.id == back.id
        assert Counter(map(_lane, others)).most_common(1)[0][1] <= 3

    @needs("lanes")
    def test_takes_the_common_lane_for_one_of_them(self, broker: Broker, queue: str) -> None:
        """Messages without a key have a lane of their own, which takes turns like the others."""
        broker.send(self.in_lane(queue, "", 9))
        broker.send(self.in_lane(queue, "keyed", 9))

        counts = Counter(self.lanes_of(broker, queue, 8))

        assert counts[""] in (3, 4, 5)

    @needs("lanes")
    def test_keeps_lanes_of_queues_apart(self, broker: Broker, queue: str) -> None:
        """A lane of one queue does not move that of another on."""
        other = self.new_queue()
        broker.send([*self.in_lane(other, "a", 9), *self.in_lane(queue, "b", 4)])
        broker.send(self.in_lane(queue, "a", 1))

        assert "a" in self.lanes_of(broker, queue, 2)

    @needs("lanes", "commit")
    def test_gives_what_a_commit_sends_its_turn(self, broker: Broker, queue: str) -> None:
        """Messages that a commit sends take turns, too."""
        broker.send(self.in_lane(queue, "long", 9))
        broker.commit([CommitItem(sends=tuple(self.in_lane(queue, "quiet", 1)))])

        assert "quiet" in self.lanes_of(broker, queue, 2)

    @needs("lanes", "counts")
    def test_knows_the_oldest_of_all_lanes(self, broker: Broker, queue: str, declared: Capabilities) -> None:
        """All ready messages count, and the oldest one too, whichever is next."""
        broker.send([*self.in_lane(queue, "a", 3), *self.in_lane(queue, "b", 2)])

        counts = broker.counts([queue])[queue]

        assert counts.ready == 5
        assert not declared.inspect or counts.oldest_age is not None


def _lane(one: Delivery | Stored) -> str:
    lane = one.envelope.lane
    return "none" if lane is None else lane.key
