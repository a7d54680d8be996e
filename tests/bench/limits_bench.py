"""Measure what limits cost a message that does not have to wait: ``python tests/bench/limits_bench.py``.

A worker works off messages of an empty task without limits, with a rate and with a concurrency limit that let all of
them start, and with one whose only slot they take one after the other. The ways take turns. Microseconds of CPU of the
quickest round, and round trips to the engine; those of a message that waits are in the last row. Nothing here judges.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from typing import Any

from queuekit import Queuekit
from queuekit.ids import new_id
from queuekit.limits import Concurrency, Limit, Rate
from queuekit.worker import Worker

MESSAGES, ROUNDS = 1_000, 7
WAYS: dict[str, list[Limit]] = {
    "off": [],
    "Rate": [Rate("1000000/s", burst=1_000)],
    "Concurrency": [Concurrency(1_000)],
    "both": [Rate("1000000/s", burst=1_000), Concurrency(1_000)],
    "in line": [Concurrency(1)],
}
"""Way -> limits of its task."""
VERBS = {"broker": ("receive", "settle", "commit", "extend"), "backend": ("get", "put", "delete")}


def main() -> None:
    """Print a table for each engine: a way a row."""
    with tempfile.TemporaryDirectory() as folder:
        for engine, url in {"memory": "memory://", "sqlite": f"sqlite:///{folder}/"}.items():
            _measure(engine, url)


def _measure(engine: str, url: str) -> None:
    best, trips = dict.fromkeys(WAYS, 1e9), dict.fromkeys(WAYS, 1e9)
    for _ in range(ROUNDS):
        for way, limits in WAYS.items():
            spent, calls = _round(f"{url}{new_id()}", limits)
            best[way], trips[way] = min(best[way], spent), min(trips[way], calls)
    print(f"{engine:<14}{'us of CPU':>12}{'as off':>10}{'trips':>10}")
    for way in WAYS:
        print(f"{way:<14}{best[way]:>12.0f}{best[way] / best['off']:>10.2f}{trips[way]:>10.2f}")


def _round(url: str, limits: list[Limit]) -> tuple[float, float]:
    """Return the microseconds of CPU and the round trips of a message."""
    app = Queuekit(broker=url, worker={"concurrency": 10}, log={"level": "CRITICAL"})
    task = app.task(name="idle", limits=limits, ignore_result=True)(lambda: None)
    app.send_many([task.s() for _ in range(MESSAGES)])
    calls = Counter[str]()
    for engine, verbs in VERBS.items():
        for verb in verbs:
            _count(getattr(app.runtime, engine), verb, calls)
    worker, begun = Worker(app, burst=True), time.process_time()
    worker.run()
    spent = time.process_time() - begun
    assert worker.stats["done"] == MESSAGES, worker.stats
    return spent / MESSAGES * 1e6, calls.total() / MESSAGES


def _count(engine: Any, verb: str, calls: Counter[str]) -> None:
    """Count the calls of *verb*."""
    call = getattr(engine, verb)

    def counted(*args: Any, **options: Any) -> Any:
        calls[verb] += 1
        return call(*args, **options)

    setattr(engine, verb, counted)


if __name__ == "__main__":
    main()
