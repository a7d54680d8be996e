"""The order of lanes: the tag of each ready message, by which messages of one priority are sorted.

Each lane has a time of its own, which its messages move on by 1/weight each; the time of all lanes is that of the last
message claimed. A message is tagged with the end of its share, so the lanes advance together.

Source:
    P. Goyal, H. Vin, H. Cheng, "Start-time fair queueing", 1996; S. Golestani, "A self-clocked fair queueing scheme",
    1994: the clock is read off the message in service.
"""

from __future__ import annotations

from queuekit.envelope import TURN, Lane

__all__ = ["Lanes"]


class Lanes:
    """The lanes of one priority of a queue that have ready messages; a lane without one leaves nothing behind."""

    __slots__ = ("_now", "_tails")

    def __init__(self) -> None:
        self._now = 0
        self._tails: dict[str, tuple[int, int]] = {}
        """For each lane the tag of its last message, and the number of its messages."""

    def enter(self, lane: Lane) -> int:
        """Return the tag of a message that joins *lane*."""
        tail, count = self._tails.get(lane.key, (0, 0))
        tag = max(tail, self._now) + lane.step
        self._tails[lane.key] = (tag, count + 1)
        return tag

    def leave(self, lane: Lane, tag: int, *, claimed: bool) -> None:
        """Note that a message has left *lane*, because it was *claimed* or removed."""
        tail, count = self._tails.pop(lane.key)
        if count > 1:
            last = tag - lane.step if tag == tail and not claimed else tail
            self._tails[lane.key] = (last, count - 1)
        if not self._tails:
            self._now = 0
        elif claimed:
            # The start of its share; but a light lane does not hold the others' time back by more than one turn.
            self._now = max(self._now, tag - min(TURN, lane.step))
