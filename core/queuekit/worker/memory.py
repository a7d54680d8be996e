"""What the system says about the memory of processes."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

__all__ = ["in_bytes", "out_of_memory_kills", "own_memory", "resident_bytes"]

_GB = 1e9


def resident_bytes(pid: int | str = "self") -> int | None:
    """Return the bytes of memory that a process occupies; ``None`` if the system does not report them."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def out_of_memory_kills() -> int:
    """Return how many processes the system has killed because it ran out of memory; 0 if it does not report that."""
    try:
        rows = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
        return next((int(row.split()[1]) for row in rows if row.startswith("oom_kill ")), 0)
    except (OSError, ValueError, IndexError):
        return 0


def in_bytes(count: int) -> str:
    """Return a number of bytes as text, e.g. ``1.9 GB``."""
    return f"{count / _GB:.1f} GB" if count >= _GB else f"{count / 1e6:.0f} MB"


def own_memory() -> int:
    """Return the bytes of memory that this process occupies; where the system does not say, the most that it did."""
    now = resident_bytes()
    if now is not None:
        return now
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
