"""The schedules: when they send what, with run now, pause and resume."""

from __future__ import annotations

from datetime import datetime

from queuekit.ids import check_name
from queuekit.schedules.manager import ScheduleView
from queuekit.schedules.triggers import When
from queuekit_dashboard.calls import Go, HtmlPage, PageRequest, link

__all__ = ["one", "pause_it", "resume_it", "run_it", "show"]

_COMING = 5
_SHOWN = 100
"""Schedules on a page."""


def show(call: PageRequest) -> HtmlPage:
    """Return all schedules; ``after`` continues behind one."""
    after = call.query.get("after", "")
    rest = [view for view in call.app.schedules.all() if view.entry.name > after]
    shown = rest[:_SHOWN]
    return HtmlPage(
        template="schedules.html",
        values={
            "title": "Schedules",
            "views": shown,
            "aside": call.app.schedules.set_aside(),
            "next": shown[-1].entry.name if len(rest) > len(shown) else "",
        },
    )


def one(call: PageRequest) -> HtmlPage:
    """Return one schedule, with its next five ticks."""
    name = check_name(call.query.get("name", ""), what="schedule")
    view = call.app.schedules.get(name)
    coming = [(tick, _local(tick, view.entry.when)) for tick in call.app.schedules.upcoming(name, _COMING)]
    return HtmlPage(
        template="schedule.html",
        values={"title": name, "view": view, "coming": coming, "error": _error(view)},
    )


def pause_it(call: PageRequest) -> Go:
    """Send no ticks of a schedule until it is resumed."""
    name = call.need("name")
    call.app.schedules.pause(name)
    call.admin.acted("schedules pause", by=call.by, on=name)
    return Go(link("/schedule", name=name), f"{name} is paused.")


def resume_it(call: PageRequest) -> Go:
    """Send the ticks of a schedule again."""
    name = call.need("name")
    call.app.schedules.resume(name)
    call.admin.acted("schedules resume", by=call.by, on=name)
    return Go(link("/schedule", name=name), f"{name} is resumed.")


def run_it(call: PageRequest) -> Go:
    """Send the call of a schedule now."""
    name = call.need("name")
    id: str = call.app.schedules.run(name).id
    call.admin.acted("schedules run", by=call.by, on=name, ids=[id])
    return Go(link("/message", id=id), f"The call of {name} is sent.")


def _error(view: ScheduleView) -> str:
    if view.progress.error:
        return view.progress.error
    return f"{view.outcome.error_type}: {view.outcome.error}" if view.outcome.error else ""


def _local(tick: float, when: When) -> str:
    """Return a tick in the time zone of its schedule."""
    return datetime.fromtimestamp(tick, when.zone()).isoformat(sep=" ", timespec="seconds")
