"""The place of a message among those that wait in its lane and in others.

Brokers sort what is ready by turns, so one look at the head of the queue tells who comes before a message that is near.
Of one that is further back it tells the least that come before it, at the same cost.
"""

from __future__ import annotations

import attrs

from queuekit.broker import Broker, Place, Stored

__all__ = ["LOOKED_AT", "LanePlace", "find_place"]

LOOKED_AT = 200
"""Messages at the head of the queue that are looked at."""


@attrs.frozen(kw_only=True)
class LanePlace:
    """What comes before a message that waits for a turn of its lane."""

    own: int
    """Messages of its lane that come before it."""
    others: int
    """Messages of other lanes that come before it."""
    whole: bool = True
    """Whether these are all; else there are more."""

    def __str__(self) -> str:
        """Return a clause for an operator."""
        least = "" if self.whole else "at least "
        return f"{least}{self.own:,} of its lane and {self.others:,} of others come before it"


def find_place(broker: Broker, stored: Stored | None) -> LanePlace | None:
    """Return the place of *stored*; ``None`` unless it is ready in a lane and the broker shows the order of turns."""
    able = broker.capabilities
    if stored is None or stored.place is not Place.READY or stored.envelope.lane is None:
        return None
    if not able.lanes or not able.inspect:
        return None
    envelope, lane, own, others = stored.envelope, _lane_of(stored), 0, 0
    page = broker.peek(envelope.queue, place=Place.READY, limit=LOOKED_AT)
    for one in page.items:
        if one.envelope.id == envelope.id:
            return LanePlace(own=own, others=others)
        if _lane_of(one) == lane:
            own += 1
        else:
            others += 1
    # Without more messages, it has been taken meanwhile.
    return LanePlace(own=own, others=others, whole=False) if page.cursor is not None else None


def _lane_of(stored: Stored) -> tuple[int, str | None]:
    """Return what names the lane of a message. Its weight, which another release may set, does not."""
    envelope = stored.envelope
    return envelope.priority, None if envelope.lane is None else envelope.lane.key
