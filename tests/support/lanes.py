"""What lanes must do on every engine beyond the contract: leave nothing behind, and lose no turn.

A file of tests subclasses :class:`LaneCases`, and has a fixture ``broker``.
"""

from collections import Counter
from typing import Any

import pytest

from queuekit.broker import Ack, Broker, Place, Release
from queuekit.envelope import Envelope, Lane, Unique
from queuekit_testing.kit import unique_name

__all__ = ["LaneCases", "drain", "in_lane", "message", "turns"]


def message(id: str, lane: str | None = None, **options: Any) -> Envelope:
    """Return a message."""
    return Envelope(id=id, queue="q", body=b"b", lane=None if lane is None else Lane(lane), **options)


def in_lane(lane: str, count: int, first: int = 0) -> list[Envelope]:
    """Return messages of *lane*, whose ids begin with it and are numbered from *first*."""
    return [message(f"{lane}-{number}", lane) for number in range(first, first + count)]


def drain(broker: Broker) -> list[str]:
    """Claim and acknowledge all that is ready; return the ids in their order."""
    ids: list[str] = []
    while taken := broker.receive(["q"], limit=500, wait=0, lease=30):
        assert broker.settle([Ack(each) for each in taken]) == []
        ids += [each.id for each in taken]
    return ids


def turns(broker: Broker, count: int) -> Counter[str]:
    """Claim *count* messages, and return how many of each lane there are; ids begin with the lane."""
    taken = broker.receive(["q"], limit=count, wait=0, lease=30)
    return Counter(each.id.partition("-")[0] for each in taken)


class LaneCases:
    """Each case is a test of the class that subclasses this one."""

    def left(self, broker: Broker) -> int:
        """Return how many entries the engine keeps of lanes; upkeep may run before."""
        raise NotImplementedError

    @pytest.mark.parametrize("way", ["done", "purged", "removed"])
    @pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.torture)])
    def test_many_lanes_leave_nothing_behind(self, broker: Broker, way: str, count: int) -> None:
        """Lanes with one message each start in their order, and nothing of lanes stays when none is ready (QK14)."""
        ids = [f"m{number % 7}-{number}" for number in range(count)]  # not in the order of names
        for first in range(0, count, 500):
            broker.send([message(id, f"lane-{id}") for id in ids[first : first + 500]])

        if way == "done":
            assert drain(broker) == ids
        elif way == "purged":
            assert broker.purge("q", place=Place.READY) == count
        else:
            assert sorted(broker.remove("q", ids)) == sorted(ids)
        assert drain(broker) == []
        assert self.left(broker) == 0

    def test_steady_lanes_are_forgotten_while_others_go_on(self, broker: Broker) -> None:
        """A queue that is never empty keeps only the lanes that wait, and those of the turn that goes on."""
        broker.send(in_lane("flood", 60))
        for number in range(40):
            broker.send([message(f"single-{number}", f"lane-{number}")])
            broker.settle([Ack(each) for each in broker.receive(["q"], limit=2, wait=0, lease=30)])

        assert self.left(broker) < 10
        broker.send(in_lane("quiet", 1))
        assert turns(broker, 3)["quiet"] == 1

    def test_message_that_comes_back_late_sets_nothing_back(self, broker: Broker) -> None:
        """One that was claimed long ago is next again, and gives no lane an advantage."""
        broker.send(in_lane("early", 60))
        (old,) = broker.receive(["q"], limit=1, wait=0, lease=30)
        broker.settle([Ack(each) for each in broker.receive(["q"], limit=30, wait=0, lease=30)])
        broker.settle([Release(old)])
        broker.send(in_lane("late", 60))

        (first,) = broker.receive(["q"], limit=1, wait=0, lease=30)

        assert first.id == old.id
        assert turns(broker, 20)["late"] in (9, 10, 11)

    def test_removed_messages_take_no_turn(self, broker: Broker) -> None:
        """A lane whose calls were cancelled does not wait for their turns."""
        broker.send(in_lane("long", 60))
        broker.send(in_lane("a", 30))
        broker.remove("q", [f"a-{number}" for number in range(1, 30)])
        broker.send(in_lane("a", 2, first=30))

        assert turns(broker, 8)["a"] == 3

    def test_purge_of_a_queue_is_the_end_of_all_turns(self, broker: Broker) -> None:
        """What is sent after it begins anew, though no worker has looked at the queue in between."""
        broker.send([*in_lane("long", 60), *in_lane("a", 1)])
        broker.purge("q", place=Place.READY)
        broker.send([*in_lane("a", 20, first=1), *in_lane("long", 20, first=60)])

        assert turns(broker, 20)["long"] in (9, 10, 11)

    @pytest.mark.parametrize("way", ["id", "key"])
    def test_rejected_message_takes_no_turn(self, broker: Broker, way: str) -> None:
        """A lane that repeats what waits, as a debounced call does, does not fall behind the others."""
        unique = None if way == "id" else Unique(key=unique_name("u"))
        broker.send(in_lane("long", 60))
        broker.send([message("a-0", "a", unique=unique)])
        for number in range(20):
            again = message("a-0" if way == "id" else f"again-{number}", "a", unique=unique)
            assert broker.send([again, message("a-0", "a")]) == ["a-0", "a-0"]
        broker.send(in_lane("a", 2, first=1))

        assert turns(broker, 8)["a"] == 3
