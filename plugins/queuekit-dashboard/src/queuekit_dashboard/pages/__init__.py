"""The pages and actions of the dashboard, by path. Pages change nothing; each action answers a form."""

from __future__ import annotations

from collections.abc import Mapping

from queuekit_dashboard.calls import Action, PageFunction
from queuekit_dashboard.pages import dead, message, overview, queue

__all__ = ["ACTIONS", "LISTED", "PAGES"]

LISTED = {"/": "Overview", "/dead": "Dead letters"}
"""The pages that each page links to, with their names."""
PAGES: Mapping[str, PageFunction] = {
    "/": overview.show,
    "/queue": queue.show,
    "/message": message.show,
    "/dead": dead.show,
}
ACTIONS: Mapping[str, Action] = {
    "/queue/pause": queue.pause_it,
    "/queue/resume": queue.resume_it,
    "/queue/purge": queue.purge_it,
    "/message/cancel": message.cancel_it,
    "/message/retry": message.retry_it,
    "/message/drop": message.drop_it,
    "/message/stack": message.stack_of,
    "/dead/retry": dead.retry_all,
    "/dead/drop": dead.drop_all,
    "/dead/stop": dead.stop,
}
