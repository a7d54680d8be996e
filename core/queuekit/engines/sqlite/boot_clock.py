"""The machine's boot clock, which all its processes share, and the identity of a boot.

=========  ==================================================  ===================================
system     clock                                               boot
=========  ==================================================  ===================================
Linux      ``CLOCK_BOOTTIME``, which counts while suspended    ``/proc/sys/kernel/random/boot_id``
macOS      ``CLOCK_MONOTONIC_RAW``, which counts while asleep  ``kern.bootsessionuuid``
others     ``CLOCK_MONOTONIC``                                 not known: one that runs backwards
=========  ==================================================  ===================================

A container has the clock and the boot of its machine. If it has its own time namespace, the offset that Linux reports
is subtracted. If a library fakes the time of the process, as test libraries do, the time is read from files of Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path

from queuekit.clock import Clock
from queuekit.values import frozen

__all__ = ["OF_A_TEST", "UNKNOWN", "BootClock", "boot_clock"]

UNKNOWN, OF_A_TEST = "unknown", "clock of a test"
"""Values in place of the name of a boot."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_OFFSETS = Path("/proc/self/timens_offsets")
_UPTIME, _STAT = Path("/proc/uptime"), Path("/proc/stat")
_GRAIN = 2.0
"""Seconds by which these files may differ from the clocks: they hold whole seconds, and are read a moment later."""


@frozen
class BootClock:
    """A clock that users cannot set."""

    boot: str
    """Identity of the boot; ``"unknown"`` if the system does not provide one."""
    now: Callable[[], float]
    """Returns seconds since a fixed time of that boot."""
    time: Callable[[], float]
    """Returns the machine's time of day, in UTC epoch seconds, even if this process sees a faked one."""


def boot_clock(clock: Clock) -> BootClock:
    """Return the boot clock of this machine; for a clock with its own seconds, such as a test's, one based on it."""
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
    """Return the kernel's time of day."""
    now = time.clock_gettime(time.CLOCK_REALTIME)
    started, up = _number(_STAT, "btime "), _number(_UPTIME, "")
    kernel = None if started is None or up is None else started + up
    return now if kernel is None or abs(now - kernel) <= _GRAIN else kernel


def _faked(number: int) -> float:
    """Return the seconds by which the boot clock that this process reads is ahead of the kernel's."""
    up = _number(_UPTIME, "") if hasattr(time, "CLOCK_BOOTTIME") else None
    ahead = 0.0 if up is None else time.clock_gettime(number) - up
    return ahead if abs(ahead) > _GRAIN else 0.0


def _number(path: Path, start: str) -> float | None:
    """Return the first number of the line that begins with *start*, or ``None``."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        return next((float(line.removeprefix(start).split()[0]) for line in lines if line.startswith(start)), None)
    except (OSError, ValueError, IndexError):
        return None


def _clock() -> int:
    """Return the number of the clock that keeps running while the machine sleeps."""
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
    """Return a kernel value as text, or an empty string."""
    buffer = ctypes.create_string_buffer(128)
    size = ctypes.c_size_t(len(buffer))
    with contextlib.suppress(OSError, AttributeError, UnicodeDecodeError):
        if ctypes.CDLL(None).sysctlbyname(name, buffer, ctypes.byref(size), None, 0) == 0:
            return buffer.value.decode("ascii").strip()
    return ""


def _moved() -> float:
    """Return the seconds by which the boot clock of this time namespace is ahead of the machine's."""
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
