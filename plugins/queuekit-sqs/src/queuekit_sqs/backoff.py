"""Pauses between tries: they grow and have jitter, so that clients that failed together do not retry together."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from queuekit.timelimit import time_left

__all__ = ["pauses"]


def pauses(random: Random, *, first: float, longest: float, growth: float = 2.0) -> Iterator[float]:
    """Yield pauses in seconds, without end: about *first*, then *growth* times as long, up to about *longest*.

    Each varies at random between half and one and a half times that, within the time limit of the caller.
    """
    usual = first
    while True:
        yield time_left(usual * (0.5 + random.random()))
        usual = min(longest, usual * growth)
