"""The table ``[prometheus]`` of the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["PrometheusOptions", "options_of"]

_HIGHEST_PORT = 65_535


def _check_port(_instance: Any, _field: attrs.Attribute[Any], value: int | None) -> None:
    if value is not None and not 0 <= value <= _HIGHEST_PORT:
        raise ValueError(f"expected a port, got {value!r}")


@attrs.frozen(kw_only=True)
class PrometheusOptions:
    """The table ``[prometheus]``.

    Attributes:
        port: Port on which a worker serves its metrics; default: it serves none.
        host: Address to listen on.
        register: Whether to add the metrics to the default registry of prometheus_client, for a program that serves
            that itself.
    """

    port: int | None = attrs.field(default=None, validator=_check_port)
    host: str = "127.0.0.1"
    register: bool = False


def options_of(config: Any) -> PrometheusOptions:
    """Return the options in *config*, whose table core has checked; values from variables are text."""
    table: Mapping[str, Any] = config.sections.get("prometheus", {})
    port, register = table.get("port"), table.get("register", False)
    return PrometheusOptions(
        port=None if port in (None, "") else int(port),
        host=str(table.get("host", "127.0.0.1")),
        register=register if isinstance(register, bool) else str(register).lower() in {"1", "true", "yes", "on"},
    )
