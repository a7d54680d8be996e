"""The table ``[otel]`` of the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

__all__ = ["OtelOptions", "options_of"]


@attrs.frozen(kw_only=True)
class OtelOptions:
    """The table ``[otel]``.

    Attributes:
        enabled: Whether to make spans and metrics; default: none, and they cost nothing.
        parent: ``link``: a run begins a trace of its own, with a link to the send. ``parent``: it continues the trace
            of the send.
        settle: Whether to make a span for each batch of messages that a worker settles.
    """

    enabled: bool = False
    parent: Literal["link", "parent"] = attrs.field(default="link", validator=attrs.validators.in_(("link", "parent")))
    settle: bool = False


def options_of(config: Any) -> OtelOptions:
    """Return the options in *config*, whose table core has checked; values from variables are text."""
    table: Mapping[str, Any] = config.sections.get("otel", {})
    return OtelOptions(
        enabled=_flag(table.get("enabled", False)),
        parent=table.get("parent", "link"),
        settle=_flag(table.get("settle", False)),
    )


def _flag(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).lower() in {"1", "true", "yes", "on"}
