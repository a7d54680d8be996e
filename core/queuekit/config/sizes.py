"""Amounts of memory as people write them, to and from bytes: ``500000000``, ``"500MB"``, ``"1.5GiB"``."""

from __future__ import annotations

import re

__all__ = ["EXAMPLES", "format", "parse"]

EXAMPLES = "bytes, or a size such as 500MB or 1.5GiB"
"""The expected form, for error messages."""

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_WRITTEN = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([A-Z]*)", re.ASCII)
_SHOWN = {"GiB": 2**30, "GB": 10**9, "MiB": 2**20, "MB": 10**6, "KiB": 2**10, "kB": 10**3}


def parse(value: object) -> int:
    """Return *value* in bytes.

    Args:
        value: A whole number, or text with a unit: ``kB MB GB`` (powers of 1,000), ``KiB MiB GiB`` (of 1,024).

    Raises:
        ValueError: It is none of these, or less than one byte.
    """
    size = _bytes(value.strip().upper()) if isinstance(value, str) else value
    if type(size) is not int or size < 1:
        raise ValueError(f"expected {EXAMPLES}, got {value!r:.40}")
    return size


def _bytes(text: str) -> int | None:
    match = _WRITTEN.fullmatch(text)
    if match is None or match[2] not in _UNITS:
        return None
    return int(float(match[1]) * _UNITS[match[2]])


def format(size: int) -> str:  # noqa: A001 - read as sizes.format
    """Return *size* as text that :func:`parse` reads, in the largest unit in which it is a whole number."""
    return next((f"{size // unit}{name}" for name, unit in _SHOWN.items() if size % unit == 0), f"{size}B")
