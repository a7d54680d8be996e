"""The lanes of a queue in which most messages wait, as far as a look at its head tells: at the same cost, however long.

The head has the messages of each lane in turn, so a lane that waits for little is counted to its end.
"""

from __future__ import annotations

from collections import Counter

from queuekit.broker import Place
from queuekit.operations.admin import Admin, QueueView
from queuekit.operations.listing import list_messages
from queuekit.values import frozen

__all__ = ["LOOKED_AT", "LaneCounts", "count_lanes"]

LOOKED_AT = 500
"""Messages at the head of the queue that are looked at."""
_SHOWN = 10


@frozen(kw_only=True)
class LaneCounts:
    """The lanes of a queue in which most messages wait."""

    waiting: dict[str, int]
    """For each of at most ten lanes, how many of its messages were seen, most first; the common one has no name."""
    more: int
    """Further lanes that were seen."""
    whole: bool
    """Whether all messages that wait were looked at; else there are more of each lane, and perhaps other lanes."""


def count_lanes(admin: Admin, view: QueueView) -> LaneCounts | None:
    """Return the lanes of a queue; ``None`` if no task has ``fair_by`` or none waits, or the broker cannot say."""
    able = admin.runtime.broker.capabilities
    if not (admin.app.tasks.fair and able.lanes and able.inspect and view.counts.ready):
        return None
    head = list_messages(admin, view.name, Place.READY, limit=LOOKED_AT)
    found = Counter(one.lane for one in head.messages if one.lane is not None)
    top = dict(found.most_common(_SHOWN))
    return LaneCounts(waiting=top, more=len(found) - len(top), whole=head.cursor is None)
