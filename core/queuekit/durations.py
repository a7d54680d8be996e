"""Durations as people write them, to and from seconds: ``90``, ``"1h30m"``, ``"500ms"``."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Annotated

from queuekit.errors import QueuekitError

__all__ = ["EXAMPLES", "LONGEST", "DurationError", "Seconds", "format", "parse"]

Seconds = Annotated[float, "duration"]
"""Type of a setting that holds seconds and may be written as a duration."""

EXAMPLES = 'a duration such as 90, "1h30m" or "500ms"'
"""The expected form, for error messages."""

LONGEST = 1e11
"""Seconds, about 3,000 years: a longer duration is a mistake, and engines cannot represent it."""

_UNITS = {"w": 604_800.0, "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NUMBER = r"\d+(?:\.\d+)?"
_PLAIN = re.compile(_NUMBER, re.ASCII)
# Each unit at most once, largest first: "30m1h" and "5m5m" are ambiguous, so they are errors.
_WRITTEN = re.compile("".join(rf"(?:(?P<{unit}>{_NUMBER}){unit}\s*)?" for unit in _UNITS), re.ASCII)


class DurationError(QueuekitError, ValueError):
    """A value is not a valid duration: neither seconds nor text with units, negative, or infinite."""

    code = "QK212"


def parse(value: float | str | timedelta) -> float:
    """Return *value* in seconds.

    Args:
        value: Seconds as a number or as text, text with units (``w d h m s ms``, largest first, each once, e.g.
            ``"1h30m"``, ``"1.5s"``, ``"2d 12h"``), or a ``timedelta``.

    Raises:
        DurationError: It is none of these, negative, above ``LONGEST``, or NaN.
    """
    seconds = _seconds(value)
    if seconds is None or not 0 <= seconds <= LONGEST:
        raise DurationError(f"expected {EXAMPLES}, got {_shown(value)}")
    return seconds


def format(seconds: float) -> str:  # noqa: A001 - read as durations.format
    """Return *seconds* as text that :func:`parse` reads, to the millisecond: ``"1h30m"``, ``"1.5s"``, ``"500ms"``.

    Below one second it keeps four digits. A negative number, such as an age measured by another clock, keeps its sign.
    """
    if not math.isfinite(seconds):
        return str(seconds)
    if seconds < 0:
        return f"-{format(-seconds)}"
    if 0 < seconds < 0.9995:  # noqa: PLR2004 - from 0.9995 on it would round to "1000ms"
        return f"{_plain(float(f'{seconds * 1000:.4g}'))}ms"
    rest = round(seconds, 3)
    parts = []
    for unit in ("d", "h", "m"):
        count, rest = divmod(rest, _UNITS[unit])
        parts.append(f"{int(count)}{unit}" if count else "")
    rest = round(rest, 3)
    return "".join(parts) + (f"{_plain(rest)}s" if rest or not any(parts) else "")


def _seconds(value: object) -> float | None:
    """Return *value* in seconds, in range or not; ``None`` if it is not a duration at all."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        return _written(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _written(text: str) -> float | None:
    if _PLAIN.fullmatch(text):
        return float(text)
    match = _WRITTEN.fullmatch(text)
    if not text or match is None:
        return None
    # fsum rounds only once, so the sum is the float nearest to what was written.
    return math.fsum(float(count) * _UNITS[unit] for unit, count in match.groupdict().items() if count)


def _plain(number: float) -> str:
    """Return *number* without an exponent and without trailing zeros."""
    return f"{number:.10f}".rstrip("0").rstrip(".")


def _shown(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."  # noqa: PLR2004 - keeps the error on one line
