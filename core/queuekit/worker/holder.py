"""Find the bodies of a silent process that may hold its interpreter, as far as the system reports it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["Activity", "activities", "may_hold"]

_COMPUTES = 3
"""CPU ticks between two samples from which on a thread is computing. One that waits for the interpreter uses none."""
_WAITS = 20
"""Voluntary context switches between two samples of a thread that waits for the interpreter: one every 5 ms."""


class Activity(NamedTuple):
    """The activity of a thread so far."""

    ticks: int
    """CPU time in system ticks."""
    sleeps: int
    """Voluntary context switches."""


def activities(pid: int, threads: Iterable[int]) -> dict[int, Activity]:
    """Return the activity of *threads* of a process; empty if the system does not report it."""
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
    """Return those of *threads* that may hold the interpreter, from two samples one second apart.

    Computing threads hold it. If none computes, all threads may, except those known to wait for it.
    """
    known = {thread: (before[thread], now[thread]) for thread in threads if thread in before and thread in now}
    waiting = {thread for thread, (one, two) in known.items() if two.sleeps - one.sleeps >= _WAITS}
    computing = {thread for thread, (one, two) in known.items() if two.ticks - one.ticks >= _COMPUTES} - waiting
    return computing or set(threads) - waiting
