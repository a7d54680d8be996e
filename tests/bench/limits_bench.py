"""Measure what limits and lanes cost a message: ``python tests/bench/limits_bench.py [URL]...``.

A worker works off messages of an empty task without limits, with a rate and with a concurrency limit that let all of
them start, with one whose only slot they take one after the other, with ten lanes, without and with a weight, with a
lane for each message, and with unique keys. The ways take turns.

Columns: microseconds of CPU of the quickest round, for the send and for the worker, without those of a server; calls of
the worker to the engine for a message; calls for a batch, at the claim (with the claim itself), and when it ends (with
its commit). Engines are in memory, SQLite, and those of the URLs, which end with a name or prefix that is made unique.
Nothing here judges.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from queuekit import Queuekit, UniqueKey
from queuekit.fair import Fair
from queuekit.ids import new_id
from queuekit.limits import Concurrency, Rate, arg
from queuekit.worker import Worker

MESSAGES, ROUNDS = 1_000, 7
WAYS: dict[str, dict[str, Any]] = {
    "off": {},
    "Rate": {"limits": [Rate("1000000/s", burst=1_000)]},
    "Concurrency": {"limits": [Concurrency(1_000)]},
    "both": {"limits": [Rate("1000000/s", burst=1_000), Concurrency(1_000)]},
    "in line": {"limits": [Concurrency(1)]},
    "ten lanes": {"fair_by": arg("ten")},
    "with a weight": {"fair_by": Fair(arg("ten"), weights={"0": 9})},
    "a lane each": {"fair_by": arg("each")},
    "unique": {"unique": UniqueKey(by="each")},
}
"""Way -> options of its task."""
FETCHER, SETTLER = "queuekit-fetcher", "queuekit-settler"
VERBS = {"broker": ("receive", "settle", "commit", "extend", "find"), "backend": ("get", "put", "delete")}


def main(urls: Sequence[str]) -> None:
    """Print a table for each engine: a way a row."""
    with tempfile.TemporaryDirectory() as folder:
        for url in ("memory://", f"sqlite:///{folder}/", *urls):
            _measure(url)


def _measure(url: str) -> None:
    best = {way: [1e9] * 5 for way in WAYS}
    for _ in range(ROUNDS):
        for way, options in WAYS.items():
            best[way] = list(map(min, best[way], _round(f"{url}{new_id()}", options)))
    print(
        f"{url.partition(':')[0]:<14}{'send us':>10}{'as off':>8}{'worker us':>12}{'as off':>8}{'calls':>8}"
        f"{'a batch, claim':>16}{'end':>6}"
    )
    off = best["off"]
    for way, (sent, worked, calls, claim, end) in best.items():
        print(
            f"{way:<14}{sent:>10.1f}{sent / off[0]:>8.2f}{worked:>12.0f}{worked / off[1]:>8.2f}{calls:>8.2f}"
            f"{claim:>16.1f}{end:>6.1f}"
        )


def _round(url: str, options: dict[str, Any]) -> tuple[float, ...]:
    """Return the microseconds of CPU of a message, sent and worked off, and the worker's calls to the engine.

    The calls are those for a message, and those for a batch, at the claim and at the end.
    """
    app = Queuekit(broker=url, worker={"concurrency": 10}, log={"level": "CRITICAL"})
    task = app.task(name="idle", ignore_result=True, **options)(_idle)
    app.send_many([task.s(0, 0)])
    calls = Counter[tuple[str, str]]()
    begun = time.process_time()
    app.send_many([task.s(number % 10, number) for number in range(1, MESSAGES)])
    sent = time.process_time() - begun
    for engine, verbs in VERBS.items():
        for verb in verbs:
            _count(getattr(app.runtime, engine), verb, calls)
    worker, begun = Worker(app, burst=True), time.process_time()
    worker.run()
    spent = time.process_time() - begun
    assert worker.stats["done"] == MESSAGES, worker.stats
    by_thread = {name: sum(count for (thread, _), count in calls.items() if thread == name) for name, _ in calls}
    batches = calls[FETCHER, "receive"], calls[SETTLER, "commit"] + calls[SETTLER, "settle"]
    claim, end = by_thread[FETCHER] / batches[0], by_thread[SETTLER] / batches[1]
    return sent / MESSAGES * 1e6, spent / MESSAGES * 1e6, calls.total() / MESSAGES, claim, end


def _idle(ten: int, each: int) -> None:
    """Do nothing; the arguments name a lane of ten, and one of the message's own."""


def _count(engine: Any, verb: str, calls: Counter[tuple[str, str]]) -> None:
    """Count the calls of *verb* by thread; a claim that finds nothing does not count."""
    call = getattr(engine, verb)

    def counted(*args: Any, **options: Any) -> Any:
        answer = call(*args, **options)
        calls[threading.current_thread().name, verb] += verb != "receive" or bool(answer)
        return answer

    setattr(engine, verb, counted)


if __name__ == "__main__":
    main(sys.argv[1:])
