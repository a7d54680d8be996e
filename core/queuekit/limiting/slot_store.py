"""Take, pass on and free slots of concurrency limits: one read and one write for a batch.

A message that finds no slot stays where it is, under a long lease that is written down. Whoever frees a slot gives it
to the first of those who wait, and ends that lease, so that the message is delivered again, to a slot of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Protocol

import attrs

from queuekit.backend import Backend, Condition, Record
from queuekit.broker import Broker, Delivery, Lease, Release
from queuekit.errors import UnavailableError
from queuekit.ids import new_id
from queuekit.limiting.rates import LIMIT
from queuekit.limiting.slots import (
    LINE,
    PART,
    PART_TTL,
    Claim,
    SlotKey,
    SlotState,
    Waiter,
    beat_of,
    read_most,
    waiters_in,
)
from queuekit.values import define

__all__ = ["TOGETHER", "Adopter", "Slots", "Wish"]

WAITS = 3_600.0
"""Seconds of the lease of a message that waits; the upkeep extends it in time."""
_EXTENDING = 60.0
"""Seconds before the leases of those who wait are due to be extended in which nobody takes them over."""
_TRIES = 50
"""Attempts to change a record that others change at the same time; each failure is the success of another."""

_MOST_KNOWN = 1_000
"""Most keys whose records are remembered."""

States = Mapping[SlotKey, SlotState]
TOGETHER = 16
"""Most messages that one worker runs one after the other in one of several slots: they wait for each other where
another slot is freed meanwhile. Where there is one slot, they are as many as a part of a line."""
_FEW = 2
"""Least messages in a line that is worth the round trips of taking over."""


@define(eq=False)
class Wish:
    """A delivery that needs a slot at each of *places*, or a block.

    Attributes:
        waiter: The delivery, as it waits.
        places: Where it needs one.
        task: Name of its task.
        waits: Where it waits, if it does not have all its slots.
        done: Whether it has its slots, or waits.
        granted: Whether it was handed back for a slot that it waited for.
    """

    waiter: Waiter
    places: tuple[SlotKey, ...]
    task: str = ""
    waits: SlotKey | None = None
    done: bool = False
    granted: bool = False

    @classmethod
    def of(cls, delivery: Delivery, places: Iterable[SlotKey], task: str) -> Wish:
        """Return the wish of a delivery. The places are sorted, as those of everyone else are."""
        return cls(Waiter.of(delivery), tuple(sorted(places, key=lambda place: place.record)), task)

    def is_written(self, failed: set[SlotKey]) -> bool:
        """Return whether it waits, or has its slots, though the records of *failed* were not written."""
        return (self.waits is not None and self.waits not in failed) or not failed.intersection(self.places)


class Adopter(Protocol):
    """Takes messages over that wait, so that this process runs them one after the other in a slot that it has freed."""

    def adopt(
        self, place: SlotKey, waiters: Sequence[Waiter], now: float, *, extended: float
    ) -> tuple[list[Waiter], list[Waiter]]:
        """Take over the leases of the first of *waiters*: make them short.

        Who has not got its long lease yet stays, since that may still be about to be made long. It may be asked about
        the same ones again: then their leases are short, unless *extended* says that all were made long meanwhile.

        Returns:
            Those that this process runs if they get the slot, from the first on, and those whose leases are lost.
        """
        ...

    def adopted(self, place: SlotKey, waiters: Sequence[Waiter]) -> None:
        """Run *waiters*, if there are any, who have a slot together by now."""
        ...


class Slots:
    """The slots of all concurrency limits.

    Args:
        backend: Stores them.
        broker: Has the messages that wait.
        lease: Seconds for which a slot is held without a sign of life.
    """

    def __init__(self, backend: Backend, broker: Broker, *, lease: float) -> None:
        self._backend, self._broker, self._lease = backend, broker, lease
        # Where a message cannot be held for as long as one likes, other processes may not be able to extend its lease.
        self._waits = broker.limits.max_lease or WAITS
        self._extending = min(_EXTENDING, self._waits / 12)
        self._known: dict[SlotKey, Record] = {}
        """What was written last, of keys with holders: if nobody else has written since, no read is needed."""
        self._contended: set[SlotKey] = set()
        """Keys of which others wrote the record meanwhile, so that the next attempt without a read would be in vain."""

    # -- steps

    def acquire(self, wishes: Sequence[Wish], now: float) -> None:
        """Get all slots of each wish, or let it wait for one of them and hold none.

        A wish that is not *done* afterwards has neither, because too many others changed the same records.
        """
        left = list(wishes)

        def decide(states: States) -> None:
            _decide_all(left, states, until=now + self._lease, extended=now + self._waits / 3)

        def written(failed: set[SlotKey]) -> list[SlotKey]:
            left[:] = _unwritten(left, failed)
            return _places_of(left)

        self._change(_places_of(wishes), now, decide, written)
        # One whose lease is lost by now was delivered again.
        self._extend([wish.waiter.lease for wish in wishes if wish.done and wish.waits and wish.waiter.queue])

    def release(
        self, ends: Iterable[tuple[SlotKey, str, Claim]], now: float, *, adopter: Adopter | None = None
    ) -> None:
        """Free the slots of deliveries, and give them to those who wait: first to those that *adopter* takes over.

        That takes one round trip if nobody else has written the records since, and one more if somebody waits.

        Raises:
            UnavailableError: Others changed the records at each attempt, so that some slots are not free yet. It may be
                called again with the same *ends*.
        """
        gone: dict[SlotKey, list[tuple[str, Claim]]] = {}
        for place, id, claim in ends:
            gone.setdefault(place, []).append((id, claim))
        tried: dict[SlotKey, list[Waiter]] = {}

        def decide(states: States) -> None:
            for place, state in states.items():
                for id, claim in gone.get(place, ()):
                    state.leave(id, claim)
                tried[place] = self._adopted(state, now, adopter)

        def written(failed: set[SlotKey]) -> list[SlotKey]:
            for place in tried.keys() - failed:
                some = tried.pop(place)
                if adopter is not None:
                    adopter.adopted(place, some)
            return []

        known = self._recall(gone, now)
        failed, stale, _ = self._step(known, now, decide, known=True)
        written(failed)
        self._change((gone.keys() - known.keys()) | failed | stale.keys(), now, decide, written, stale=stale)
        _need_free(tried)

    def move(self, places: Iterable[SlotKey], now: float, *, more: int = 0) -> int:
        """Give free slots, or *more* than there are, to those who wait; return how many got one."""
        return self._change(places, now, more=more)

    def dissolve(self, place: SlotKey, now: float) -> None:
        """Hand back all who wait at *place*, since nothing limits them any more."""

        def decide(states: States) -> None:
            for state in states.values():
                self._release(self.waiters(state))
                state.loaded += [key for key, _ in state.parts]  # deleted once the record is written
                state.front, state.parts, state.back, state.holders, state.sharing = [], [], [], {}, 0

        self._change([place], now, decide)

    def is_due(self, state: SlotState, now: float) -> bool:
        """Return whether the leases of those who wait are to be extended, or are just being extended."""
        return state.extended <= now + self._extending

    def extend(self, place: SlotKey, now: float) -> None:
        """Extend the leases of all who wait at *place*.

        The record says so before. A message that was taken over meanwhile would get a long lease, and if its worker
        died with this one, nobody would make it short again.
        """
        extended = set[Lease]()

        def begin(states: States) -> None:
            for state in states.values():
                state.extended = now

        def decide(states: States) -> None:
            for state in states.values():
                waiting = {one.lease for one in self.waiters(state, keep=True) if one.queue}
                self._extend([*waiting])
                if gone := extended - waiting:  # they were taken over meanwhile, by a process that may die
                    self._extend([*gone], lease=self._lease)
                extended.update(waiting)
                state.extended = now + self._waits / 3

        self._change([place], now, begin)
        self._change([place], now, decide)

    # -- rounds

    def _change(
        self,
        places: Iterable[SlotKey],
        now: float,
        decide: Callable[[States], None] = lambda _: None,
        written: Callable[[set[SlotKey]], Iterable[SlotKey]] = list,
        *,
        more: int = 0,
        stale: Mapping[SlotKey, list[Waiter]] | None = None,
    ) -> int:
        """Read, decide and write until all is written; return how many got a slot because others freed it.

        Those who are *stale* wait no longer: their leases were lost.
        """
        left, gone, count, tries = set(places), dict(stale or {}), 0, _TRIES
        while left and tries:
            states = self.read(left, now)
            for place, some in gone.items():
                for waiter in some:
                    states[place].leave(waiter.id, waiter.claim)
            failed, lost, granted = self._step(states, now, decide, more=more)
            count += granted
            gone = {place: some for place, some in gone.items() if place in failed} | lost
            left = {*written(failed), *failed, *gone}
            tries -= bool(failed)
        return count

    def _step(
        self, states: States, now: float, decide: Callable[[States], None], *, more: int = 0, known: bool = False
    ) -> tuple[set[SlotKey], dict[SlotKey, list[Waiter]], int]:
        """Decide, write, and hand back those who get a slot.

        Returns:
            The keys that could not be written, those who had lost their leases by key, and how many got a slot.
        """
        decide(states)
        granted = {place: self._granted(state, now, more=more) for place, state in states.items()}
        failed = self._write(states.values(), now, known=known)
        lost = {place: self._release(granted[place]) for place in granted.keys() - failed}
        count = sum(len(granted[place]) - len(some) for place, some in lost.items())
        return failed, {place: some for place, some in lost.items() if some}, count

    def _recall(self, places: Iterable[SlotKey], now: float) -> dict[SlotKey, SlotState]:
        """Return what the records say unless others have written them: of keys all of whose holders have time left."""
        found = dict[SlotKey, SlotState]()
        for place in places:
            record = self._known.pop(place, None)
            state = None if record is None else SlotState.read(record, place, None)
            if state is not None and all(one.until > now for one in state.holders.values()):
                found[place] = state
        return found

    def _granted(self, state: SlotState, now: float, *, more: int) -> list[Waiter]:
        """Give the free slots of a key to those who wait, reading further parts of a long line."""
        until, most = now + self._lease, max(state.most, state.in_use + more)
        found = state.advance(until=until, most=most)
        while state.parts and not state.front and state.in_use < most:
            self._load(state)
            found += state.advance(until=until, most=most)
        return found

    def _load(self, state: SlotState) -> None:
        key = state.parts[0][0]
        state.load(self._backend.get([key]).get(key))

    def _adopted(self, state: SlotState, now: float, adopter: Adopter | None) -> list[Waiter]:
        """Let the first of those who wait share a free slot if this process takes them over, and return them.

        Their leases are short before the record says that they hold a slot. So nobody has to end them if this process
        dies: until then they wait in the record, and then they are delivered again.
        """
        if adopter is None or state.in_use >= state.most or state.waiting < _FEW or self.is_due(state, now):
            return []
        if not state.front and state.parts:
            self._load(state)
        elif not state.front:
            state.front, state.back = state.back, []
        first = state.front[: TOGETHER if state.most > 1 else PART]
        some = takewhile(lambda waiter: waiter.queue and waiter.id not in state.holders, first)
        found, lost = adopter.adopt(state.place, list(some), now, extended=state.extended)
        for waiter in lost:
            state.leave(waiter.id, waiter.claim)
        if found:
            state.share(found, until=now + self._lease)
        return found

    def _release(self, waiters: Sequence[Waiter]) -> list[Waiter]:
        """Have messages delivered again; return those that were already, so that their slots go to the next."""
        deliveries = [waiter.delivery for waiter in waiters if waiter.queue]
        size, lost = self._broker.limits.max_batch, set[str]()
        for start in range(0, len(deliveries), size):
            some = deliveries[start : start + size]
            lost |= {one.token for one in self._broker.settle([Release(delivery) for delivery in some])}
        return [waiter for waiter in waiters if waiter.token in lost] if lost else []

    def _extend(self, leases: Sequence[Lease], *, lease: float = 0.0) -> None:
        size = self._broker.limits.max_batch
        for start in range(0, len(leases), size):
            self._broker.extend(leases[start : start + size], lease=lease or self._waits)

    def waiters(self, state: SlotState, *, keep: bool = False) -> list[Waiter]:
        """Return all who wait, first to last; with *keep*, let the records of a long line live on."""
        keys = [key for key, _ in state.parts]
        parts = self._backend.get(keys) if keys else {}
        if parts and keep:
            self._backend.put_same([attrs.evolve(part, ttl=PART_TTL) for part in parts.values()])
        return [*state.front, *(one for key in keys for one in waiters_in(parts.get(key))), *state.back]

    def read(self, places: Iterable[SlotKey], now: float) -> dict[SlotKey, SlotState]:
        """Return what the records say: in one round trip, or two if a holder has to show a sign of life."""
        wanted = {place.record: place for place in places}
        records = self._backend.get([*wanted, *{LIMIT + place.name for place in wanted.values()}])
        states = {place: _state(place, records) for place in wanted.values()}
        overdue = [id for state in states.values() for id, one in state.holders.items() if one.until <= now]
        alive = self._alive(overdue, now) if overdue else {}
        for state in states.values():
            state.expire(now, alive)
        return states

    def _alive(self, holders: Iterable[str], now: float) -> dict[str, float]:
        """Return until when those of *holders* that show a sign of life hold their slots."""
        keys = {beat_of(id): id for id in holders}
        beats = self._backend.get([*keys])
        return {keys[key]: now + (beat.ttl or self._lease) for key, beat in beats.items()}

    def _write(self, states: Iterable[SlotState], now: float, *, known: bool) -> set[SlotKey]:
        """Write what has changed, and return the keys of which others wrote the record meanwhile.

        States that were not read, but are *known* from the last write, are compared by rank: theirs is larger by one,
        and so is that of any other write since. One in which nothing changes may be out of date, and counts as failed.
        """
        all_states = list(states)
        parts = {state.place: self._spilled(state) for state in all_states if len(state.back) >= PART}
        records = _changed(all_states, now)
        failed = self._put(records, known=known) if records else set[SlotKey]()
        if known:
            failed |= {state.place for state in all_states} - records.keys()
            self._contended |= failed
        written = [state for state in all_states if state.place not in failed]
        self._remember(written, records)
        self._drop_parts(written, [part for place, some in parts.items() if place in failed for part in some])
        return failed

    def _put(self, records: Mapping[SlotKey, Record], *, known: bool) -> set[SlotKey]:
        """Write records, and return the keys of those that were not written."""
        some = list(records.values())
        done = self._backend.put(some, condition=Condition.NEWER) if known else self._backend.put_same(some)
        return {place for place, ok in zip(records, done, strict=True) if not ok}

    def _drop_parts(self, written: Iterable[SlotState], spilled: Iterable[Record]) -> None:
        """Delete parts that came to the front and are *written* there, and those *spilled* in vain."""
        gone = [key for state in written for key in state.loaded] + [part.key for part in spilled]
        if gone:
            self._backend.delete(gone)

    def _remember(self, states: Iterable[SlotState], records: Mapping[SlotKey, Record]) -> None:
        """Remember records for the next release, but not of keys that others have written between the last two."""
        if len(self._known) >= _MOST_KNOWN or len(self._contended) >= _MOST_KNOWN:
            self._known.clear()
            self._contended.clear()
        for state in states:
            place, record = state.place, records.get(state.place)
            if record is None or not state.holders or place in self._contended:
                self._known.pop(place, None)
                self._contended.discard(place)
            else:
                self._known[place] = record

    def _spilled(self, state: SlotState) -> list[Record]:
        """Write the oldest of those at the back of a long line into records of their own."""
        parts = [state.spill(f"{LINE}{new_id()}") for _ in range(len(state.back) // PART)]
        self._backend.put(parts)
        return parts


def _need_free(held: Iterable[SlotKey]) -> None:
    """Raise an error if some slots are still held."""
    if names := sorted({place.name for place in held}):
        what = f"slots of {', '.join(names)} are not free yet: others change their records"
        raise UnavailableError(what, fix="Try again in a moment")


def _places_of(wishes: Iterable[Wish]) -> list[SlotKey]:
    return [place for wish in wishes for place in wish.places]


def _unwritten(wishes: Iterable[Wish], failed: set[SlotKey]) -> list[Wish]:
    """Mark the wishes that are done, and return those for which a record of *failed* is to be written once more."""
    for wish in wishes:
        wish.done = wish.done or wish.is_written(failed)
    return [wish for wish in wishes if failed.intersection(wish.places)]


def _changed(states: Iterable[SlotState], now: float) -> dict[SlotKey, Record]:
    """Return the records of those states that differ from what was read."""
    used = [state for state in states if state.body or state.holders or state.waiting]
    return {state.place: record for state in used if (record := state.written(now)).body != state.body}


def _decide_all(wishes: Iterable[Wish], states: States, *, until: float, extended: float) -> None:
    """Decide for each wish in turn; the leases of those who wait are due to be extended at *extended*."""
    for wish in wishes:
        _decide(wish, states, until=until)
    for state in states.values():
        state.extended = state.extended or extended


def _decide(wish: Wish, states: States, *, until: float) -> None:
    """Give *wish* all its slots, or let it wait for the first that is not free."""
    id, claim = wish.waiter.id, wish.waiter.claim
    found = [(place, states[place]) for place in wish.places]
    for _, state in found:
        state.give_up(id, claim)
    if not wish.done:
        wish.waits = next((place for place, state in found if not state.has_room(id, claim)), None)
    for place, state in found:
        if wish.waits is None:
            holder = state.holders.get(id)
            wish.granted = wish.granted or (holder is not None and holder.waiter is not None)
            state.hold(id, claim, until=until)
        elif place != wish.waits:
            state.leave(id, claim)
        elif not wish.done:
            state.wait(wish.waiter)
            state.task = wish.task


def _state(place: SlotKey, records: Mapping[str, Record]) -> SlotState:
    most = None if place.limit is None else place.limit.most
    state = SlotState.read(records.get(place.record), place, most)
    override = records.get(LIMIT + place.name)
    state.most = state.most if override is None else read_most(override, state.most)
    return state
