"""The machine's boot clock, which all its processes share, and the identity of a boot.

=========  ==================================================  ===================================
system     clock                                               boot
=========  ==================================================  ===================================
Linux      ``CLOCK_BOOTTIME``, which counts while suspended    ``/proc/sys/kernel/random/boot_id``
macOS      ``CLOCK_MONOTONIC_RAW``, which counts while asleep  ``kern.bootsessionuuid``
others     ``CLOCK_MONOTONIC``                                 not known: one that runs backwards
=========  ==================================================  ===================================

A container has the clock and the boot of its machine. Where it was given a time namespace of its own, Linux reports
by how much its clock was moved, and that is subtracted. Where a library gives a process another time than the kernel
has, as libraries for tests do, the time is read from files of Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from queuekit.clock import Clock

__all__ = ["OF_A_TEST", "UNKNOWN", "BootClock", "boot_clock"]

UNKNOWN, OF_A_TEST = "unknown", "clock of a test"
"""What stands in place of the name of a boot."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_OFFSETS = Path("/proc/self/timens_offsets")
_UPTIME, _STAT = Path("/proc/uptime"), Path("/proc/stat")
_GRAIN = 2.0
"""Seconds by which these two may differ from the clocks: they have whole seconds, and are read a moment later."""


@attrs.frozen
class BootClock:
    """A clock that no user can set."""

    boot: str
    """Names the boot; ``"unknown"`` where the system does not identify boots."""
    now: Callable[[], float]
    """Returns seconds since some moment of that boot."""
    time: Callable[[], float]
    """Returns the time of day of the machine, in UTC epoch seconds, whatever this process takes for it."""


def boot_clock(clock: Clock) -> BootClock:
    """Return the boot clock of this machine; for a clock that goes by other seconds, as a test's does, its own."""
    if abs(clock.monotonic() - time.monotonic()) > _GRAIN:
        return BootClock(OF_A_TEST, clock.monotonic, clock.time)
    return _machine()


@functools.cache
def _machine() -> BootClock:
    if not hasattr(time, "clock_gettime"):
        return BootClock(UNKNOWN, time.monotonic, time.time)
    number = _clock()
    moved = _moved() + _faked(number)
    if not moved:
        return BootClock(_boot(), functools.partial(time.clock_gettime, number), _time)
    return BootClock(_boot(), lambda: time.clock_gettime(number) - moved, _time)


def _time() -> float:
    """Return the time of day as the kernel has it."""
    now = time.clock_gettime(time.CLOCK_REALTIME)
    started, up = _number(_STAT, "btime "), _number(_UPTIME, "")
    kernel = None if started is None or up is None else started + up
    return now if kernel is None or abs(now - kernel) <= _GRAIN else kernel


def _faked(number: int) -> float:
    """Return by how many seconds the boot clock that this process reads is ahead of the kernel's."""
    up = _number(_UPTIME, "") if hasattr(time, "CLOCK_BOOTTIME") else None
    ahead = 0.0 if up is None else time.clock_gettime(number) - up
    return ahead if abs(ahead) > _GRAIN else 0.0


def _number(path: Path, start: str) -> float | None:
    """Return the first number of the line that begins with *start*; ``None`` where there is none."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        return next((float(line.removeprefix(start).split()[0]) for line in lines if line.startswith(start)), None)
    except (OSError, ValueError, IndexError):
        return None


def _clock() -> int:
    """Return the number of the clock that counts on while the machine sleeps."""
    if sys.platform == "darwin":
        return time.CLOCK_MONOTONIC_RAW
    found: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return found


def _boot() -> str:
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text(encoding="ascii").strip() or UNKNOWN
    if sys.platform == "darwin":
        return _sysctl(b"kern.bootsessionuuid") or UNKNOWN
    return UNKNOWN


def _sysctl(name: bytes) -> str:
    """Return a value of the kernel's as text, or nothing."""
    buffer = ctypes.create_string_buffer(128)
    size = ctypes.c_size_t(len(buffer))
    with contextlib.suppress(OSError, AttributeError, UnicodeDecodeError):
        if ctypes.CDLL(None).sysctlbyname(name, buffer, ctypes.byref(size), None, 0) == 0:
            return buffer.value.decode("ascii").strip()
    return ""


def _moved() -> float:
    """Return by how many seconds the boot clock of this time namespace is ahead of the machine's."""
    try:
        lines = _OFFSETS.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return 0.0
    for line in lines:
        parts = line.split()
        if len(parts) == 3 and parts[0] == "boottime":  # noqa: PLR2004 - name, seconds, nanoseconds
            with contextlib.suppress(ValueError):
                return int(parts[1]) + int(parts[2]) / 1e9
    return 0.0
