"""Rate limits: one record for each limit and key, which holds the time of the next start that is not reserved.

This is the generic cell rate algorithm with reservations. A batch of messages is one write, and each message that may
not start now gets a time of its own, so no two come back at the same time and none comes back twice.

Source:
    ITU-T I.371, generic cell rate algorithm (virtual scheduling).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

import attrs

from queuekit.backend import Backend, Record
from queuekit.envelope import Envelope
from queuekit.errors import DecodeError, OptionError, did_you_mean
from queuekit.limits import Limit, Rate, digest
from queuekit.values import frozen, quickly
from queuekit.wire.fields import checked, is_count, is_moment, is_text, or_none, read_object

__all__ = [
    "LIMIT",
    "RATE",
    "RESERVED",
    "SLOW",
    "LimitKey",
    "Rates",
    "Standing",
    "cannot_slow",
    "has_turn",
    "number_in",
    "read_override",
    "slowed",
    "starts",
    "with_turn",
]

RATE, SLOW, LIMIT = "rate:", "slow:", "limit:"
"""Prefixes of the records of limits: their next starts, until when they are slowed down, and numbers set by people."""
RESERVED = 500_000
"""Hops from which on a message has a time of its own, which is its ``not_before``. Engines keep a million of them."""
_TRIES = 20
"""Attempts to reserve while others reserve at the same time; each failure is the success of another."""
_SPARE = 1.0
"""Seconds for which a record outlives its use."""


@frozen
class LimitKey:
    """One key of one limit."""

    name: str
    key: str
    rate: Rate

    def __hash__(self) -> int:
        return hash((self.name, self.key))

    @property
    def records(self) -> tuple[str, str, str]:
        """Keys of its records: next start, slowed down, numbers."""
        return _records(self.name, self.key)


@lru_cache(maxsize=1_000)
def _records(name: str, key: str) -> tuple[str, str, str]:
    place = f"{name}:{digest(key)}"
    return RATE + place, SLOW + place, LIMIT + name


@frozen
class Standing:
    """What the records say about a place."""

    version: int
    until: float
    """Until when it is slowed down; 0 if it is not."""
    rate: Rate
    reserved: Record | None = None
    """Holds the earliest start that is not reserved."""

    @property
    def next_start(self) -> float:
        """Earliest start at which nothing holds a message back, in UTC epoch seconds; may have passed."""
        return max(self.until, 0.0 if self.reserved is None else number_in(self.reserved, "next"))


_envelope = quickly(Envelope)


def has_turn(envelope: Envelope) -> bool:
    """Return whether a message has waited, or waits, for a time of its own, which is its ``not_before``."""
    return envelope.hop >= RESERVED


def with_turn(envelope: Envelope, turn: float, delay: float) -> Envelope:
    """Return *envelope* with *turn* as its own time, in UTC epoch seconds; *delay* as for any envelope."""
    return _envelope(  # ``attrs.evolve`` takes five times as long
        id=envelope.id,
        queue=envelope.queue,
        body=envelope.body,
        priority=envelope.priority,
        delay=delay,
        not_before=turn,
        expires=envelope.expires,
        attempt=envelope.attempt,
        generation=envelope.generation,
        hop=envelope.hop % RESERVED + RESERVED + 1,
        unique=envelope.unique,
        lane=envelope.lane,
    )


def starts(rate: Rate, count: int, *, next_start: float, now: float) -> tuple[list[float], float]:
    """Return when *count* messages that are here *now* may start, and the next start after them."""
    base = max(next_start, now)
    early = (rate.burst - 1) * rate.every
    found = [max(now, base + number * rate.every - early) for number in range(count)]
    return found, base + count * rate.every


class Rates:
    """Reserves starts.

    Args:
        backend: Stores the records.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def reserve(
        self, places: Iterable[LimitKey], now: float, count: Callable[[LimitKey, Standing], int]
    ) -> dict[LimitKey, list[float]]:
        """Reserve starts at each of *places*, and return them, in UTC epoch seconds.

        One round trip reads, one writes; both are repeated for places at which others reserve at the same time.

        Args:
            places: Where to reserve.
            now: The time.
            count: Returns how many starts to reserve at a place.

        Returns:
            The starts, in order; a place at which the attempts were in vain is left out.
        """
        left, found = list(dict.fromkeys(places)), dict[LimitKey, list[float]]()
        for _ in range(_TRIES):
            if not left:
                break
            read = self.read(left)
            wanted = {place: count(place, read[place]) for place in left}
            found |= {place: [] for place, number in wanted.items() if not number}
            left = self._take([place for place in left if wanted[place]], read, wanted, now, found)
        return found

    def _take(
        self,
        places: Sequence[LimitKey],
        read: Mapping[LimitKey, Standing],
        wanted: Mapping[LimitKey, int],
        now: float,
        found: dict[LimitKey, list[float]],
    ) -> list[LimitKey]:
        """Write the reservations, add those that were written to *found*, and return the other places."""
        if not places:
            return []
        taken, records = [], []
        for place in places:
            standing = read[place]
            times, following = starts(standing.rate, wanted[place], next_start=standing.next_start, now=now)
            taken.append(times)
            records.append(_record(place, following, version=standing.version, now=now))
        written = self._backend.put_same(records)
        found |= {place: times for place, times, done in zip(places, taken, written, strict=True) if done}
        return [place for place, done in zip(places, written, strict=True) if not done]

    def are_slowed(self, places: Iterable[LimitKey], now: float) -> bool:
        """Return whether a task has slowed one of *places* down until later than *now*; one round trip."""
        found = self._backend.get([place.records[1] for place in places])
        return any(number_in(record, "until") > now for record in found.values())

    def read(self, places: Sequence[LimitKey]) -> dict[LimitKey, Standing]:
        """Return what the records say about *places*, in one round trip."""
        records = self._backend.get(list(dict.fromkeys(key for place in places for key in place.records)))
        return {place: _standing(place, records) for place in places}


def _record(place: LimitKey, following: float, *, version: int, now: float) -> Record:
    body = json.dumps({"name": place.name, "key": place.key, "next": following}).encode()
    return Record(key=place.records[0], body=body, ttl=max(0.0, following - now) + _SPARE, version=version)


def _standing(place: LimitKey, records: Mapping[str, Record]) -> Standing:
    rate, slow, limit = (records.get(key) for key in place.records)
    return Standing(
        version=0 if rate is None else rate.version,
        until=0.0 if slow is None else number_in(slow, "until"),
        rate=place.rate if limit is None else read_override(limit, place.rate),
        reserved=rate,
    )


def number_in(record: Record, name: str) -> float:
    """Return a time in the body of *record*, in UTC epoch seconds; 0 if it cannot be read."""
    try:
        return float(checked(read_object(record.body), {name: is_moment})[name])
    except (DecodeError, KeyError):
        return 0.0


def read_override(record: Record, rate: Rate) -> Rate:
    """Return *rate* with the numbers that *record* holds; *rate* itself if they cannot be read."""
    try:
        data = checked(read_object(record.body), {"limit": is_text, "burst": or_none(is_count)})
        return attrs.evolve(rate, limit=data["limit"], burst=data.get("burst") or rate.burst)
    except (DecodeError, KeyError, OptionError):
        return rate


def cannot_slow(name: str, declared: Mapping[str, Limit]) -> str:
    """Return why a task cannot slow down the limit *name*, by those that tasks declare; ``""`` if it perhaps can."""
    found = declared.get(name)
    if isinstance(found, Rate):
        return ""
    if found is not None:
        return f"{name!r} is a concurrency limit, and only a rate can be slowed down"
    near = did_you_mean(name, (each for each, limit in declared.items() if isinstance(limit, Rate)))
    return f"no task declares the limit {name!r}; {near}" if near else ""


def slowed(name: str, key: str, *, until: float, seconds: float) -> Record:
    """Return the record that lets nothing start before *until*; write it if it is newer."""
    body = json.dumps({"name": name, "key": key, "until": until}).encode()
    return Record(key=f"{SLOW}{name}:{digest(key)}", body=body, ttl=seconds + _SPARE, rank=int(until * 1000))
