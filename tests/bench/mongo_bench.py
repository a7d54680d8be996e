"""Measure queuekit on MongoDB in one run beside raw pymongo and Celery: ``python tests/bench/mongo_bench.py``.

``QUEUEKIT_TEST_MONGO_URL`` names the deployment; without it a replica set of one is started. Rates are medians over
interleaved rounds; what matters are the ratios, since all figures of a run share one machine and one moment, the
server too. ``--parts`` measures less. Nothing here judges.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pymongo

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from mongo_raw import RawQueue, SameWrites  # noqa: E402 - it is found by the line above

from support.mongod import ReplicaSet  # noqa: E402 - ...

Rates = dict[str, list[float]]
PATH = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
PARTS = ("raw", "queuekit", "celery", "worker")
CPUS = psutil.cpu_count() or 1
RAW_CLAIMS = 2_000
"""Jobs that the raw loop claims one by one."""


def main() -> None:
    """Run all rounds and print the tables."""
    options = _options()
    rates: Rates = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="queuekit-bench-")))
        url = os.environ.get("QUEUEKIT_TEST_MONGO_URL") or stack.enter_context(_own_set(folder))
        measures = {"raw": _raw, "queuekit": _queuekit, "celery": _celery}
        for number in range(options.rounds):
            base = url.replace("/?", f"/bench{number}?")
            for part, measure in measures.items():
                if part in options.parts:
                    measure(base, options.count, rates)
                    print(".", end="", flush=True, file=sys.stderr)
            _drop(base)  # or the server would delete by the thousand what is out of date, while the next is measured
        print(file=sys.stderr)
        _print_rates({key: statistics.median(values) for key, values in rates.items()})
        if "worker" in options.parts:
            _print_floor(url.replace("/?", "/floor?"), options.samples)
            for streams in (True, False):
                _print_worker(url.replace("/?", "/idle?"), options.samples, streams=streams)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=30_000, help="tasks to drain")
    parser.add_argument("--samples", type=int, default=200, help="sends to an idle worker")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    return parser.parse_args()


@contextmanager
def _own_set(folder: Path) -> Iterator[str]:
    members = ReplicaSet(folder / "mongo")
    try:
        yield members.start().url("")
    finally:
        members.stop()


def _drop(url: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        client.drop_database(client.get_default_database().name)


# -- rates


def _raw(url: str, count: int, rates: Rates) -> None:
    """Measure what a script would do: at its least, and with the writes that we do."""
    with pymongo.MongoClient[dict[str, Any]](url, w="majority") as client:
        least = RawQueue(client)
        _note(rates, "raw bulk", least.bulk(count))
        _note(rates, "raw claim loop", least.drain(RAW_CLAIMS))
        least.close()
        for results, key in ((False, "without results"), (True, "with results")):
            same = SameWrites(client)
            _note(rates, f"same writes single {key}", same.bulk(count // 20, size=1, results=results))
            same.close()
            same = SameWrites(client)
            _note(rates, f"same writes bulk {key}", same.bulk(count, results=results))
            _note(rates, f"same writes drain {key}", same.drain(count, results=results))
            same.close()


def _queuekit(url: str, count: int, rates: Rates) -> None:
    os.environ["QUEUEKIT_BROKER"] = url
    import benchapp

    app = benchapp.app
    app.configure()
    client = pymongo.MongoClient[dict[str, Any]](url)
    messages = client.get_default_database()["queuekit_messages"]

    leased = {"queue": "default", "state": "leased", "until": {"$exists": True}}

    def left() -> bool:
        # A look must cost the server next to nothing: `counts` reads a key of every message.
        return any(messages.find_one(wanted) for wanted in ({"queue": "default", "state": "waiting"}, leased))

    app.send(benchapp.noop.s(0))
    app.runtime.broker.purge("default")
    single = count // 20
    for task, name in ((benchapp.silent, "without results"), (benchapp.noop, "with results")):
        since = time.perf_counter()
        for number in range(single):
            task.send(number)
        _note(rates, f"single {name}", single / (time.perf_counter() - since))
        app.runtime.broker.purge("default")
        for processes in (1, 2):
            since = time.perf_counter()
            app.send_many(task.s(number) for number in range(count))
            _note(rates, f"bulk {name}", count / (time.perf_counter() - since))
            with _workers(processes):
                # Each is at work before the clock starts: two that begin at once do so on the CPUs of all.
                while len(messages.distinct("session", leased)) < processes:
                    time.sleep(0.01)
                rest = messages.count_documents({"queue": "default", "state": {"$in": ["waiting", "leased"]}})
                _note(rates, f"drain {name}, {processes} process(es)", _drained(lambda: True, left, rest))
            messages.delete_many({"state": "done"})  # what is remembered of one drain is not to weigh on the next
    app.close()
    client.close()


def _celery(url: str, count: int, rates: Rates) -> None:
    """Measure Celery, which deletes a message as it takes it, on an eighth of the tasks."""
    count //= 8
    environ = {**os.environ, "BENCH_MONGO_URL": url.replace("/bench", "/celery"), "PYTHONPATH": PATH}
    script = (
        "import time, celeryapp\n"
        f"since = time.perf_counter()\nfor number in range({count}): celeryapp.noop.delay(number)\n"
        f"print({count} / (time.perf_counter() - since))"
    )
    with pymongo.MongoClient[dict[str, Any]](environ["BENCH_MONGO_URL"]) as client:
        messages = client.get_default_database()["messages"]
        for results, name in (("", "without results"), ("1", "with results")):
            environ["BENCH_RESULTS"] = results
            sent = subprocess.run(
                [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True
            )
            _note(rates, f"celery single {name}", float(sent.stdout))
            command = [sys.executable, "-m", "celery", "-A", "celeryapp", "worker", "-P", "threads", "-c", "8"]
            with _process([*command, "-l", "error"], environ):
                begun = lambda: messages.estimated_document_count() < count  # noqa: E731 - ...
                drained = _drained(begun, lambda: messages.find_one({"queue": "celery"}) is not None, count)
            _note(rates, f"celery drain {name}", drained)


def _drained(begun: Callable[[], bool], left: Callable[[], bool], count: int) -> float:
    """Return tasks a second between the moment that work has *begun* and the one that nothing is *left*."""
    while not begun():
        time.sleep(0.002)
    since = time.perf_counter()
    while left():
        time.sleep(0.05)  # a look takes a millisecond of the CPUs that are measured
    return count / (time.perf_counter() - since)


@contextmanager
def _workers(count: int) -> Iterator[list[int]]:
    command = [sys.executable, "-m", "queuekit.cli", "worker", "benchapp:app", "-c", "8", "-q", "default"]
    environ = {**os.environ, "PYTHONPATH": PATH, "QUEUEKIT_LOG__LEVEL": "WARNING"}
    with ExitStack() as stack:
        yield [stack.enter_context(_process(command, environ)) for _ in range(count)]


@contextmanager
def _process(command: list[str], environ: dict[str, str]) -> Iterator[int]:
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# -- one worker, looked at


def _print_floor(url: str, samples: int) -> None:
    """Print how long one write takes by itself, and until a change stream tells: a task is at least two writes."""
    with pymongo.MongoClient[dict[str, Any]](url, w="majority") as client:
        jobs = client.get_default_database()["floor"]
        jobs.insert_one({})
        inserted, told = [], []
        with jobs.watch(max_await_time_ms=1_000) as stream:
            stream.try_next()
            for _ in range(samples):
                since = time.perf_counter()
                jobs.insert_one({})
                inserted.append(time.perf_counter() - since)
                while stream.try_next() is None:
                    pass
                told.append(time.perf_counter() - since)
        jobs.drop()
    one, both = statistics.median(inserted) * 1000, statistics.median(told) * 1000
    print(f"raw insert_one: p50 {one:.1f} ms; until a change stream tells of it: p50 {both:.1f} ms")


def _print_worker(url: str, samples: int, *, streams: bool) -> None:
    os.environ["QUEUEKIT_BROKER"] = url + ("" if streams else "&change_streams=false")
    import benchapp

    app = benchapp.app
    app.configure()
    with _workers(1) as pids:
        benchapp.clock.send().get(timeout=30)
        waits = []
        for _ in range(samples):
            sent = time.monotonic()
            waits.append((benchapp.clock.send().get(timeout=30) - sent) * 1000)
            time.sleep(0.02 + 0.08 * (len(waits) % 2))
        share = _cpu(pids[0], seconds=10)
    app.close()
    waits.sort()
    how = "change streams" if streams else "polling"
    print(f"send to start by {how}: p50 {waits[len(waits) // 2]:.1f} ms, p95 {waits[int(len(waits) * 0.95)]:.1f} ms")
    print(f"idle worker by {how}: {share:.2f} % CPU")


def _cpu(pid: int, *, seconds: float) -> float:
    """Return the percentage of one CPU that a process and its children use."""
    time.sleep(12)  # a worker that looks by itself does so less often when there was nothing for ten seconds
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]

    def used() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in tree)

    before = used()
    time.sleep(seconds)
    return (used() - before) / seconds * 100


def _note(rates: Rates, key: str, value: float) -> None:
    rates.setdefault(key, []).append(value)


def _print_rates(medians: dict[str, float]) -> None:
    print(f"{'':38}{'per second':>12}  against the same writes, and against the claim loop; {CPUS} CPUs for all")
    for name, rate in medians.items():
        same = medians.get(f"same writes {name.partition(',')[0]}")
        loop = medians.get("raw claim loop") if "drain" in name else None
        shares = [f"{rate / base:6.2f} x" if base else " " * 8 for base in (same, loop)]
        print(f"{name:38}{rate:12,.0f}  {'  '.join(shares)}".rstrip())


if __name__ == "__main__":
    main()
