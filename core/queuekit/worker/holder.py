"""Which of the bodies of a silent process may hold its interpreter, as far as the system tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["Activity", "activities", "may_hold"]

_COMPUTES = 3
"""Ticks of CPU between two looks from which on a thread computes. Who waits for the interpreter takes none."""
_WAITS = 20
"""Times between two looks that a thread goes to sleep by itself while it waits for the interpreter: each 5 ms."""


class Activity(NamedTuple):
    """What a thread has done so far."""

    ticks: int
    """CPU, in the system's ticks."""
    sleeps: int
    """Times that it went to sleep by itself."""


def activities(pid: int, threads: Iterable[int]) -> dict[int, Activity]:
    """Return what *threads* of a process have done; nothing where the system does not tell."""
    found: dict[int, Activity] = {}
    for thread in set(threads):
        folder = Path(f"/proc/{pid}/task/{thread}")
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
            found[thread] = Activity(int(fields[11]) + int(fields[12]), int(status["voluntary_ctxt_switches"]))
        except (OSError, LookupError, ValueError):
            continue
    return found


def may_hold(before: Mapping[int, Activity], now: Mapping[int, Activity], threads: Iterable[int]) -> set[int]:
    """Return those of *threads* that may hold the interpreter, from two looks a second apart.

    Whoever computes does; if none does, all but those that wait for it may, and those of which nothing is known.
    """
    known = {thread: (before[thread], now[thread]) for thread in threads if thread in before and thread in now}
    waiting = {thread for thread, (one, two) in known.items() if two.sleeps - one.sleeps >= _WAITS}
    computing = {thread for thread, (one, two) in known.items() if two.ticks - one.ticks >= _COMPUTES} - waiting
    return computing or set(threads) - waiting
