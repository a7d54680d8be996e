"""The limits of tasks, and changes of their numbers."""

from __future__ import annotations

from queuekit.errors import OptionError
from queuekit.operations.limits import free_limit, list_limits, set_limit, unset_limit
from queuekit_dashboard.calls import Go, HtmlPage, PageRequest

__all__ = ["free_it", "set_it", "show", "unset_it"]

_SHOWN = 200
"""Limits and keys on a page."""


def show(call: PageRequest) -> HtmlPage:
    """Return the limits, and the keys that have to wait."""
    views = list_limits(call.app)
    shown = views[:_SHOWN]
    return HtmlPage(template="limits.html", values={"title": "Limits", "views": shown, "more": len(views) - len(shown)})


def set_it(call: PageRequest) -> Go:
    """Set the numbers of a limit for all workers."""
    name, limit, burst = call.need("name"), call.need("limit"), call.given("burst")
    if burst and not (burst.isascii() and burst.isdigit()):
        raise OptionError(f"the burst is a whole number, got {burst[:60]!r}", fix="Go back and change it")
    set_limit(call.app, name, limit, burst=int(burst[:9]) if burst else None, by=call.by)
    return Go("/limits", f"{name} is limited to {limit} from the next batch of each worker on.")


def unset_it(call: PageRequest) -> Go:
    """Let the numbers of the code be in effect again."""
    name = call.need("name")
    unset_limit(call.app, name, by=call.by)
    return Go("/limits", f"{name} has the numbers in the code again.")


def free_it(call: PageRequest) -> Go:
    """Let the next message of a key start at once."""
    freed = free_limit(call.app, call.need("name"), call.given("key"), by=call.by)
    return Go("/limits", "The next message starts at once." if freed else "Nothing had to wait.")
