"""The middleware: spans of sends and runs.

A call of ``send`` is one span, whose context the message carries. Each message of a batch has a span of its creation,
whose context it carries, and the round trip is a span with a link to each of them. What a worker stores with the
outcome of a task, such as the next link of a chain, has a span of its creation below the span of that run.

A worker fetches ahead of need, and no code of the application receives, so there are no spans of receiving.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from time import perf_counter
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, Status, StatusCode

from queuekit.context import Context
from queuekit.control import Cancel, Retry, Snooze
from queuekit.errors import UnavailableError
from queuekit.middleware import Middleware
from queuekit.signature import Signature
from queuekit.trace import continue_trace, trace_headers
from queuekit_otel import conventions as names
from queuekit_otel.carrying import baggage_into, headers_of, parent_of, span_in, with_baggage
from queuekit_otel.measuring import Measuring
from queuekit_otel.options import OtelOptions
from queuekit_otel.providers import begin, end, flush_at_exit, tracer

__all__ = ["Tracing"]

_MOST_KNOWN = 1_000
"""Most queues and tasks whose attributes are kept."""
_single: ContextVar[Span | None] = ContextVar("queuekit_otel_single", default=None)
"""The span of a call of ``send`` whose message has not been written yet."""


class Tracing(Middleware):
    """Makes the spans and metrics of one app."""

    def __init__(self, config: Any, options: OtelOptions) -> None:
        self._tracer = tracer()
        flush_at_exit()
        self._about = names.about_broker(config.url("broker"))
        self._default_queue: str = config.default_queue
        self._continues = options.parent == "parent"
        self._measuring = Measuring(self._about)
        self._bases: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._provided = False

    # -- sends

    def around_send(self, calls: Sequence[Signature[Any]], *, batch: bool) -> Iterator[None]:
        """Make a span of a send, or of the round trip that stores a batch."""
        queues = [self._queue(call) for call in calls]
        span: Span = INVALID_SPAN
        tokens = None
        if self._traces():
            span = self._of_batch(calls, queues) if batch else self._of_single(calls[0], queues[0])
            tokens = contexts.attach(trace.set_span_in_context(span)), _single.set(None if batch else span)
        begun, failed, tried = perf_counter(), "", True
        try:
            yield
        except BaseException as error:
            failed, tried = _fail(span, error), batch or isinstance(error, UnavailableError)
            raise
        finally:
            if tokens is not None:
                _single.reset(tokens[1])
                contexts.detach(tokens[0])
                end(span)
            if tried:
                self._measuring.sent(queues, seconds=perf_counter() - begun, error=failed)

    def before_send(self, signature: Signature[Any]) -> Signature[Any]:
        """Let the message carry the span of its send, or of its creation."""
        if not self._traces():
            return signature
        sent = _single.get()
        _single.set(None)
        span = sent or self._of_creation(signature)
        made = span.get_span_context()
        if made.is_valid:
            headers = headers_of(made)
            baggage_into(headers)
            signature = signature.carrying(headers)
            span.set_attribute(names.MESSAGE, signature.id or "")
            span.set_attribute(names.CONVERSATION, _conversation(signature.id or ""))
        if sent is None:
            end(span)
        return signature

    def _of_creation(self, call: Signature[Any]) -> Span:
        queue = self._queue(call)
        attributes, parent = self._base("create", queue, call.task), _parent(call.headers)
        return begin(self._tracer, f"create {queue}", parent, SpanKind.PRODUCER, attributes)

    def _of_single(self, call: Signature[Any], queue: str) -> Span:
        attributes, parent = self._base("send", queue, call.task), _parent({**trace_headers(), **call.headers})
        return begin(self._tracer, f"send {queue}", parent, SpanKind.PRODUCER, attributes)

    def _of_batch(self, calls: Sequence[Signature[Any]], queues: Sequence[str]) -> Span:
        attributes: dict[str, Any] = {**self._base("send", "", ""), names.BATCH: len(calls)}
        name, talks = "send", {_conversation(call.id or "") for call in calls}
        if len(set(queues)) == 1:
            name, attributes[names.DESTINATION] = f"send {queues[0]}", queues[0]
        if len(talks) == 1:
            attributes[names.CONVERSATION] = talks.pop()
        links = [Link(made) for call in calls if (made := span_in(call.headers)) is not None]
        return begin(self._tracer, name, _parent(trace_headers()), SpanKind.CLIENT, attributes, links=links)

    # -- runs

    def around_run(self, context: Context) -> Iterator[None]:
        """Make a span of a run, in which its body runs; what it sends and what follows it belongs to that span."""
        span: Span = INVALID_SPAN
        token = None
        if self._traces() or self._reaches_body(context.headers):
            span = self._of_run(context)
            made, here = span.get_span_context(), with_baggage(context.headers, contexts.get_current())
            if made.is_valid:
                state = made.trace_state
                continue_trace(context, parent_of(made), state.to_header() if state else "")
            token = contexts.attach(trace.set_span_in_context(span, here))
        begun, failed = perf_counter(), ""
        try:
            yield
        except BaseException as error:
            failed = _fail(span, error)
            raise
        finally:
            if token is not None:
                contexts.detach(token)
                end(span)
            self._measuring.processed(context.queue, seconds=perf_counter() - begun, error=failed)

    def _traces(self) -> bool:
        """Return whether a provider of spans is set, or the current context has something to carry on.

        Otherwise core carries the trace context of messages on by itself. A provider that is set stays.
        """
        self._provided = self._provided or not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        return self._provided or bool(contexts.get_current())

    def _reaches_body(self, headers: Mapping[str, str]) -> bool:
        """Return whether the body of a message with *headers* sees a part of them, though no provider is set."""
        return bool(headers) and ("baggage" in headers or (self._continues and "traceparent" in headers))

    def _of_run(self, context: Context) -> Span:
        attributes = {
            **self._base("process", context.queue, context.task),
            names.MESSAGE: context.id,
            names.CONVERSATION: _conversation(context.id),
            names.ATTEMPT: context.attempt,
            names.CLIENT: context.worker,
        }
        sent, parent = span_in(context.headers), None
        linked = [sent]
        if self._continues and sent is not None:
            parent = trace.set_span_in_context(trace.NonRecordingSpan(sent))
            ambient = trace.get_current_span().get_span_context()
            linked = [sent, ambient if ambient.is_valid else None]
        links = [Link(one) for one in linked if one is not None]
        return begin(self._tracer, f"process {context.queue}", parent, SpanKind.CONSUMER, attributes, links=links)

    # -- attributes

    def _base(self, operation: str, queue: str, task: str) -> dict[str, Any]:
        found = self._bases.get((operation, queue, task))
        if found is None:
            found = {**self._about, names.NAME: operation, names.TYPE: operation}
            if queue:
                found |= {names.DESTINATION: queue, names.TASK: task}
            if len(self._bases) >= _MOST_KNOWN:
                self._bases.clear()
            self._bases[operation, queue, task] = found
        return found

    def _queue(self, call: Signature[Any]) -> str:
        """Return the queue of *call*: its own, that of its task if known here, or the default one."""
        if call.queue is not None:
            return call.queue
        sender: Any = call.sender
        task = None if sender is None else sender.tasks.get(call.task)
        return (task.defaults.queue if task is not None else None) or self._default_queue


def _conversation(id: str) -> str:
    """Return the id of the workflow that message *id* is a part of; its own for a single message."""
    return id.partition(".")[0]


def _parent(headers: Mapping[str, str]) -> contexts.Context | None:
    """Return the context of the span that *headers* name; ``None`` for the current one, if there is one."""
    if trace.get_current_span().get_span_context().is_valid:
        return None
    carried = span_in(headers)
    return None if carried is None else trace.set_span_in_context(trace.NonRecordingSpan(carried))


def _fail(span: Span, error: BaseException) -> str:
    """Record *error* in *span* and return its type; a body that puts its message off, or cancels it, has not failed."""
    if isinstance(error, Retry | Snooze | Cancel):
        span.set_attribute(names.ENDED_BY, type(error).__name__)
        return ""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if span.is_recording():
        span.set_attribute(names.ERROR, name)
        span.set_status(Status(StatusCode.ERROR))
        with suppress(Exception):  # the text of an error is the user's code
            span.record_exception(error)
            span.set_status(Status(StatusCode.ERROR, str(error)))
    return name
