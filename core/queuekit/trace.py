"""Trace context: the W3C headers ``traceparent``, ``tracestate`` and ``baggage``, carried from sends to runs and on.

A message that is sent while a trace context is in effect carries it in its headers. Its retries and follow-ups keep
it, and what its task sends inherits it. No tracing library is needed.

Source:
    W3C Trace Context, and W3C Baggage.
"""

from __future__ import annotations

import contextvars
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from queuekit.context import Context, current

__all__ = ["TRACE_HEADERS", "carries", "continue_trace", "trace_context", "trace_headers"]

TRACE_HEADERS = ("traceparent", "tracestate", "baggage")
"""The headers that make up a trace context."""

_NONE: Mapping[str, str] = {}
_PARENT = re.compile(
    r"(?:00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    r"|(?!00|ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]{0,200})?)"
)
_BOUNDS = {"tracestate": (512, 32), "baggage": (8_192, 180)}
"""Most bytes and members that the standards ask everyone to carry."""
_TEXT = re.compile(r"[\t -~]+")

_Given = tuple[Context | None, Mapping[str, str]]
_given: contextvars.ContextVar[_Given | None] = contextvars.ContextVar("queuekit_trace", default=None)
"""The run in which :func:`trace_context` was entered, and what it was given."""


@contextmanager
def trace_context(headers: Mapping[str, str]) -> Iterator[None]:
    """Let the messages that are sent inside carry the trace context in *headers*, e.g. those of an HTTP request.

    Names may be in any case. Other headers are ignored, and so is a trace context that breaks the standard or exceeds
    its bounds: it never makes a send fail. Headers that a call sets itself win.
    """
    token = _given.set((current(), _valid({name.lower(): value for name, value in headers.items()})))
    try:
        yield
    finally:
        _given.reset(token)


def trace_headers() -> dict[str, str]:
    """Return the trace context in effect here: that of :func:`trace_context`, or of the message whose task runs."""
    run, given = current(), _given.get()
    if given is not None and given[0] is run:
        return dict(given[1])
    return dict(_valid(run.headers)) if run is not None and run.headers else {}


def continue_trace(context: Context, parent: str, state: str = "") -> None:
    """Let the run of *context* carry *parent* and *state* on, in place of ``traceparent`` and ``tracestate``.

    For a middleware that makes a span of a run: what the body sends, and what follows the task, belongs to that span.
    A retry keeps the trace context of the message. Call it in ``around_run``, before the body runs. A *parent* that
    breaks the standard changes nothing.
    """
    if not _PARENT.fullmatch(parent):
        return
    carried: Any = context.headers  # read-only for tasks; the run's own, which its follow-ups inherit
    carried["traceparent"] = parent
    carried.pop("tracestate", None)
    if state and _fits(state, *_BOUNDS["tracestate"]):
        carried["tracestate"] = state


def carries() -> bool:
    """Return whether a trace context may be in effect here; costs less than :func:`trace_headers`."""
    run = current()
    return _given.get() is not None or (run is not None and bool(run.headers))


def _valid(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the trace context in *headers* that can be carried on."""
    found = {name: value for name in TRACE_HEADERS if isinstance(value := headers.get(name), str)}
    if not found:
        return _NONE
    if not _PARENT.fullmatch(found.get("traceparent", "")):
        found.pop("traceparent", None)
        found.pop("tracestate", None)
    return {name: value for name, value in found.items() if name not in _BOUNDS or _fits(value, *_BOUNDS[name])}


def _fits(value: str, most_bytes: int, most_members: int) -> bool:
    return len(value) <= most_bytes and value.count(",") < most_members and _TEXT.fullmatch(value) is not None
