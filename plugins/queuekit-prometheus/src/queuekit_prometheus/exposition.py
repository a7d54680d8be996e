"""The metrics, by name, from the numbers of a tally."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from queuekit.errors import ConfigError
from queuekit_prometheus.tally import BOUNDS, Key

__all__ = ["TallyCollector", "serve"]

_COUNTERS = {
    "tasks": ("queuekit_tasks", "Deliveries that ended, by outcome.", ("queue", "task", "outcome")),
    "dead": ("queuekit_dead_letters", "Messages that became dead letters, by reason.", ("queue", "task", "reason")),
    "dropped": ("queuekit_dead_letters_dropped", "Dead letters dropped beyond their bounds.", ("queue", "reason")),
    "sent": ("queuekit_messages_sent", "Messages that a send has stored.", ("queue", "task")),
    "limited": ("queuekit_limit_refused", "Deliveries that a limit has let wait.", ("limit",)),
    "errors": ("queuekit_engine_errors", "Calls that broker or backend did not answer.", ("operation",)),
    "ticks": ("queuekit_schedule_ticks", "Ticks of schedules, by what became of them.", ("outcome",)),
    "recycled": ("queuekit_recycled", "Processes that were replaced at a bound.", ("process", "reason")),
    "crashes": ("queuekit_worker_crashes", "Worker processes that died.", ()),
}
_HISTOGRAMS = {
    "run": ("queuekit_task_duration_seconds", "Time that bodies ran.", ("queue", "task")),
    "wait": ("queuekit_task_wait_seconds", "Time from due to start.", ("queue", "task")),
    "late": ("queuekit_schedule_lateness_seconds", "Time from a tick until its call was sent.", ()),
}
_LOST = ("queuekit_leases_lost", "Deliveries whose lease ended before they were settled.", ("queue",))
_LOAD = ("queuekit_worker_messages", "Messages in a worker: running, or prefetched.", ("state",))


class TallyCollector(Collector):
    """Collects the metrics of what *snapshot* returns."""

    def __init__(self, snapshot: Callable[[], Mapping[Key, float]]) -> None:
        self._snapshot = snapshot

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering asks no process."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield each metric, also one without samples."""
        series: dict[str, dict[Key, float]] = defaultdict(dict)
        for key, value in self._snapshot().items():
            series[key[0]][key[1:]] = value
        for name, (metric, text, labels) in _COUNTERS.items():
            yield _counter(metric, text, labels, series[name])
        lost: dict[Key, float] = {(queue,): 0.0 for queue, _, outcome in series["tasks"] if outcome == "lost"}
        for (queue, _, outcome), value in series["tasks"].items():
            if outcome == "lost":
                lost[queue,] += value
        yield _counter(*_LOST, lost)
        for name, (metric, text, labels) in _HISTOGRAMS.items():
            yield _histogram(metric, text, labels, series[name])
        load = GaugeMetricFamily(_LOAD[0], _LOAD[1], labels=_LOAD[2])
        for state, value in series["load"].items():
            load.add_metric(state, value)
        yield load
        info = GaugeMetricFamily("queuekit_build_info", "Version of queuekit.", labels=("version",))
        info.add_metric([version("queuekit")], 1)
        yield info


def _counter(name: str, text: str, labels: tuple[str, ...], series: Mapping[Key, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in sorted(series.items()):
        family.add_metric(key, value)
    return family


def _histogram(name: str, text: str, labels: tuple[str, ...], series: Mapping[Key, float]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for key in sorted({key[:-1] for key in series}):
        total, buckets = 0.0, []
        for place in range(len(BOUNDS) + 1):
            total += series.get((*key, str(place)), 0)
            buckets.append((f"{BOUNDS[place]:g}" if place < len(BOUNDS) else "+Inf", total))
        family.add_metric(key, buckets, sum_value=series.get((*key, "sum"), 0.0))
    return family


def serve(collector: Collector, *, port: int, host: str) -> tuple[WSGIServer, Thread]:
    """Serve what *collector* collects, and return the server and its thread.

    Raises:
        ConfigError: It cannot listen there.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    try:
        return start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigError(
            f"cannot serve metrics on {host}:{port}: {error.strerror or error}",
            fix="Choose another port, or stop the program that uses it",
        ) from error
