"""Which ticks of a schedule are to be sent now: pure decisions of times and policy, and the id of each tick."""

from __future__ import annotations

import hashlib
from itertools import islice, takewhile
from typing import Literal

import attrs

from queuekit.schedules.triggers import When

__all__ = ["MISFIRES", "OVERLAPS", "Due", "Misfire", "Overlap", "due", "tick_id"]

Misfire = Literal["skip", "once", "all"]
"""What becomes of ticks for which nobody was there: none is sent, the last of them is, or all are."""
Overlap = Literal["allow", "skip"]
"""What becomes of a tick while the call of an earlier one has not ended: it is sent, or left out."""
MISFIRES: tuple[Misfire, ...] = ("skip", "once", "all")
OVERLAPS: tuple[Overlap, ...] = ("allow", "skip")
MOST = 100
"""Ticks of one schedule that are sent at a time."""


@attrs.frozen(kw_only=True)
class Due:
    """What is to be done about a schedule now. Times are UTC epoch seconds."""

    send: tuple[float, ...] = ()
    """Ticks to send, in order."""
    missed: int = 0
    """Ticks that are left out for good."""
    first: float | None = None
    """The first tick that is not dealt with yet; ``None`` if there is none up to now."""
    upto: float | None = None
    """The last tick that is dealt with after that."""


def due(when: When, *, after: float, now: float, misfire: Misfire, grace: float) -> Due:
    """Return what is to be done about the ticks after *after* and up to *now*.

    As long as the first of them is not later than *grace*, all are sent: so a change of leader loses none. Otherwise
    nobody was there, and *misfire* decides; ``skip`` still sends the last tick if that is not later than *grace*.

    Args:
        when: The moments.
        after: The last tick that was dealt with.
        now: The time.
        misfire: The policy.
        grace: Seconds that a tick may be late without having been missed.
    """
    first = when.next_after(after)
    if first is None or first > now:
        return Due()
    if misfire == "all" or now - first <= grace:
        some = tuple(takewhile(lambda tick: tick <= now, islice(when.ticks(after), MOST)))
        return Due(send=some, first=first, upto=some[-1])
    latest = when.latest(after, now)
    assert latest is not None  # noqa: S101 - there is at least the first
    send = (latest,) if misfire == "once" or now - latest <= grace else ()
    return Due(send=send, missed=when.count(after, latest) - len(send), first=first, upto=latest)


def tick_id(name: str, tick: float) -> str:
    """Return the id of what schedule *name* sends at *tick*: the same for whoever sends it, and sorting by time.

    It has the form of a UUIDv7 whose random bits are a hash of name and time.
    """
    milliseconds = round(tick * 1000)
    digest = int.from_bytes(hashlib.sha256(f"{name}/{milliseconds}".encode()).digest()[:10], "big")
    head = (milliseconds & 0xFFFFFFFFFFFF) << 16 | 0x7000 | digest >> 68
    tail = (digest & 0x3FFFFFFFFFFFFFFF) | 0x8000000000000000
    text = f"{head:016x}{tail:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
