"""Pauses between tries: ever longer, and uneven, so that clients that failed together do not come back together."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from queuekit.timelimit import time_left

__all__ = ["pauses"]


def pauses(random: Random, *, first: float, longest: float, growth: float = 2.0) -> Iterator[float]:
    """Yield seconds to pause for, without end: about *first*, then *growth* times as many, up to about *longest*.

    Each is half as long to one and a half times as long as that, by chance; but no longer than the caller has left.
    """
    usual = first
    while True:
        yield time_left(usual * (0.5 + random.random()))
        usual = min(longest, usual * growth)
