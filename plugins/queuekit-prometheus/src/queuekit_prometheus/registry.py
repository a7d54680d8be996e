"""Add the metrics of this process to the default registry of prometheus_client."""

from __future__ import annotations

from functools import cache

from prometheus_client import REGISTRY

from queuekit_prometheus.exposition import TallyCollector
from queuekit_prometheus.tally import TALLY

__all__ = ["register_once"]


@cache
def register_once() -> None:
    """Register the collector, however many apps ask for it."""
    REGISTRY.register(TallyCollector(TALLY.snapshot))
