"""Moves messages between their places, in plain steps on plain data.

::

    send -> delayed -> ready -> leased -> gone
               ^         ^        |  |
               |         +--------+  +-> dead -> ready (replayed)
               +-- retry, release with a delay

All methods run under the engine's lock and take the time as an argument.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import attrs

from queuekit.backend import Page
from queuekit.broker import Ack, Dead, Delivery, Lease, Place, QueueCounts, Release, Replace, Settlement, Stored, beyond
from queuekit.engines.memory.keys import UniqueKeys
from queuekit.engines.memory.queue import Entry, Queue
from queuekit.envelope import Envelope

__all__ = ["MAX_UPKEEP", "MessageStore"]

MAX_UPKEEP = 1_000
"""Most messages that one upkeep promotes, reclaims or forgets in a queue."""
MAX_ERROR_CHARACTERS = 2_000


class MessageStore:
    """All queues of an engine.

    Args:
        dedup_window: Seconds for which an id is remembered after its message is gone.
    """

    def __init__(self, *, dedup_window: float) -> None:
        self._queues: defaultdict[str, Queue] = defaultdict(Queue)
        self._keys = UniqueKeys()
        self._next = itertools.count().__next__
        self._dedup_window = dedup_window

    # -- sending -------------------------------------------------------------------------------------------------

    def accept(self, envelope: Envelope, now: float) -> str:
        """Put *envelope* on its queue, unless it is known or its unique key is held; return the holder's id."""
        queue = self._queues[envelope.queue]
        if queue.knows(envelope, now):
            return envelope.id
        unique = envelope.unique
        if unique is not None:
            holder = self._keys.holder(unique.key, now) or (envelope.queue, envelope.id)
            if holder != (envelope.queue, envelope.id):
                return holder[1]
        earlier = queue.entries.get(envelope.id)
        if earlier is not None:
            self._leave(earlier, now)  # a later step replaces an earlier one of the same id
        entry = Entry(envelope=envelope, due=now, sequence=0, sent_at=now)
        self._take_key(entry, now)
        self._schedule(entry, _due(envelope, now), now)
        return envelope.id

    def _schedule(self, entry: Entry, due: float, now: float) -> None:
        """Give *entry* a new position, at *due*."""
        entry.due = due
        entry.sequence = self._next()
        self._queues[entry.envelope.queue].put(entry, Place.DELAYED if due > now else Place.READY)

    def _take_key(self, entry: Entry, now: float) -> None:
        """Take the unique key of the envelope, if it is free."""
        unique = entry.envelope.unique
        if unique is not None and self._keys.holder(unique.key, now) in (None, entry.name):
            self._keys.take(unique, entry.name, now)
            entry.unique = unique

    def _free_key(self, entry: Entry, *, ended: bool) -> None:
        """Free the key on a claim, or when the message has *ended*."""
        unique = entry.unique
        if unique is not None and (unique.until == "start" or (ended and unique.until == "done")):
            self._keys.free(unique.key, entry.name)
            entry.unique = None

    # -- receiving -----------------------------------------------------------------------------------------------

    def upkeep(self, names: Iterable[str], now: float) -> None:
        """Promote due messages, reclaim expired leases and forget old ids, in bounded batches."""
        for queue in self._existing(names):
            self._promote(queue, now)
            self._reclaim(queue, now)
            queue.forget(now, at_most=MAX_UPKEEP)
        self._keys.expire(now, at_most=MAX_UPKEEP)

    def _promote(self, queue: Queue, now: float) -> None:
        for _ in range(MAX_UPKEEP):
            entry = queue.first_delayed()
            if entry is None or entry.due > now:
                return
            queue.put(entry, Place.READY)

    def _reclaim(self, queue: Queue, now: float) -> None:
        for _ in range(MAX_UPKEEP):
            entry = queue.first_leased()
            if entry is None or entry.lease_ends > now:
                return
            entry.crashes += 1
            queue.put(entry, Place.READY)

    def claim(
        self,
        names: Sequence[str],
        *,
        limit: int,
        lease: float,
        now: float,
        token: Callable[[], str],
        like: Callable[[Delivery], bool] | None = None,
    ) -> list[Delivery]:
        """Move up to *limit* ready messages under a lease; *token* creates the fencing token of each.

        With *like*, only those before the first for which it is false.
        """
        claimed: list[Delivery] = []
        for queue in self._existing(names):
            while len(claimed) < limit and (entry := queue.first_ready()) is not None:
                if like is not None and not like(entry.delivery()):
                    return claimed
                entry.number += 1
                entry.token = token()
                entry.claimed_at = now
                entry.lease_ends = now + lease
                queue.put(entry, Place.LEASED)
                self._free_key(entry, ended=False)
                claimed.append(entry.delivery())
        return claimed

    def next_event(self, names: Iterable[str], *, ready: bool = False) -> float | None:
        """Return when the next delayed message is due or the next lease ends; with *ready*, also what is due."""
        moments: list[float] = []
        for queue in self._existing(names):
            if ready and (first := queue.first_ready()) is not None:
                moments.append(first.due)
            if (delayed := queue.first_delayed()) is not None:
                moments.append(delayed.due)
            if (leased := queue.first_leased()) is not None:
                moments.append(leased.lease_ends)
        return min(moments, default=None)

    # -- settling ------------------------------------------------------------------------------------------------

    def held(self, lease: Lease) -> Entry | None:
        """Return the message of *lease* if its token still holds (QK4).

        A lease that has ended may still be settled as long as it has not been reclaimed.
        """
        queue = self._queues.get(lease.queue)
        entry = queue.entries.get(lease.id) if queue is not None else None
        if entry is None or entry.place is not Place.LEASED or entry.token != lease.token:
            return None
        return entry

    def extend(self, lease: Lease, *, until: float) -> bool:
        """Make the lease end at *until*; return False if it is lost."""
        entry = self.held(lease)
        if entry is None:
            return False
        entry.lease_ends = until
        self._queues[lease.queue].put(entry, Place.LEASED)
        return True

    def settle(self, settlement: Settlement, now: float) -> bool:
        """Apply *settlement*; if its lease is lost, change nothing and return False."""
        entry = self.held(settlement.delivery.lease)
        if entry is None:
            return False
        if isinstance(settlement, Ack):
            self._leave(entry, now)
        elif isinstance(settlement, Release):
            self._release(entry, settlement, now)
        elif isinstance(settlement, Replace):
            self._retry(entry, settlement.envelope, now)
        else:
            self._dead_letter(entry, settlement, now)
        return True

    def _leave(self, entry: Entry, now: float) -> None:
        self._free_key(entry, ended=True)
        self._queues[entry.envelope.queue].drop(entry, remember_until=now + self._dedup_window)

    def _release(self, entry: Entry, release: Release, now: float) -> None:
        entry.crashes += release.counted
        if release.delay > 0:
            self._schedule(entry, now + release.delay, now)
        else:
            self._queues[entry.envelope.queue].put(entry, Place.READY)

    def _retry(self, entry: Entry, envelope: Envelope, now: float) -> None:
        """Replace *entry* with *envelope*, which keeps its number and its unique key."""
        successor = Entry(
            envelope=envelope, due=now, sequence=0, sent_at=entry.sent_at, number=entry.number, unique=entry.unique
        )
        if entry.unique is not None:
            self._keys.hand_over(entry.unique.key, entry.name, successor.name)
            entry.unique = None
        self._leave(entry, now)
        self._schedule(successor, _due(envelope, now), now)

    def _dead_letter(self, entry: Entry, dead: Dead, now: float) -> None:
        self._free_key(entry, ended=True)
        entry.reason = dead.reason
        entry.holder = dead.holder
        entry.error = dead.error[:MAX_ERROR_CHARACTERS]
        entry.died_at = now
        entry.sequence = self._next()
        self._queues[entry.envelope.queue].put(entry, Place.DEAD)

    # -- inspecting and repairing --------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Return the names of all queues that were ever sent to, sorted."""
        return sorted(self._queues)

    def counts(self, name: str, now: float) -> QueueCounts:
        """Return the counts of one queue."""
        return self._promoted(name, now).counts(now)

    def page(self, name: str, place: Place, *, limit: int, cursor: str | None, now: float) -> Page[Stored]:
        """Return a page of the messages in *place*."""
        return self._promoted(name, now).page(place, limit=limit, cursor=cursor)

    def find(self, name: str, ids: Iterable[str], now: float) -> list[Stored]:
        """Return the messages among *ids* that the queue holds."""
        entries = self._promoted(name, now).entries
        return [entries[id].stored() for id in dict.fromkeys(ids) if id in entries]

    def requeue(self, name: str, ids: Sequence[str] | None, now: float) -> list[str]:
        """Replay dead letters, oldest first."""
        dead = sorted(self._existing_entries(name, {Place.DEAD}, ids), key=Entry.sort_key, reverse=True)
        for entry in dead:
            old = entry.envelope
            entry.envelope = attrs.evolve(old, generation=old.generation + 1, attempt=0, hop=0)
            entry.crashes = 0
            entry.reason = entry.error = entry.holder = ""
            self._take_key(entry, now)
            self._schedule(entry, now, now)
            entry.died_at = None
        return [entry.id for entry in dead]

    def remove(self, name: str, ids: Sequence[str] | None, places: set[Place], now: float) -> list[str]:
        """Delete messages in *places*: those with *ids*, or all."""
        found = self._existing_entries(name, places, ids)
        for entry in sorted(found, key=Entry.sort_key, reverse=True):  # the last of a lane gives its turn back
            self._leave(entry, now)
        return [entry.id for entry in found]

    def dead_beyond(self, name: str, *, count: int | None, before: float | None) -> list[str]:
        """Return the ids of dead letters beyond the bounds, oldest first."""
        dead = sorted(self._existing_entries(name, {Place.DEAD}, None), key=Entry.sort_key, reverse=True)
        return beyond([(entry.died_at, entry.id) for entry in dead], count=count, before=before)

    def _existing(self, names: Iterable[str]) -> list[Queue]:
        """Return the existing queues among *names*; a queue that was never sent to is not created."""
        return [self._queues[name] for name in names if name in self._queues]

    def _promoted(self, name: str, now: float) -> Queue:
        """Return a queue for display: due messages count as ready, even if no worker runs."""
        queue = self._queues.get(name)
        if queue is None:
            return Queue()
        self._promote(queue, now)
        return queue

    def _existing_entries(self, name: str, places: set[Place], ids: Sequence[str] | None) -> list[Entry]:
        queue = self._queues.get(name)
        if queue is None:
            return []
        if ids is None:
            return [entry for place in places for entry in queue.inside(place)]
        found = (queue.entries.get(id) for id in dict.fromkeys(ids))
        return [entry for entry in found if entry is not None and entry.place in places]


def _due(envelope: Envelope, now: float) -> float:
    """Return when *envelope* is due: the later of its delay and its ``not_before``."""
    return max(now + max(envelope.delay, 0.0), envelope.not_before or 0.0)
