"""The table ``[dashboard]`` of the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["DashboardOptions", "options_of"]


@attrs.frozen(kw_only=True)
class DashboardOptions:
    """The table ``[dashboard]``.

    Attributes:
        passwords: Who may open the dashboard, each as ``name:role:hash``. The role is ``read`` or ``act``; ``queuekit
            dashboard --hash`` prints the hash of a password.
        hosts: Names, without ports, under which the dashboard may be asked for, besides its own address.
    """

    passwords: list[str] = attrs.field(factory=list, repr=False)
    hosts: list[str] = attrs.field(factory=list)


def options_of(config: Any) -> DashboardOptions:
    """Return the options in *config*, whose table core has checked; values from variables are text with commas."""
    table: Mapping[str, Any] = config.sections.get("dashboard", {})
    return DashboardOptions(passwords=_texts(table.get("passwords")), hosts=_texts(table.get("hosts")))


def _texts(value: object) -> list[str]:
    items = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    return [text for item in items if (text := str(item).strip())]
