"""Slots of one key of a concurrency limit: who holds one, and who waits for one. Data, and the steps that change it.

One record holds both, so that each step is one comparison: a message that finds no free slot waits before any holder
can release one unseen. A slot is an entry with a holder and an end, never a counter, so it frees itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import attrs

from queuekit.backend import Record
from queuekit.broker import Delivery, Lease
from queuekit.envelope import Envelope
from queuekit.errors import OptionError
from queuekit.limits import Concurrency, digest
from queuekit.values import define, frozen
from queuekit.wire.fields import is_count, is_moment

__all__ = [
    "BEAT",
    "LINE",
    "SLOTS",
    "Claim",
    "Holder",
    "SlotKey",
    "SlotState",
    "Waiter",
    "beat_of",
    "claim_of",
    "place_in",
    "read_most",
    "waiters_in",
]

SLOTS, LINE, BEAT = "slots:", "line:", "beat:"
"""Prefixes of the records of slots: who holds and who waits, parts of a long line, and signs of life of holders."""
PART = 50
"""Waiters in a record of their own. Longer, each step would read and write more; shorter, there are more records."""
PART_TTL = 86_400.0
"""Seconds for which a record is kept unless someone looks at it."""
_FREED = 1.0
"""Seconds for which the record of a key is kept that nobody uses."""


Claim = tuple[int, int, int, int]
"""Which claim of a message it is: generation, attempt, re-delay and number. Grows; some engines count numbers anew."""

_counters = attrgetter("generation", "attempt", "hop")
_claim_of = attrgetter("claim")


def claim_of(delivery: Delivery) -> Claim:
    """Return which claim of its message a delivery is."""
    generation, attempt, step = _counters(delivery.envelope)
    return generation, attempt, step, delivery.number


class Waiter(NamedTuple):
    """A message, or a block, that waits for a slot; a message does so under its lease."""

    queue: str
    """Queue of the message; empty for a block."""
    id: str
    token: str
    number: int
    generation: int = 0
    attempt: int = 0
    step: int = 0

    @property
    def claim(self) -> Claim:
        """Which claim of the message it is."""
        return self.generation, self.attempt, self.step, self.number

    @property
    def lease(self) -> Lease:
        """The lease under which it waits."""
        return Lease(self.queue, self.id, self.token, self.number)

    @property
    def delivery(self) -> Delivery:
        """The delivery, as far as a release needs it."""
        generation, attempt = self.generation, self.attempt
        envelope = Envelope(id=self.id, queue=self.queue, body=b"", generation=generation, attempt=attempt)
        return Delivery(envelope=envelope, token=self.token, number=self.number)

    @classmethod
    def of(cls, delivery: Delivery) -> Waiter:
        """Return the waiter of a delivery."""
        generation, attempt, step, number = claim_of(delivery)
        return cls(delivery.queue, delivery.id, delivery.token, number, generation, attempt, step)


@frozen
class Holder:
    """Who holds a slot.

    Attributes:
        claim: Which claim of the message it is.
        until: When the slot is free unless the holder shows a sign of life, in UTC epoch seconds.
        waiter: The message, if it has been handed back to its queue for this slot and not arrived at a worker yet.
        slot: The same text for messages that one worker runs one after the other in one slot; else empty.
    """

    claim: Claim
    until: float
    waiter: Waiter | None = None
    slot: str = ""

    @property
    def row(self) -> list[object]:
        """What the record says of it."""
        return [self.claim, self.until, self.waiter, *([self.slot] if self.slot else ())]


@frozen
class SlotKey:
    """One key of one concurrency limit; *limit* is ``None`` if only its records are known."""

    name: str
    key: str
    limit: Concurrency | None = attrs.field(default=None, eq=False)

    @property
    def record(self) -> str:
        """Key of its record."""
        return f"{SLOTS}{self.name}:{digest(self.key)}"


def beat_of(id: str) -> str:
    """Return the key of the record that shows that the holder *id* is alive."""
    return BEAT + id


@define
class SlotState:
    """What a record says."""

    place: SlotKey
    most: int
    version: int = 0
    rank: int = 0
    """Grows with each write. Who has written the record knows its rank, and so can replace it without reading it."""
    holders: dict[str, Holder] = attrs.field(factory=dict[str, Holder])
    front: list[Waiter] = attrs.field(factory=list[Waiter])
    """Who waits, first to last: these, then those in *parts*, then those in *back*."""
    parts: list[tuple[str, int]] = attrs.field(factory=list[tuple[str, int]])
    """Records with more who wait, each with their number."""
    back: list[Waiter] = attrs.field(factory=list[Waiter])
    extended: float = 0.0
    """When the leases of those who wait are to be extended, in UTC epoch seconds."""
    task: str = ""
    """Name of the task whose message waited last."""
    body: bytes = b""
    """The record as it was read."""
    loaded: list[str] = attrs.field(factory=list[str])
    """Keys of the parts that came to the front since."""
    sharing: int = 0
    """How many holders have no slot of their own, but the one of another holder."""

    @property
    def in_use(self) -> int:
        """How many slots are held."""
        return len(self.holders) - self.sharing

    def first_holders(self) -> list[str]:
        """Return one holder of each slot."""
        return list({one.slot or id: id for id, one in reversed(self.holders.items())}.values())[::-1]

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self.front) + sum(count for _, count in self.parts) + len(self.back)

    def has_room(self, id: str, claim: Claim) -> bool:
        """Return whether a delivery may run: it holds a slot already, or one is free and nobody waits for it."""
        holder = self.holders.get(id)
        if holder is not None:
            return holder.claim <= claim
        return self.in_use < self.most and not self.waiting

    def give_up(self, id: str, claim: Claim) -> None:
        """Take a message that is delivered again out of a slot that others share.

        They may run in the worker that has lost this one, so it cannot have their slot.
        """
        holder = self.holders.get(id)
        if holder is not None and holder.claim <= claim and self._is_shared(holder.slot):
            self._remove(id)

    def hold(self, id: str, claim: Claim, *, until: float) -> None:
        """Let a delivery have a slot, or take over that of an earlier delivery of the same message."""
        self.holders[id] = Holder(claim, until)

    def wait(self, waiter: Waiter) -> None:
        """Let *waiter* wait behind the others, in the place of an earlier delivery if that waits nearby.

        A worker that stood still may ask for a delivery that it has lost, so the later one of a message stays; where an
        engine has counted both alike, that is the one that asks now.
        """
        for some in (self.front, self.back):
            for index, one in enumerate(some):
                if one.id == waiter.id:
                    some[index] = max(waiter, one, key=_claim_of)
                    return
        self.back.append(waiter)

    def leave(self, id: str, claim: Claim) -> None:
        """Free the slot of a delivery, or let it wait no longer; a later delivery of the message is not affected."""
        holder = self.holders.get(id)
        if holder is not None and (holder.claim == claim or (holder.waiter is not None and holder.claim < claim)):
            self._remove(id)
        for some in (self.front, self.back):
            some[:] = [one for one in some if one.id != id or one.claim != claim]

    def expire(self, now: float, alive: Mapping[str, float]) -> None:
        """Free the slots whose time is over. A message that never arrived for its slot waits again, first.

        Args:
            now: The time.
            alive: Until when those who show a sign of life hold their slots.
        """
        for id, holder in list(self.holders.items()):
            if id in alive:
                self.holders[id] = attrs.evolve(holder, until=alive[id])
            elif holder.until <= now:
                self._remove(id)
                if holder.waiter is not None:
                    self.front.insert(0, holder.waiter)

    def advance(self, *, until: float, most: int) -> list[Waiter]:
        """Let those who wait hold slots, *most* with the holders, and return them.

        This ends early if the next are in a part.
        """
        found: list[Waiter] = []
        while self.in_use < most and self.waiting:
            if not self.front and not self.parts:
                self.front, self.back = self.back, []
            if not self.front:
                break
            waiter = self.front.pop(0)
            holder = self.holders.get(waiter.id)
            if holder is None or holder.claim < waiter.claim:
                if holder is not None:
                    self._remove(waiter.id)
                self.holders[waiter.id] = Holder(waiter.claim, until, waiter if waiter.queue else None)
                found.append(waiter)
        return found

    def share(self, waiters: Sequence[Waiter], *, until: float) -> None:
        """Let *waiters*, who are at the front and hold no slot, hold one together."""
        gone, slot = {waiter.token for waiter in waiters}, waiters[0].token if len(waiters) > 1 else ""
        self.front = [one for one in self.front if one.token not in gone]
        self.holders |= {waiter.id: Holder(waiter.claim, until, slot=slot) for waiter in waiters}
        self.sharing += len(waiters) - 1

    def _is_shared(self, slot: str) -> bool:
        return bool(slot) and sum(one.slot == slot for one in self.holders.values()) > 1

    def _remove(self, id: str) -> None:
        self.sharing -= self._is_shared(self.holders[id].slot)
        del self.holders[id]

    def load(self, part: Record | None) -> None:
        """Let the first part come to the front; without its record its waiters are lost until their leases end."""
        self.loaded.append(self.parts.pop(0)[0])
        self.front = waiters_in(part)

    def spill(self, key: str) -> Record:
        """Return a record with the oldest of those at the back, who wait in that part from now on."""
        some, self.back = self.back[:PART], self.back[PART:]
        self.parts.append((key, len(some)))
        return Record(key=key, body=_dumped(some), ttl=PART_TTL)

    def written(self, now: float = 0.0) -> Record:
        """Return the record; one without holders and waiters expires soon.

        Its rank is larger by one, and that of a new record larger than any that the key had before *now*.
        """
        data: dict[str, Any] = {"name": self.place.name, "key": self.place.key, "most": self.most, "task": self.task}
        data["hold"] = {id: one.row for id, one in self.holders.items()}
        data |= {"front": self.front, "parts": self.parts, "back": self.back, "extended": self.extended}
        ttl = PART_TTL if self.holders or self.waiting else _FREED
        rank = (self.rank or int(now * 1e6)) + 1
        return Record(key=self.place.record, body=_dumped(data), ttl=ttl, version=self.version, rank=rank)

    @classmethod
    def read(cls, record: Record | None, place: SlotKey, most: int | None) -> SlotState:
        """Return what *record* says; what cannot be read holds nothing.

        Args:
            record: As it was read.
            place: Which one it is.
            most: Slots; default: as many as the record says.
        """
        data = {} if record is None else _parsed(record.body)
        version, rank, body = (0, 0, b"") if record is None else (record.version, record.rank, record.body)
        try:
            state = _state(data if isinstance(data, dict) else {}, place)
        except (ValueError, TypeError, KeyError, AttributeError):
            state = cls(place, 1)
        most = state.most if most is None else most
        return attrs.evolve(state, version=version, rank=rank, body=body, most=most)


def place_in(record: Record) -> SlotKey | None:
    """Return which key of which limit *record* is about; ``None`` if it cannot be read."""
    data = _parsed(record.body)
    names = (data.get("name"), data.get("key")) if isinstance(data, dict) else (None, None)
    name, key = names
    return SlotKey(name, key) if isinstance(name, str) and isinstance(key, str) else None


def read_most(record: Record, most: int) -> int:
    """Return the number that an operator has set; *most* if *record* has none."""
    data = _parsed(record.body)
    try:
        return Concurrency(int(data["limit"])).most
    except (ValueError, TypeError, KeyError, OverflowError, OptionError):
        return most


def _state(data: dict[str, Any], place: SlotKey) -> SlotState:
    holders = {
        str(id): Holder(
            _claim(*claim), _moment(until), None if waiter is None else _waiters([waiter])[0], "".join(slot)
        )
        for id, (claim, until, waiter, *slot) in data.get("hold", {}).items()
    }
    shared = [one.slot for one in holders.values() if one.slot]
    return SlotState(
        place,
        max(1, _counts(data.get("most", 1))[0]),
        holders=holders,
        front=_waiters(data.get("front", ())),
        parts=[(str(key), _counts(count)[0]) for key, count in data.get("parts", ())],
        back=_waiters(data.get("back", ())),
        extended=_moment(data.get("extended", 0.0)),
        task=str(data.get("task", "")),
        sharing=len(shared) - len(set(shared)),
    )


def _moment(value: Any) -> float:
    if not is_moment(value):
        raise ValueError("not a time")
    return float(value)


def _counts(*values: Any) -> tuple[int, ...]:
    if not all(map(is_count, values)):
        raise ValueError("not counts")
    return values


def _claim(generation: int, attempt: int, step: int, number: int) -> Claim:
    _counts(generation, attempt, step, number)
    return generation, attempt, step, number


_KINDS = (str, str, str, int, int, int, int)
"""Types of what a record says of a waiter."""


def _waiters(rows: Iterable[Any]) -> list[Waiter]:
    found = list(map(Waiter._make, rows))
    # By column, since a line of a hundred is read at each step: a call for each value would take three times as long.
    for kind, column in zip(_KINDS, zip(*found, strict=True), strict=False):
        if {*map(type, column)} != {kind} or (kind is int and not (is_count(min(column)) and is_count(max(column)))):
            raise ValueError("not waiters")
    return found


def waiters_in(part: Record | None) -> list[Waiter]:
    """Return who waits in a part of a line; nobody if its record is gone."""
    data = [] if part is None else _parsed(part.body)
    try:
        return _waiters(data)
    except (ValueError, TypeError):
        return []


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return {}


def _dumped(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()
