"""The first page: all queues, the workers in short, and what is wrong."""

from __future__ import annotations

from itertools import islice
from typing import Any

from queuekit.operations.admin import QueueView
from queuekit_dashboard.calls import HtmlPage, PageRequest
from queuekit_dashboard.figures import Figures, Sample, rate_of, total_of

__all__ = ["show"]

_SHOWN = 50
"""Queues on a page."""
_FAULTS = 5
"""Faults of workers on the page, which fill the screen of a phone; the page of the workers has all."""


def show(call: PageRequest) -> HtmlPage:
    """Return the overview.

    ``find`` selects queues by a part of their name, ``unserved`` those where messages wait that no worker serves;
    ``after`` continues behind a queue.
    """
    figures = call.site.figures
    sample = figures.look()
    find, after, unserved = (call.query.get(name, "") for name in ("find", "after", "unserved"))
    queues = sample.unserved if unserved else sample.queues
    found = [view for view in queues if find.casefold() in view.name.casefold()]
    rest = [view for view in found if view.name > after] if after else found
    shown = rest[:_SHOWN]
    faults = list(islice(sample.faults(), _FAULTS + 1))
    return HtmlPage(
        template="overview.html",
        values={
            "title": "Overview",
            "rows": [_row(view, sample, figures) for view in shown],
            "count": len(found),
            "find": find,
            "unserved": unserved,
            "next": shown[-1].name if len(rest) > len(shown) else "",
            "total": total_of(sample.queues),
            "faults": faults[:_FAULTS],
            "more_faults": len(faults) > _FAULTS,
            "sample": sample,
            "rates": figures.history(),
            "untold": call.admin.untold,
        },
    )


def _row(view: QueueView, sample: Sample, figures: Figures) -> dict[str, Any]:
    return {
        "view": view,
        "pause": next((pause for pause in sample.pauses if pause.queue == view.name), None),
        "rate": rate_of(sample, view.name),
        "history": figures.history(view.name),
    }
