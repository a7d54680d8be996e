"""Turn pages into HTML: templates, and the filters that they use."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from queuekit.broker import Place, QueueCounts
from queuekit.cli.output import age, as_json, counted, moment, size, span
from queuekit.logs.plaintext import clean
from queuekit_dashboard.calls import link

__all__ = ["prepare", "render"]

_WIDTH, _HEIGHT = 120, 24
"""Units of a sparkline."""
_LONGEST = 20_000
"""Most characters of a value that a page shows."""


@functools.cache
def _environment() -> Environment:
    loader = PackageLoader("queuekit_dashboard")
    made = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "age": age,
        "clean": _lines,
        "counted": _counted,
        "line": one_line,
        "iso": _iso,
        "json": _json,
        "points": points,
        "sentence": _sentence,
        "size": size,
        "span": span,
    }
    made.globals |= {"link": link}
    return made


def render(template: str, values: dict[str, Any]) -> str:
    """Return the HTML of *template*; what *values* hold is escaped."""
    return _environment().get_template(template).render(values)


def prepare() -> None:
    """Compile the templates of the first page, which takes longer than all else about it."""
    for template in ("base.html", "parts.html", "overview.html"):
        _environment().get_template(template)


def points(values: Sequence[float]) -> str:
    """Return the points of a sparkline as SVG writes them; empty if there are fewer than two."""
    if len(values) < 2:  # noqa: PLR2004 - a line has two ends
        return ""
    top, step = max(*values, 1.0), _WIDTH / (len(values) - 1)
    return " ".join(
        f"{number * step:.1f},{_HEIGHT - 1 - value / top * (_HEIGHT - 2):.1f}" for number, value in enumerate(values)
    )


def one_line(text: str, width: int = 200) -> str:
    """Return the first line of *text*, cut to *width* characters."""
    line = clean(next(iter(text[: 10 * width].splitlines()), ""))
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _counted(counts: QueueCounts, place: Place) -> str:
    return counted(counts, place, ",").replace(">=", "≥")


def _sentence(text: str) -> str:
    line = one_line(text, 1_000)
    return f"{line[:1].upper()}{line[1:]}."


def _lines(text: str) -> str:
    return _cut(clean(text, lines=True))


def _json(value: Any) -> str:
    return _cut(as_json(value, indent=2))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\n… {len(text) - _LONGEST:,} more characters"


def _iso(epoch: float | None) -> str:
    return moment(epoch) or ""
