"""Measure what metrics and traces cost a task: ``python tests/bench/plugin_bench.py [--rounds 5]``.

Each way is a process of its own, since providers of OpenTelemetry are set once; all ways take turns. One thread
prepares a delivery, runs its empty body and announces outcomes in batches of a hundred, or sends: by turns for an app
with the plugin and for one without, in the same process. Microseconds of its processor time, the best loop of each, the
one less the other; then the median of all rounds. The rows of the SDK are the least calls of it that make the same span
and record the same figures, without queuekit. Nothing here judges.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from queuekit import Queuekit, Signature
from queuekit.broker import Delivery
from queuekit.client.sender import Sending
from queuekit.execution.announce import announce_settled
from queuekit.execution.executor import Executor
from queuekit.execution.outcome import Outcome, Run

BATCH, LOOPS, ROUNDS = 100, 1_000, 20
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ON: dict[str, Any] = {"otel": {"enabled": True}}
WAYS: dict[str, tuple[str, dict[str, Any], tuple[str, ...], dict[str, str]]] = {
    "none": ("nothing", {}, (), {}),
    "prometheus": ("queuekit-prometheus, with a port", {"prometheus": {"port": 0}}, (), {}),
    "otel": ("queuekit-otel, no provider of spans set", ON, (), {}),
    "otel carried": ("the same, the message carries a context", ON, (), {"traceparent": PARENT}),
    "otel spans": ("queuekit-otel, SDK for spans", ON, ("spans",), {"traceparent": PARENT}),
    "otel all": ("the same, and SDK for metrics", ON, ("spans", "metrics"), {"traceparent": PARENT}),
}
"""Way -> title, settings, providers, headers of the message."""
SDK = {
    "span": "the SDK alone: a span",
    "histogram": "the SDK alone: a histogram",
    "counter": "the SDK alone: a counter",
}


def main() -> None:
    """Print a table, or measure one way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--way", choices=[*WAYS, *SDK], help="print the figures of one way")
    options = parser.parse_args()
    if options.way:
        print(*(_of_queuekit if options.way in WAYS else _of_sdk)(options.way))
        return
    found: dict[str, list[list[float]]] = {way: [] for way in [*WAYS, *SDK]}
    for _ in range(options.rounds):
        for way, figures in found.items():
            command = [sys.executable, __file__, "--way", way]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            figures.append([float(word) for word in done.stdout.split()])
    middle = {way: [median(column) for column in zip(*figures, strict=True)] for way, figures in found.items()}
    print(f"us of CPU{'':<36}{'a run':>9}{'a send':>9}")
    for way, (title, *_) in WAYS.items():
        run, send = middle[way]
        print(f"{title:<45}{run:>9.1f}{send:>9.1f}")
    for way, title in SDK.items():
        print(f"{title:<45}{middle[way][0]:>9.1f}")


def _of_queuekit(way: str) -> tuple[float, float]:
    """Return the microseconds of a run and of a send; those of a way with plugins are what it adds."""
    _, settings, providers, headers = WAYS[way]
    _provide(providers)
    plain, used = _loops({}, headers), _loops(settings, headers)
    found: list[list[float]] = [[], [], [], []]
    for _ in range(ROUNDS):
        for times, loop in zip(found, [*plain, *used], strict=True):
            times.append(_once(loop))
    run, send, plugged_run, plugged_send = map(min, found)
    return (run, send) if way == "none" else (plugged_run - run, plugged_send - send)


def _loops(settings: dict[str, Any], headers: dict[str, str]) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return loops of runs and of sends of an app with *settings*."""
    app = Queuekit(broker="memory://bench", backend="none", log={"level": "WARNING"}, **settings)
    task = app.task(name="idle")(lambda: None)
    executor = Executor(app.runtime, app.tasks, Sending(app.runtime, app.tasks), worker="bench")
    app.send(Signature("idle", headers=headers))
    (delivery,) = app.runtime.broker.receive(["default"], limit=1, wait=1, lease=60)
    return lambda: _run(app, executor, delivery), lambda: _send(app, task)


def _run(app: Queuekit, executor: Executor, delivery: Delivery) -> None:
    outcomes: list[Outcome] = []
    for _ in range(LOOPS):
        run = executor.prepare(delivery, {})
        assert isinstance(run, Run)
        outcomes.append(executor.call(run))
        if len(outcomes) == BATCH:
            announce_settled(app.events, outcomes, worker="bench")
            outcomes.clear()


def _send(app: Queuekit, task: Any) -> None:
    for _ in range(LOOPS):
        task.send()
    app.runtime.broker.purge("default")


def _best(work: Callable[[], object]) -> float:
    """Return the microseconds of one of the loops of *work*, in the quickest round."""
    return min(_once(work) for _ in range(ROUNDS))


def _once(work: Callable[[], object]) -> float:
    """Return the microseconds of one of the loops of *work*."""
    begun = time.thread_time()
    work()
    return (time.thread_time() - begun) / LOOPS * 1e6


def _provide(kinds: tuple[str, ...]) -> None:
    """Set providers of the SDK whose exporters drop what they get."""
    if "spans" in kinds:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

        class Nowhere(SpanExporter):
            """Drops spans."""

            def export(self, spans: Any) -> SpanExportResult:
                """Drop *spans*."""
                return SpanExportResult.SUCCESS

        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(Nowhere()))
        trace.set_tracer_provider(provider)
    if "metrics" in kinds:
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))


def _of_sdk(way: str) -> tuple[float]:
    """Return the microseconds of the least calls of the SDK."""
    from opentelemetry import context, metrics, trace
    from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags

    _provide(("spans",) if way == "span" else ("metrics",))
    tracer, meter = trace.get_tracer("bench"), metrics.get_meter("bench")
    sent = SpanContext(1, 2, True, TraceFlags(1))  # noqa: FBT003 - is_remote
    about: dict[str, Any] = {
        "messaging.system": "memory",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "default",
    }
    of_run = about | {"queuekit.task.name": "idle", "messaging.message.id": "x", "messaging.client.id": "w"}
    of_run |= {"messaging.message.conversation_id": "x", "queuekit.task.attempt": 0}
    counter, histogram = meter.create_counter("count"), meter.create_histogram("seconds")

    def span() -> None:
        for _ in range(LOOPS):
            made = tracer.start_span("process default", None, SpanKind.CONSUMER, of_run, [Link(sent)])
            token = context.attach(trace.set_span_in_context(made))
            context.detach(token)
            made.end()

    def record() -> None:
        for _ in range(LOOPS):
            histogram.record(0.01, about)

    def count() -> None:
        for _ in range(LOOPS):
            counter.add(1, about)

    return (_best({"span": span, "histogram": record, "counter": count}[way]),)


if __name__ == "__main__":
    main()
