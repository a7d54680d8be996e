"""The workers, what they run, and draining one."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from queuekit.operations.pauses import drain
from queuekit.wire.pauses import Pause
from queuekit.wire.presence import Presence
from queuekit_dashboard.calls import Go, HtmlPage, PageRequest

__all__ = ["drain_it", "running", "show"]

_SHOWN = 100
"""Workers on a page, and running messages."""


def show(call: PageRequest) -> HtmlPage:
    """Return the workers; ``after`` continues behind one."""
    call.admin.listing("listing workers")
    sample = call.site.figures.look()
    after = call.query.get("after", "")
    rest = [worker for worker in sample.workers or () if worker.name > after]
    pauses = {pause.mark: pause for pause in sample.pauses}
    shown = rest[:_SHOWN]
    versions = {worker.app_version for worker in sample.live}
    return HtmlPage(
        template="workers.html",
        values={
            "title": "Workers",
            "rows": [{"worker": worker, "state": _state(worker, pauses)} for worker in shown],
            "skewed": len(versions) > 1,
            "next": shown[-1].name if len(rest) > len(shown) else "",
        },
    )


def running(call: PageRequest) -> HtmlPage:
    """Return what runs now, longest first."""
    call.admin.listing("listing what runs")
    sample = call.site.figures.look()
    runs = [(run, worker) for worker in sample.workers or () for run in worker.runs]
    runs.sort(key=lambda pair: pair[0].seconds, reverse=True)
    rows: list[dict[str, Any]] = [{"run": run, "worker": worker} for run, worker in islice(runs, _SHOWN)]
    return HtmlPage(template="running.html", values={"title": "Running", "rows": rows, "more": len(runs) - len(rows)})


def drain_it(call: PageRequest) -> Go:
    """Let a worker finish what it runs, and end."""
    worker = drain(call.admin, call.need("name"), by=call.by)
    return Go("/workers", f"{worker.name} takes no more messages, and ends when it has finished.")


def _state(worker: Presence, pauses: Mapping[str, Pause]) -> str:
    """Return what a worker does, in a word."""
    obeyed = {pauses[mark].queue for mark in worker.paused if mark in pauses}
    words = {
        "silent": not worker.live,
        worker.leaving: worker.draining,
        "held back": bool(worker.gate),
        "paused": bool(worker.queues) and set(worker.queues) <= obeyed,
    }
    return next((word for word, holds in words.items() if holds), "working")
