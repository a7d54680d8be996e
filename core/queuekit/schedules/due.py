"""Decide which ticks of a schedule to send now, as pure functions of times and policy; and the id of each tick."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from itertools import islice, takewhile
from typing import Literal

from queuekit.schedules.triggers import When
from queuekit.values import frozen

__all__ = ["MISFIRES", "OVERLAPS", "Due", "Misfire", "Overlap", "due", "tick_id"]

Misfire = Literal["skip", "once", "all"]
"""What to send of ticks that no scheduler sent in time: nothing, the last one, or all of them."""
Overlap = Literal["allow", "skip"]
"""Whether to send or to skip a tick while the call of an earlier one has not ended."""
MISFIRES: tuple[Misfire, ...] = ("skip", "once", "all")
OVERLAPS: tuple[Overlap, ...] = ("allow", "skip")
MOST = 100
"""Most ticks of one schedule to send at a time."""


@frozen(kw_only=True)
class Due:
    """What to do for a schedule now. Times are UTC epoch seconds."""

    send: tuple[float, ...] = ()
    """Ticks to send, in order."""
    missed: int = 0
    """Number of ticks that are never sent."""
    first: float | None = None
    """The first tick that is not handled yet; ``None`` if no tick is due."""
    upto: float | None = None
    """The last tick that is then handled."""


def due(when: When, *, after: float, now: float, misfire: Misfire, grace: float) -> Due:
    """Return what to do for the ticks after *after* and up to *now*.

    If the first of them is at most *grace* late, all are sent, so that a change of leader loses none. Otherwise they
    were missed, and *misfire* decides; ``skip`` still sends the last tick if that is at most *grace* late.

    Args:
        when: The trigger.
        after: The last tick that was handled.
        now: The current time.
        misfire: The policy.
        grace: Seconds by which a tick may be late before it counts as missed.
    """
    first = when.next_after(after)
    if first is None or first > now:
        return Due()
    if misfire == "all" or now - first <= grace:
        some = tuple(takewhile(lambda tick: tick <= now, islice(when.ticks(after), MOST)))
        return Due(send=some, first=first, upto=some[-1])
    latest = when.latest(after, now)
    assert latest is not None  # noqa: S101 - the first tick is due
    send = (latest,) if misfire == "once" or now - latest <= grace else ()
    return Due(send=send, missed=when.count(after, latest) - len(send), first=first, upto=latest)


@lru_cache(maxsize=1_000)
def tick_id(name: str, tick: float) -> str:
    """Return the id of the call that schedule *name* sends at *tick*. Every scheduler gets the same; ids sort by time.

    It has the form of a UUIDv7 whose random bits are a hash of name and time.
    """
    milliseconds = round(tick * 1000)
    digest = int.from_bytes(hashlib.sha256(f"{name}/{milliseconds}".encode()).digest()[:10], "big")
    head = (milliseconds & 0xFFFFFFFFFFFF) << 16 | 0x7000 | digest >> 68
    tail = (digest & 0x3FFFFFFFFFFFFFFF) | 0x8000000000000000
    text = f"{head:016x}{tail:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
