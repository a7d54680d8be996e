"""``queuekit metrics``: what the broker says about the queues, and the backend about limits, for Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import click
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from queuekit.broker import Place, QueueCounts
from queuekit.errors import CapabilityError, UnavailableError
from queuekit.limits import LimitView
from queuekit_prometheus.exposition import serve

__all__ = ["QueueCollector", "command"]

_STATES = {Place.READY: "waiting", Place.DELAYED: "delayed", Place.LEASED: "running", Place.DEAD: "dead"}


class QueueCollector(Collector):
    """Asks the broker of *app* at each scrape: one listing, one count of all queues; and the backend for limits."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering asks no broker."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; without an answer of the broker, only that it is down."""
        up = GaugeMetricFamily("queuekit_broker_up", "Whether the broker has answered this scrape.")
        try:
            counts = self._counts()
        except UnavailableError:
            counts = None
        up.add_metric([], 0 if counts is None else 1)
        yield up
        if counts is not None:
            yield from _of_queues(counts)
            yield from _of_limits(self._limits(), self._app.runtime.now())

    def _counts(self) -> dict[str, QueueCounts]:
        """Return the counts of the queues of the broker, of the settings and of tasks; some brokers list none."""
        app, broker = self._app, self._app.runtime.broker
        named = {app.config.default_queue, *app.config.worker.queues}
        named |= {task.defaults.queue for task in app.tasks.values() if task.defaults.queue}
        if broker.capabilities.inspect:
            named.update(broker.queues())
        found: dict[str, QueueCounts] = broker.counts(sorted(named))
        return found

    def _limits(self) -> list[LimitView]:
        """Return the limits and the keys of them that are in use; nothing without a backend that can list them."""
        backend = self._app.runtime.backend
        if backend is None or not backend.capabilities.scan:
            return []
        try:
            found: list[LimitView] = self._app.limits()
        except UnavailableError:
            return []
        return found


def _of_limits(views: list[LimitView], now: float) -> Iterator[Metric]:
    """Yield what is true of all keys of each limit together: a key may name a customer, so no label has it."""
    held = GaugeMetricFamily("queuekit_limit_slots_held", "Slots of a limit that are held.", labels=("limit",))
    text = "Messages and blocks that wait in line for a slot."
    waiting = GaugeMetricFamily("queuekit_limit_waiting", text, labels=("limit",))
    text = "Seconds until a message of the busiest key that arrives now may start; 0 if at once."
    delay = GaugeMetricFamily("queuekit_limit_delay_seconds", text, labels=("limit",))
    slowed = GaugeMetricFamily("queuekit_limit_slowed_keys", "Keys that a task has slowed down.", labels=("limit",))
    for name in sorted({view.name for view in views}):
        keys = [view for view in views if view.name == name]
        starts = [max(view.next_start or now, view.until or now) for view in keys]
        held.add_metric([name], sum(len(view.holders) for view in keys))
        waiting.add_metric([name], sum(view.waiting for view in keys))
        delay.add_metric([name], max(0.0, max(starts) - now))
        slowed.add_metric([name], sum((view.until or 0.0) > now for view in keys))
    yield from (held, waiting, delay, slowed)


def _of_queues(counts: dict[str, QueueCounts]) -> Iterator[Metric]:
    messages = GaugeMetricFamily("queuekit_queue_messages", "Messages of a queue.", labels=("queue", "state"))
    text = "Seconds since the oldest waiting message became due; 0 if none waits."
    oldest = GaugeMetricFamily("queuekit_queue_oldest_age_seconds", text, labels=("queue",))
    for queue, found in sorted(counts.items()):
        for place, state in _STATES.items():
            number = getattr(found, place)
            if number or place not in found.at_least:  # 0 at least is nothing known, and a lower bound better than none
                messages.add_metric([queue, state], number)
        if found.oldest_age is not None or (not found.ready and Place.READY not in found.at_least):
            oldest.add_metric([queue], found.oldest_age or 0.0)
    yield messages
    yield oldest


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535), default=9465, show_default=True, help="Port to listen on.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--once", is_flag=True, help="Print the metrics and exit.")
@click.pass_obj
def command(session: Any, *, port: int, host: str, once: bool) -> None:
    """Serve metrics of queues and limits for Prometheus: messages by state, the age of the oldest, slots in use.

    One such process is enough for all workers. Each scrape asks the broker twice, however many messages there are, and
    reads one record for each key of a limit that is in use.
    """
    app = session.shared_app()
    able = app.runtime.broker.capabilities  # what is wrong with a URL or a plugin ends the command here
    if not able.counts:
        scheme = app.runtime.broker_url.scheme
        raise CapabilityError(f"{scheme}:// cannot count messages, so there is nothing to measure")
    collector = QueueCollector(app)
    if once:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(collector)
        click.echo(generate_latest(registry).decode(), nl=False)
        return
    server, thread = serve(collector, port=port, host=host)
    click.echo(f"metrics  http://{host}:{server.server_port}/metrics", err=True)
    try:
        threading.Event().wait()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
