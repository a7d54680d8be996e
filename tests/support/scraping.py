"""A scrape of metrics, as Prometheus would read it."""

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from support.waiting import PATIENCE

__all__ = ["Samples", "samples", "scrape"]

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(address: str) -> Samples:
    """Return all samples at *address*, by name and labels."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE) as answer:
        return samples(answer.read().decode())


def samples(text: str) -> Samples:
    """Return the samples in an exposition."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
