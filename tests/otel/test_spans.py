"""Spans and metrics by the semantic conventions for messaging: golden files, and what belongs to which trace."""

import asyncio
import functools
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from queuekit import Cancel, Fixed, Middleware, Queuekit, Retry, Signature, Snooze, chain, chord, group
from queuekit.errors import ConfigError, EncodeError, UnavailableError
from queuekit.ids import new_id
from queuekit.limits import Rate, arg
from queuekit.trace import trace_context, trace_headers
from queuekit.urls import EngineURL
from support.commands import queuekit, write
from support.working import broker_of, burst, flaky_app

pytest.importorskip("queuekit_otel", reason="pip install -e plugins/queuekit-otel opentelemetry-sdk")

from opentelemetry import baggage, context, metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import messaging_attributes
from opentelemetry.semconv._incubating.metrics import messaging_metrics
from opentelemetry.semconv.attributes import error_attributes, server_attributes
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import SpanKind, StatusCode

from queuekit_otel.carrying import span_in
from queuekit_otel.conventions import SCHEMA, about_broker
from queuekit_otel.providers import begin

KEEPING = """
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from queuekit import Queuekit


class Keeping(SpanExporter):
    def export(self, spans):
        with Path("spans.txt").open("a") as file:
            file.writelines(f"{span.name} {span.attributes['queuekit.task.name']}\\n" for span in spans)
        return SpanExportResult.SUCCESS


trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(BatchSpanProcessor(Keeping(), schedule_delay_millis=3_600_000))
app = Queuekit(broker="sqlite:///jobs.db", otel={"enabled": True})


@app.task(name="here")
def here():
    pass


@app.task(name="apart", pool="process")
def apart():
    pass
"""
"""An app whose spans are exported when somebody asks for it, and not before."""
GOLDEN = Path(__file__).parents[1] / "golden" / "otel"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OF_OPERATION = {
    "create": SpanKind.PRODUCER,
    "process": SpanKind.CONSUMER,
    "settle": SpanKind.CLIENT,
}
"""Kind of the spans of each operation; those of ``send`` are of two kinds."""


@functools.cache
def exporter() -> InMemorySpanExporter:
    """Return what keeps all spans of this process: OpenTelemetry has one provider for a process."""
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
    provider: Any = trace.get_tracer_provider()  # a page of the docs may have set it before
    found = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(found))
    return found


@functools.cache
def reader() -> InMemoryMetricReader:
    """Return what reads the metrics of this process."""
    found = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([found], shutdown_on_exit=False))
    return found


class Spans:
    """The spans of one test."""

    def __init__(self) -> None:
        exporter().clear()

    @property
    def all(self) -> list[ReadableSpan]:
        """All, in the order in which they began."""
        return sorted(exporter().get_finished_spans(), key=lambda span: span.start_time or 0)

    def of(self, operation: str) -> list[ReadableSpan]:
        """Return those of *operation*."""
        return [span for span in self.all if (span.attributes or {})["messaging.operation.name"] == operation]

    @property
    def names(self) -> list[str]:
        """Their names, in order."""
        return [span.name for span in self.all]


@pytest.fixture
def spans() -> Spans:
    """Return the spans that this test makes."""
    return Spans()


@pytest.fixture
def make() -> Iterator[Callable[..., Queuekit]]:
    """Return a function that makes an app whose spans are enabled, with tasks."""
    made: list[Queuekit] = []

    def app(*, middlewares: Sequence[Middleware] = (), eager: bool = False, **otel: Any) -> Queuekit:
        one = Queuekit(
            broker=f"memory://{new_id()}",
            otel={"enabled": True, **otel},
            worker={"concurrency": 1, "queues": ["sums", "default", "metered"]},
            log={"level": "CRITICAL"},
            eager=eager,
            middlewares=middlewares,
        )
        one.task(name="add", queue="sums")(lambda x=0, y=0: x + y)
        one.task(name="total")(sum)
        made.append(one)
        return one

    yield app
    for one in made:
        one.close()


def identity(span: ReadableSpan) -> tuple[int, int]:
    """Return trace and span as numbers."""
    found = span.context
    assert found is not None
    return found.trace_id, found.span_id


def linked(span: ReadableSpan) -> list[tuple[int, int]]:
    """Return what *span* links to."""
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def parent_of(span: ReadableSpan) -> tuple[int, int] | None:
    """Return the parent of *span*."""
    return (span.parent.trace_id, span.parent.span_id) if span.parent is not None else None


def in_order(spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
    """Return *spans* with what caused a span before it, since a worker's threads do not take turns."""
    known = {identity(span): span for span in spans}

    def depth(span: ReadableSpan) -> int:
        causes = [*linked(span), *filter(None, [parent_of(span)])]
        return 1 + max((depth(known[cause]) for cause in causes if cause in known), default=0)

    return sorted(spans, key=lambda span: (depth(span), str((span.attributes or {}).get("messaging.message.id", ""))))


def drawn(spans: Sequence[ReadableSpan]) -> str:
    """Return *spans* as text: each with a number in place of its ids, its parent, its links and its attributes."""
    numbers = {identity(span): f"#{number}" for number, span in enumerate(spans, 1)}
    traces = {found: f"trace {chr(65 + n)}" for n, found in enumerate(dict.fromkeys(key[0] for key in numbers))}
    messages: dict[str, str] = {}
    lines = []
    for span in spans:
        parent = parent_of(span)
        lines += [
            f"{numbers[identity(span)]} {span.name}",
            f"    {span.kind.name}, {span.status.status_code.name}, {traces[identity(span)[0]]}"
            + (f", below {numbers[parent]}" if parent is not None else "")
            + "".join(f", linked to {numbers[link]}" for link in linked(span)),
        ]
        for key, value in sorted((span.attributes or {}).items()):
            shown = value
            if key in {"messaging.message.id", "messaging.message.conversation_id"}:
                head, dot, rest = str(value).partition(".")
                shown = messages.setdefault(head, f"<id {len(messages) + 1}>") + dot + rest
            elif key == "messaging.client.id":
                shown = "<worker>"
            lines.append(f"    {key} = {shown!r}")
    return "\n".join(lines) + "\n"


def check_golden(name: str, spans: Spans) -> None:
    """Compare *spans* with the golden file *name*, and their attributes with the registry of the conventions."""
    text = drawn(in_order(spans.all))
    for span in spans.all:
        check_conventions(span)
    path = GOLDEN / f"{name}.txt"
    assert text == path.read_text(encoding="utf-8")


def constants(module: Any) -> set[str]:
    """Return the attributes or metrics that *module* of the conventions defines and has not deprecated."""
    source = Path(module.__file__).read_text(encoding="utf-8")
    found = {name: value for name, value in vars(module).items() if name.isupper() and isinstance(value, str)}
    return {value for name, value in found.items() if f'"{value}"\n"""\nDeprecated' not in source}


def check_conventions(span: ReadableSpan) -> None:
    """Every name is one of the conventions or our own, and what the conventions require is there."""
    known = constants(messaging_attributes) | constants(error_attributes) | constants(server_attributes)
    attributes = dict(span.attributes or {})
    operation = str(attributes["messaging.operation.name"])
    queue = attributes.get("messaging.destination.name")

    assert {key for key in attributes if not key.startswith("queuekit.")} <= known
    assert attributes["messaging.operation.type"] in {
        one.value for one in messaging_attributes.MessagingOperationTypeValues
    }
    assert attributes["messaging.system"] == "memory"
    assert span.name == (f"{operation} {queue}" if queue else operation)
    batch = "messaging.batch.message_count" in attributes
    assert span.kind is OF_OPERATION.get(operation, SpanKind.CLIENT if batch else SpanKind.PRODUCER)
    assert ("messaging.message.id" in attributes) is not batch
    scope = span.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.schema_url) == ("queuekit_otel", Schemas.V1_44_0.value)


def test_names_the_schema_that_it_follows() -> None:
    """The URL is that of the release of the conventions that the tests check against."""
    assert Schemas.V1_44_0.value == SCHEMA


def test_chain(make: Callable[..., Queuekit], spans: Spans) -> None:
    """The first link is created and sent; the second is created below the run of the first; each run links back."""
    app = make()
    add = app.tasks["add"]

    app.send(chain(add.s(1, 2), add.s(3)))
    burst(app)

    check_golden("chain", spans)


def test_chord(make: Callable[..., Queuekit], spans: Spans) -> None:
    """Two members are created and sent in one round trip; the callback is created below the run of one of them."""
    app = make()
    add = app.tasks["add"]

    app.send(chord(group(add.s(1, 2), add.s(3, 4)), app.tasks["total"].s()))
    burst(app)

    check_golden("chord", spans)


def test_retry(make: Callable[..., Queuekit], spans: Spans) -> None:
    """Each attempt is a span of its own, with the error that ended it, and links to the send."""
    app = make()

    @app.task(name="flaky", retries=1, retry=Fixed(0))
    def flaky() -> None:
        raise ConnectionError("no")

    flaky.send()
    burst(app)

    check_golden("retry", spans)


def test_batch(make: Callable[..., Queuekit], spans: Spans) -> None:
    """Three messages are three creations and one send with three links; with ``settle`` also one of settling."""
    app = make(settle=True)
    add = app.tasks["add"]

    app.send_many(add.s(number) for number in range(3))
    worker = burst(app)

    (sent,) = spans.of("send")
    assert linked(sent) == [identity(span) for span in spans.of("create")]
    assert [linked(span) for span in spans.of("process")] == [[identity(span)] for span in spans.of("create")]
    settled = spans.of("settle")
    assert sum(int(str((span.attributes or {})["messaging.batch.message_count"])) for span in settled) == 3
    assert all((span.attributes or {})["messaging.client.id"] == worker.name for span in settled)
    assert all((span.end_time or 0) > (span.start_time or 0) for span in settled)
    for span in spans.all:
        check_conventions(span)


def test_no_span_of_what_is_only_prefetched(make: Callable[..., Queuekit], spans: Spans) -> None:
    """While one body runs, what the worker holds besides has no span; nothing is ever received by the application."""
    app = make()
    seen: list[list[str]] = []

    @app.task(name="look")
    def look() -> None:
        seen.append(spans.names)

    for _ in range(5):
        look.send()
    burst(app)

    sends = ["send default"] * 5
    assert seen == [sends + ["process default"] * number for number in range(5)]


def test_parent_continues_the_trace_of_the_send(make: Callable[..., Queuekit], spans: Spans) -> None:
    """With ``parent = "parent"`` a run is below its send, and keeps the link."""
    app = make(parent="parent")

    app.tasks["add"].send(1, 2)
    burst(app)

    (sent,), (ran,) = spans.of("send"), spans.of("process")
    assert (parent_of(ran), linked(ran)) == (identity(sent), [identity(sent)])


def test_ambient_span_is_the_parent_of_a_send(make: Callable[..., Queuekit], spans: Spans) -> None:
    """A send in a span of the application belongs to it, and so does what a coroutine sends."""
    app, tracer = make(), trace.get_tracer("test")

    with tracer.start_as_current_span("request") as request:
        app.tasks["add"].send(1)
        asyncio.run(app.tasks["add"].asend(2))
        app.send_many([app.tasks["add"].s(3)])

    sends = [span for span in spans.all if span.name in {"send sums", "create sums"}]
    expected = request.get_span_context()
    assert [parent_of(span) for span in sends] == [(expected.trace_id, expected.span_id)] * 4


def test_carried_context_is_the_parent_of_a_send(make: Callable[..., Queuekit], spans: Spans) -> None:
    """Without a span, the trace context that queuekit carries counts, as in an application that has no SDK itself."""
    app, expected = make(), span_in({"traceparent": PARENT})
    assert expected is not None

    with trace_context({"traceparent": PARENT}):
        app.tasks["add"].send(1)
        app.send_many([app.tasks["add"].s(3)])

    assert [parent_of(span) for span in spans.all] == [(expected.trace_id, expected.span_id)] * 3


@pytest.mark.parametrize("parent", ["link", "parent"])
def test_no_span_is_begun_before_a_provider_is_set(
    make: Callable[..., Queuekit], spans: Spans, monkeypatch: pytest.MonkeyPatch, parent: str
) -> None:
    """Until then the carried context alone goes on: to runs, follow-ups and sends inside; then there are spans."""
    with monkeypatch.context() as patch:
        patch.setattr("opentelemetry.trace._TRACER_PROVIDER", None)
        app, begun, seen = make(parent=parent), list[Any](), list[str]()

        def noted(*args: Any, **options: Any) -> Any:
            begun.append(args[1])
            return begin(*args, **options)

        patch.setattr("queuekit_otel.tracing.begin", noted)
        leaf = app.task(name="leaf")(lambda: seen.append(trace_headers()["traceparent"]))

        @app.task(name="root")
        def root() -> None:
            seen.append(trace_headers()["traceparent"])
            leaf.send()
            app.send_many([leaf.s()])

        with trace_context({"traceparent": PARENT}):
            root.options(on_success=(leaf.si(),)).send()
        burst(app)
        assert (seen, spans.all) == ([PARENT] * 4, [])
        assert parent == "parent" or begun == []
    leaf.options(headers={"traceparent": PARENT}).send()
    burst(app)

    (sent,), (ran,) = spans.of("send"), spans.of("process")
    carried = span_in({"traceparent": PARENT})
    assert carried is not None
    assert parent_of(sent) == (carried.trace_id, carried.span_id)
    assert linked(ran) == [identity(sent)]


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("eager", [False, True], ids=["worker", "eager"])
def test_body_runs_in_its_span(make: Callable[..., Queuekit], spans: Spans, kind: str, *, eager: bool) -> None:
    """The body's current span is that of its run, as are the headers that it passes on, and what it sends."""
    app = make(eager=eager)
    seen: list[tuple[int, dict[str, str]]] = []

    def note() -> None:
        seen.append((trace.get_current_span().get_span_context().span_id, trace_headers()))

    @app.task(name="plain")
    def plain() -> None:
        note()
        app.tasks["add"].send(1)

    @app.task(name="coroutine")
    async def coroutine() -> None:
        note()
        await app.tasks["add"].asend(1)

    (plain if kind == "def" else coroutine).send()
    if not eager:
        burst(app)

    ran = next(span for span in spans.of("process") if span.name == "process default")
    inner = next(span for span in spans.of("send") if span.name == "send sums")
    ((current, headers),) = seen
    carried = span_in(headers)
    assert carried is not None
    assert ((carried.trace_id, carried.span_id), current) == (identity(ran), carried.span_id)
    assert parent_of(inner) == identity(ran)


def test_baggage_reaches_the_run_and_what_follows(make: Callable[..., Queuekit], spans: Spans) -> None:
    """What the sender has in its baggage, the body has in its own, and so has the body that follows it."""
    app = make()
    seen: list[Any] = []

    @app.task(name="note")
    def note(*_: Any) -> None:
        seen.append(baggage.get_baggage("user"))

    token = context.attach(baggage.set_baggage("user", "ann"))
    try:
        app.send(Signature("note", on_success=(Signature("note"),)))
    finally:
        context.detach(token)
    burst(app)

    assert seen == ["ann", "ann"]
    assert len(spans.of("create")) == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [(Retry(), StatusCode.UNSET), (Snooze(0), StatusCode.UNSET), (Cancel(), StatusCode.UNSET)],
    ids=["Retry", "Snooze", "Cancel"],
)
def test_putting_off_is_not_an_error(
    make: Callable[..., Queuekit], spans: Spans, error: Exception, status: StatusCode
) -> None:
    """A body that puts its message off, or ends it, has not failed; the span says which."""
    app = make()
    raised = [error]

    @app.task(name="wait", retries=1, retry=Fixed(0))
    def wait() -> None:
        if raised:
            raise raised.pop()

    wait.send()
    burst(app)

    first = spans.of("process")[0]
    assert (first.status.status_code, (first.attributes or {})["queuekit.task.ended_by"]) == (
        status,
        type(error).__name__,
    )


def test_an_error_without_text_is_recorded(make: Callable[..., Queuekit], spans: Spans) -> None:
    """An error whose text cannot be made ends the span as any other, and the task as without spans."""
    app = make()

    class HostileError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    @app.task(name="hostile")
    def hostile() -> None:
        raise HostileError

    failed = hostile.send()
    burst(app)

    (ran,) = spans.of("process")
    assert (ran.status.status_code, failed.info().state) == (StatusCode.ERROR, "FAILURE")
    assert str((ran.attributes or {})["error.type"]).endswith("HostileError")


def test_a_send_that_fails_ends_its_span(spans: Spans) -> None:
    """The span of a send that the broker does not answer has the error; the caller gets it as without spans."""
    app = flaky_app(otel={"enabled": True}, send_timeout=0.05)
    app.task(name="add")(lambda: None)
    broker_of(app).wire.cut = {"send"}

    with pytest.raises(UnavailableError):
        app.tasks["add"].send()

    (sent,) = spans.all
    assert (sent.status.status_code, (sent.attributes or {})["error.type"]) == (
        StatusCode.ERROR,
        "queuekit.errors.UnavailableError",
    )


def test_an_unencodable_call_ends_its_span(make: Callable[..., Queuekit], spans: Spans) -> None:
    """The span of a call that cannot be written has the error, and the next send its own span."""
    app = make()

    with pytest.raises(EncodeError):
        app.tasks["add"].send(object())
    app.send_many([app.tasks["add"].s(1)])

    assert spans.names == ["send sums", "create sums", "send sums"]


def test_the_users_signature_stays_as_it_was(make: Callable[..., Queuekit], spans: Spans) -> None:
    """A signature that is sent twice is two messages, each with its own id and span."""
    app = make()
    call = app.tasks["add"].s(1, 2)

    ids = {call.send().id, call.send().id}

    assert (len(ids), call.id, call.headers) == (2, None, {})
    assert len(spans.of("send")) == 2


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:6380/0", {"messaging.system": "redis", "server.address": "h", "server.port": 6380}),
        ("rediss+cluster://a,b", {"messaging.system": "redis", "server.address": "a"}),
        ("redis+unix:///run/redis.sock", {"messaging.system": "redis"}),
        ("mongodb+srv://cluster.example/db", {"messaging.system": "mongodb", "server.address": "cluster.example"}),
        ("amqps://u:p@h", {"messaging.system": "rabbitmq", "server.address": "h"}),
        ("sqs://eu-west-1", {"messaging.system": "aws_sqs", "server.address": "eu-west-1"}),
        ("sqlite:///jobs.db", {"messaging.system": "sqlite"}),
        ("memory://x", {"messaging.system": "memory"}),
        ("example://[::1]:5", {"messaging.system": "example", "server.address": "::1", "server.port": 5}),
        ("example://[::1]", {"messaging.system": "example", "server.address": "::1"}),
    ],
)
def test_names_the_broker(url: str, expected: dict[str, Any]) -> None:
    """``messaging.system`` is the real broker, and no user or password is among the attributes."""
    assert about_broker(EngineURL.parse(url)) == expected


def test_metrics(make: Callable[..., Queuekit]) -> None:
    """The four metrics of the conventions count what was sent and run; names and units are those of the registry."""
    found = reader()
    app = make()

    @app.task(name="fails", queue="metered")
    def fails() -> None:
        raise ConnectionError("no")

    @app.task(name="works", queue="metered")
    def works() -> None:
        pass

    works.send()
    app.send_many([works.s(), fails.s()])
    burst(app)

    points = _points(found)
    assert {name for name, _, _ in points} <= constants(messaging_metrics)
    assert points["messaging.client.sent.messages", "{message}", ""] == 3
    assert points["messaging.client.operation.duration", "s", ""] == 2
    assert points["messaging.client.consumed.messages", "{message}", ""] == 2
    assert points["messaging.process.duration", "s", "ConnectionError"] == 1


def test_counts_what_limits_let_wait(make: Callable[..., Queuekit]) -> None:
    """By limit and queue; keys of limits are no attribute."""
    found = reader()
    app = make()
    app.task(name="pay", queue="sums", limits=[Rate("1/h", key=arg("who"), name="smtp")])(lambda who: who)
    app.send_many([app.tasks["pay"].s("ann") for _ in range(3)])

    burst(app)

    data: Any = found.get_metrics_data()
    measured = [one for resource in data.resource_metrics for scope in resource.scope_metrics for one in scope.metrics]
    (metric,) = [one for one in measured if one.name == "queuekit.limit.refused"]
    (point,) = metric.data.data_points
    assert (metric.unit, point.value) == ("{message}", 2)
    assert point.attributes == {
        "messaging.system": "memory",
        "messaging.destination.name": "sums",
        "queuekit.limit.name": "smtp",
    }


def _points(found: InMemoryMetricReader) -> dict[tuple[str, str, str], int]:
    """Return the counts on the queue ``metered`` by name, unit and error."""
    data: Any = found.get_metrics_data()
    return {
        (metric.name, metric.unit, point.attributes.get("error.type", "")): getattr(point, "count", None) or point.value
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        if scope.scope.name == "queuekit_otel"
        for metric in scope.metrics
        if metric.name.startswith("messaging.")
        for point in metric.data.data_points
        if point.attributes.get("messaging.destination.name") == "metered"
    }


@pytest.mark.parametrize("method", ["on_start", "on_end"])
def test_processor_that_fails_changes_no_outcome(
    make: Callable[..., Queuekit], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """A span processor of the application that raises makes neither a send nor a run fail."""

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no room")

    exporter()
    monkeypatch.setattr(SimpleSpanProcessor, method, broken)
    app = make(settle=True)

    single, both = app.tasks["add"].send(1, 2), group([app.tasks["add"].s(3), app.tasks["add"].s(4)]).send()
    burst(app)

    assert single.get(timeout=0) == 3
    assert both.get(timeout=0) == [3, 4]


def test_processes_export_their_spans_before_they_end(tmp_path: Path) -> None:
    """A sender and a worker export what they hold at their end; a body apart has half a second for it, and may not."""
    write(tmp_path, {"tasks.py": KEEPING})
    for task in ("here", "apart"):
        queuekit("send", task, "--app", "tasks:app", folder=tmp_path)

    done = queuekit("worker", "tasks:app", "--burst", folder=tmp_path)

    spans = {*(tmp_path / "spans.txt").read_text().splitlines()}
    assert done.returncode == 0
    assert spans - {"process default apart"} == {"process default here", "send default apart", "send default here"}


def test_off_by_default() -> None:
    """Without ``enabled`` the plugin adds neither middleware nor subscriber, and imports nothing."""
    program = (
        "import sys; from queuekit import Queuekit; app = Queuekit(broker='memory://x'); app.runtime;"
        "print(app.runtime.stages.at_send, app.runtime.stages.around_run, 'opentelemetry' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "None", "False"]


def test_rejects_another_parent() -> None:
    """A value that ``parent`` has not is a mistake in the settings."""
    app = Queuekit(broker="memory://x", otel={"enabled": True, "parent": "message"})

    with pytest.raises(ConfigError, match="parent"):
        app.send(Signature("t"))
