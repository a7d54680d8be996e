"""The providers of the process: what makes spans and metrics, and what flushes them."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.context import Context

from queuekit_otel.conventions import SCHEMA

__all__ = ["begin", "end", "flush", "flush_at_exit", "meter", "tracer"]

_PATIENCE_MILLIS = 5_000
_LOG = logging.getLogger("queuekit.otel")


def tracer() -> trace.Tracer:
    """Return the tracer of this plugin; it follows a provider that is set later."""
    return trace.get_tracer("queuekit_otel", version("queuekit-otel"), schema_url=SCHEMA)


def meter() -> metrics.Meter:
    """Return the meter of this plugin."""
    return metrics.get_meter("queuekit_otel", version("queuekit-otel"), schema_url=SCHEMA)


def begin(
    tracer: trace.Tracer,
    name: str,
    parent: Context | None,
    kind: trace.SpanKind,
    attributes: dict[str, Any],
    *,
    links: Sequence[trace.Link] = (),
    at: int | None = None,
) -> trace.Span:
    """Return a new span; one that records nothing if a sampler or processor of the application fails."""
    try:
        return tracer.start_span(name, parent, kind, attributes, links, at)
    except Exception:  # noqa: BLE001 - the application's code
        _LOG.exception("no span is made of %s", name)
        return trace.INVALID_SPAN


def end(span: trace.Span, *, at: int | None = None) -> None:
    """End *span*; a processor of the application that fails changes nothing of what the span is about."""
    try:
        span.end(at)
    except Exception:  # noqa: BLE001 - the application's code
        _LOG.exception("a span processor failed")


def flush_at_exit() -> None:
    """Flush at the end of this process; a fork does not run the exit handlers that the SDK had set up before it."""
    atexit.unregister(flush)
    atexit.register(flush)


def flush() -> None:
    """Let providers that can, as those of the SDK, export what they hold, within a few seconds."""
    providers: tuple[Any, ...] = trace.get_tracer_provider(), metrics.get_meter_provider()
    for provider in providers:
        force_flush = getattr(provider, "force_flush", None)
        if force_flush is None:
            continue
        try:
            force_flush(_PATIENCE_MILLIS)
        except Exception:  # noqa: BLE001 - the application's code
            _LOG.exception("spans or metrics are not exported")
