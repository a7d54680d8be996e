"""The providers of the process: what makes spans and metrics, and what flushes them."""

from __future__ import annotations

import atexit
from importlib.metadata import version
from typing import Any

from opentelemetry import metrics, trace

from queuekit_otel.conventions import SCHEMA

__all__ = ["flush", "flush_at_exit", "meter", "tracer"]

_PATIENCE_MILLIS = 5_000


def tracer() -> trace.Tracer:
    """Return the tracer of this plugin; it follows a provider that is set later."""
    return trace.get_tracer("queuekit_otel", version("queuekit-otel"), schema_url=SCHEMA)


def meter() -> metrics.Meter:
    """Return the meter of this plugin."""
    return metrics.get_meter("queuekit_otel", version("queuekit-otel"), schema_url=SCHEMA)


def flush_at_exit() -> None:
    """Flush at the end of this process; a fork does not run the exit handlers that the SDK had set up before it."""
    atexit.unregister(flush)
    atexit.register(flush)


def flush() -> None:
    """Let providers that can, as those of the SDK, export what they hold, within a few seconds."""
    providers: tuple[Any, ...] = trace.get_tracer_provider(), metrics.get_meter_provider()
    for provider in providers:
        force_flush = getattr(provider, "force_flush", None)
        if force_flush is not None:
            force_flush(_PATIENCE_MILLIS)
