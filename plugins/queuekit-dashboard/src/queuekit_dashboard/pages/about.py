"""Plugins, capabilities and settings; and the log of actions."""

from __future__ import annotations

from typing import Any

import attrs

from queuekit.plugins.support import steps
from queuekit_dashboard.calls import HtmlPage, PageRequest

__all__ = ["actions", "plugins"]

_SHOWN = 100
"""Actions on a page."""


def plugins(call: PageRequest) -> HtmlPage:
    """Return what is loaded, what the engines can do, and the settings in effect."""
    runtime = call.app.runtime
    engines: list[tuple[str, str, Any]] = [("Broker", str(call.app.config.url("broker")), runtime.broker)]
    if runtime.backend is not None:
        key = "broker" if call.app.config.backend is None else "backend"
        engines.append(("Result backend", str(call.app.config.url(key)), runtime.backend))
    return HtmlPage(
        template="plugins.html",
        values={
            "title": "Plugins",
            "infos": runtime.plugins.infos(),
            "engines": [
                {
                    "what": what,
                    "url": url,
                    "steps": steps(engine.capabilities),
                    "limits": attrs.asdict(engine.limits, recurse=False) if hasattr(engine, "limits") else {},
                }
                for what, url, engine in engines
            ],
            "settings": call.app.config.rows(),
        },
    )


def actions(call: PageRequest) -> HtmlPage:
    """Return what operators did in the last thirty days, newest first; ``from`` continues."""
    found = call.admin.actions()
    try:
        start = max(0, int(call.query.get("from", "0")[:9]))
    except ValueError:
        start = 0
    shown = found[start : start + _SHOWN]
    following = start + _SHOWN if len(found) > start + _SHOWN else 0
    return HtmlPage(template="actions.html", values={"title": "Actions", "actions": shown, "next": following})
