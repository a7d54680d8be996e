"""One queue: its messages, each in exactly one place, and the ids that it remembers."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator

from queuekit.backend import Page
from queuekit.broker import Delivery, Place, QueueCounts, Stored
from queuekit.engines.memory.keys import Holder
from queuekit.engines.memory.lanes import Lanes
from queuekit.engines.memory.priority_queue import PriorityQueue, SortKey
from queuekit.envelope import Envelope, Unique
from queuekit.values import define, quickly

__all__ = ["Entry", "Queue", "Step", "step_of"]

LEVELS = range(9, -1, -1)
"""Priorities, most urgent first."""

Step = tuple[int, int, int]
"""Generation, attempt and hop: the progress of a message id."""


def step_of(envelope: Envelope) -> Step:
    """Return the step of *envelope*; a send of the same or an earlier step adds nothing (QK13)."""
    return envelope.generation, envelope.attempt, envelope.hop


_delivery = quickly(Delivery)


@define(kw_only=True, eq=False)
class Entry:
    """A message in its queue. What :class:`~queuekit.broker.Stored` shows, and what decides its order."""

    envelope: Envelope
    due: float
    sequence: int
    """Breaks ties of ``due``; unchanged when a message returns to its previous position."""
    tag: int = 0
    """Place in the order of lanes while it is ready; 0 without a lane, and before all lanes if it has come back."""
    sent_at: float
    unique: Unique | None = None
    """The key that it took, if any."""
    place: Place = Place.READY
    number: int = 0
    crashes: int = 0
    token: str = ""
    claimed_at: float = 0.0
    lease_ends: float = 0.0
    reason: str = ""
    error: str = ""
    holder: str = ""
    died_at: float | None = None

    @property
    def id(self) -> str:
        """Id of the message."""
        return self.envelope.id

    @property
    def name(self) -> Holder:
        """Queue and id, as the holder of a unique key."""
        return self.envelope.queue, self.envelope.id

    @property
    def level(self) -> int:
        """Priority, limited to the valid range."""
        priority = self.envelope.priority
        return priority if 0 <= priority <= 9 else min(max(priority, 0), 9)  # noqa: PLR2004 - the valid range

    def sort_key(self) -> SortKey:
        """Return its position among the messages in its place."""
        if self.place is Place.READY:
            return -self.level, self.tag, self.due, self.sequence
        if self.place is Place.DELAYED:
            return self.due, self.sequence
        if self.place is Place.LEASED:
            return self.lease_ends, self.sequence
        return -(self.died_at or 0.0), -self.sequence

    def delivery(self) -> Delivery:
        """Return the delivery for its current holder."""
        return _delivery(
            envelope=self.envelope,
            token=self.token,
            number=self.number,
            crashes=self.crashes,
            sent_at=self.sent_at,
            claimed_at=self.claimed_at,
        )

    def stored(self) -> Stored:
        """Return it in the form of ``peek``."""
        return Stored(
            envelope=self.envelope,
            place=self.place,
            due=self.lease_ends if self.place is Place.LEASED else self.due,
            sent_at=self.sent_at,
            number=self.number,
            crashes=self.crashes,
            reason=self.reason,
            error=self.error,
            holder=self.holder,
            died_at=self.died_at,
        )


class Queue:
    """The place of each message. A message moves only by :meth:`put` and leaves only by :meth:`drop` (QK1)."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._ready: dict[int, PriorityQueue[Entry]] = {level: PriorityQueue() for level in LEVELS}
        self._lanes: dict[int, Lanes] = {level: Lanes() for level in LEVELS}
        self._others: dict[Place, PriorityQueue[Entry]] = {
            place: PriorityQueue() for place in (Place.DELAYED, Place.LEASED, Place.DEAD)
        }
        self._gone: dict[str, tuple[Step, float]] = {}
        """Ids of messages that have left, with the time until which they are remembered; oldest first."""

    def put(self, entry: Entry, place: Place) -> None:
        """Move *entry*, which may be new, to *place*."""
        envelope, id = entry.envelope, entry.envelope.id
        if id in self.entries:
            was = self._taken_out(entry, claimed=place is Place.LEASED)
        else:
            was, self.entries[id] = entry.place, entry
        entry.place = place
        if place is Place.READY and was is not Place.LEASED and envelope.lane is not None:
            entry.tag = self._lanes[entry.level].enter(envelope.lane)
        self._holding(entry).add(id, entry.sort_key(), entry)

    def drop(self, entry: Entry, *, remember_until: float) -> None:
        """Delete *entry*, and remember its id."""
        self._taken_out(entry, claimed=False)
        del self.entries[entry.id]
        self._gone.pop(entry.id, None)
        self._gone[entry.id] = (step_of(entry.envelope), remember_until)

    def _taken_out(self, entry: Entry, *, claimed: bool) -> Place:
        """Take *entry* out of its place, and return that place."""
        self._holding(entry).discard(entry.envelope.id)
        if entry.tag and entry.envelope.lane is not None:
            self._lanes[entry.level].leave(entry.envelope.lane, entry.tag, claimed=claimed)
            entry.tag = 0
        return entry.place

    def knows(self, envelope: Envelope, now: float) -> bool:
        """Return whether this step or a later one of the same id has been accepted before."""
        step = step_of(envelope)
        entry = self.entries.get(envelope.id)
        if entry is not None and step <= step_of(entry.envelope):
            return True
        known, until = self._gone.get(envelope.id, ((-1, -1, -1), 0.0))
        return until > now and step <= known

    def forget(self, now: float, *, at_most: int) -> None:
        """Forget ids that have been gone for long enough."""
        for _ in range(at_most):
            oldest = next(iter(self._gone), None)
            if oldest is None or self._gone[oldest][1] > now:
                return
            del self._gone[oldest]

    def first_ready(self) -> Entry | None:
        """Return the message to deliver next: of the most urgent level, the one due first."""
        for part in self._ready.values():
            if part.items and (entry := part.first()) is not None:  # most are empty
                return entry
        return None

    def first_delayed(self) -> Entry | None:
        """Return the delayed message that is due first."""
        return self._others[Place.DELAYED].first()

    def first_leased(self) -> Entry | None:
        """Return the message whose lease ends first."""
        return self._others[Place.LEASED].first()

    def counts(self, now: float) -> QueueCounts:
        """Return the number of messages in each place."""
        return QueueCounts(
            ready=sum(len(part) for part in self._ready.values()),
            delayed=len(self._others[Place.DELAYED]),
            leased=len(self._others[Place.LEASED]),
            dead=len(self._others[Place.DEAD]),
            oldest_age=max(0.0, now - min(oldest)) if (oldest := self._oldest()) else None,
        )

    def _oldest(self) -> list[float]:
        """Return due times of ready messages, the earliest among them."""
        heads = [head for part in self._ready.values() if (head := part.first()) is not None]
        if any(head.envelope.lane is not None for head in heads):  # then the first one is not the oldest
            heads = list(self.inside(Place.READY))
        return [head.due for head in heads]

    def inside(self, place: Place) -> Iterator[Entry]:
        """Yield the messages in *place*, in no particular order."""
        parts: Iterable[PriorityQueue[Entry]] = self._ready.values() if place is Place.READY else [self._others[place]]
        return (entry for part in parts for entry in part)

    def page(self, place: Place, *, limit: int, cursor: str | None) -> Page[Stored]:
        """Return the messages in *place* after *cursor*, in order."""
        after: SortKey = tuple(json.loads(cursor)) if cursor else ()
        rest = (entry for entry in self.inside(place) if entry.sort_key() > after)
        found = heapq.nsmallest(limit + 1, rest, key=Entry.sort_key)
        items = found[:limit]
        more = len(found) > limit and bool(items)
        return Page(
            items=tuple(entry.stored() for entry in items),
            cursor=json.dumps(items[-1].sort_key()) if more else None,
        )

    def _holding(self, entry: Entry) -> PriorityQueue[Entry]:
        return self._ready[entry.level] if entry.place is Place.READY else self._others[entry.place]
