"""Output formats of the command line: aligned columns, ages, times, JSON."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

import attrs
import click

from queuekit import durations
from queuekit.broker import Place, QueueCounts
from queuekit.logs.plaintext import clean, clean_json

__all__ = [
    "age",
    "as_json",
    "columns",
    "echo",
    "fields",
    "moment",
    "one_line",
    "paint",
    "print_json",
    "size",
    "span",
    "when",
]

_MINUTE, _DAY = 60.0, 86_400.0
_MEGABYTE = 1_000_000


def columns(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> str:
    """Return a table with two spaces between columns and no lines; columns named in *right* are right-aligned."""
    table = [list(header), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(len(row[number]) for row in table) for number in range(len(header))]
    return "\n".join(_row(row, header, widths, right) for row in table)


def _row(row: Sequence[str], header: Sequence[str], widths: Sequence[int], right: Sequence[str]) -> str:
    cells = [
        cell.rjust(width) if name in right else cell.ljust(width)
        for cell, name, width in zip(row, header, widths, strict=True)
    ]
    return "  ".join(cells).rstrip()


def fields(pairs: Mapping[str, str]) -> str:
    """Return names and values, one pair per line; empty values are left out."""
    shown = {name: value for name, value in pairs.items() if value}
    width = max(map(len, shown), default=0)
    return "\n".join(f"{name:<{width}}  {clean(value)}" for name, value in shown.items())


def age(seconds: float | None) -> str:
    """Return a span in one or two units: ``"0.4s"``, ``"12s"``, ``"3m5s"``, ``"2d4h"``."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if abs(seconds) < 10:  # noqa: PLR2004 - below that a tenth matters
        return f"{max(0.0, seconds):.1f}s"
    step = 1.0 if seconds < 60 * _MINUTE else _MINUTE if seconds < _DAY else 60 * _MINUTE
    return durations.format(seconds // step * step)


def counted(counts: QueueCounts, place: Place, form: str = "") -> str:
    """Return the number of messages in *place*: ``>=5`` if it is a lower bound, ``?`` if nothing was counted."""
    number: int = getattr(counts, place)
    if place not in counts.at_least:
        return f"{number:{form}}"
    return f">={number:{form}}" if number else "?"


def size(count: int | None) -> str:
    """Return a number of bytes in megabytes: ``"81 MB"``, and below one in kilobytes."""
    if count is None:
        return "-"
    return f"{count / 1e6:.0f} MB" if count >= _MEGABYTE else f"{count / 1e3:.0f} kB"


def span(seconds: float) -> str:
    """Return how long something took: in milliseconds below one second, else as :func:`age`."""
    return f"{max(0.0, seconds) * 1000:.1f} ms" if seconds < 1 else age(seconds)


def moment(epoch: float | None) -> str | None:
    """Return a time for JSON documents: ISO 8601, UTC; ``None`` if there is none or it is out of range."""
    if epoch is None:
        return None
    try:
        at = datetime.fromtimestamp(epoch, UTC)
    except (OverflowError, ValueError, OSError):
        return None  # datetime cannot hold the year
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def when(epoch: float | None, *, now: float) -> str:
    """Return a time for people: how long ago or ahead, and the time itself."""
    if epoch is None:
        return ""
    span = now - epoch
    near = f"{age(span)} ago" if span >= 0 else f"in {age(-span)}"
    return f"{near} ({moment(epoch)})"


def one_line(text: str, *, width: int = 200) -> str:
    """Return the first line of *text*, cut to *width* characters and without control characters."""
    line = clean(next(iter(text.splitlines()), ""))
    return line if len(line) <= width else f"{line[: width - 3]}..."


def _plain(value: Any) -> Any:
    """Return a JSON-compatible value to use instead of *value*."""
    if attrs.has(type(value)):
        return attrs.asdict(value, recurse=False)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return sorted(value, key=str) if isinstance(value, set | frozenset) else str(value)


def as_json(value: Any, *, indent: int | None = None) -> str:
    """Return *value* as JSON; values that JSON cannot hold become text."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(repr(value))


def print_json(document: Any) -> None:
    """Print one JSON document; characters that are not printable are escaped."""
    click.echo(clean_json(as_json(document, indent=2)))


def echo(text: str, *, err: bool = False) -> None:
    """Print *text*, which may come from outside; escape characters that are not printable, but keep its lines."""
    click.echo(clean(text, lines=True), err=err)


def paint(text: str, colour: str) -> str:
    """Return *text* in a colour, if standard output is a terminal and ``NO_COLOR`` is not set."""
    return click.style(text, fg=colour) if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text
