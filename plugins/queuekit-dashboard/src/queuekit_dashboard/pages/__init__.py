"""The pages and actions of the dashboard, by path. Pages change nothing; each action answers a form."""

from __future__ import annotations

from collections.abc import Mapping

from queuekit_dashboard.calls import Action, PageFunction
from queuekit_dashboard.pages import about, dead, limits, message, overview, queue, schedules, tasks, workers

__all__ = ["ACTIONS", "LISTED", "PAGES"]

LISTED = {
    "/": "Overview",
    "/running": "Running",
    "/workers": "Workers",
    "/dead": "Dead letters",
    "/schedules": "Schedules",
    "/limits": "Limits",
    "/tasks": "Tasks",
    "/actions": "Actions",
    "/plugins": "Plugins",
}
"""The pages that each page links to, with their names."""
PAGES: Mapping[str, PageFunction] = {
    "/": overview.show,
    "/queue": queue.show,
    "/message": message.show,
    "/running": workers.running,
    "/workers": workers.show,
    "/dead": dead.show,
    "/schedules": schedules.show,
    "/schedule": schedules.one,
    "/limits": limits.show,
    "/tasks": tasks.show,
    "/task": tasks.form,
    "/actions": about.actions,
    "/plugins": about.plugins,
}
ACTIONS: Mapping[str, Action] = {
    "/queue/pause": queue.pause_it,
    "/queue/resume": queue.resume_it,
    "/queue/purge": queue.purge_it,
    "/queue/move": queue.move_it,
    "/message/cancel": message.cancel_it,
    "/message/retry": message.retry_it,
    "/message/drop": message.drop_it,
    "/message/stack": message.stack_of,
    "/worker/drain": workers.drain_it,
    "/dead/retry": dead.retry_all,
    "/dead/drop": dead.drop_all,
    "/dead/stop": dead.stop,
    "/schedule/pause": schedules.pause_it,
    "/schedule/resume": schedules.resume_it,
    "/schedule/run": schedules.run_it,
    "/limit/set": limits.set_it,
    "/limit/unset": limits.unset_it,
    "/limit/free": limits.free_it,
    "/task/send": tasks.send_it,
}
