"""Measure queuekit on MongoDB in one run beside raw pymongo: ``python tests/bench/mongo_bench.py [--rounds 3]``.

``QUEUEKIT_TEST_MONGO_URL`` names the deployment; without it a replica set of one is started. Rates are medians over
interleaved rounds; what matters are the ratios, since all figures of a run share one machine and one moment. With
``--celery PYTHON``, an interpreter that has ``celery[mongodb]``, Celery's MongoDB transport is measured as well.
Nothing here judges.
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
from bson import ObjectId

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from support.mongod import ReplicaSet  # noqa: E402 - it is found by the line above

Rates = dict[str, list[float]]
BATCH = 500
RAW_CLAIMS = 2_000
"""Jobs that the raw loop claims one by one."""


def main() -> None:
    """Run all rounds and print the tables."""
    options = _options()
    rates: Rates = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="queuekit-bench-")))
        url = os.environ.get("QUEUEKIT_TEST_MONGO_URL") or stack.enter_context(_own_set(folder))
        for number in range(options.rounds):
            base = url.replace("/?", f"/bench{number}?")
            _raw(base, options.count, rates)
            _queuekit(base, options.count, rates)
            if options.celery:
                _celery(options.celery, base, options.count // 4, rates)
            print(".", end="", flush=True, file=sys.stderr)
        print(file=sys.stderr)
        _print_rates({key: statistics.median(values) for key, values in rates.items()})
        for streams in (True, False):
            _print_worker(url.replace("/?", "/idle?"), options.samples, streams=streams)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=20_000, help="tasks to drain")
    parser.add_argument("--samples", type=int, default=200, help="sends to an idle worker")
    parser.add_argument("--celery", help="interpreter that has celery and pymongo")
    return parser.parse_args()


@contextmanager
def _own_set(folder: Path) -> Iterator[str]:
    members = ReplicaSet(folder / "mongo")
    try:
        yield members.start().url("")
    finally:
        members.stop()


# -- rates


def _raw(url: str, count: int, rates: Rates) -> None:
    """Measure what a script would do: bulk inserts, and claims one by one, each deleted when done."""
    with pymongo.MongoClient[dict[str, Any]](url, w="majority") as client:
        jobs = client.get_default_database()["raw"]
        jobs.drop()
        jobs.create_index([("state", 1), ("priority", -1), ("at", 1)])
        since = time.perf_counter()
        for start in range(0, count, BATCH):
            jobs.insert_many([_job(start + number) for number in range(BATCH)])
        _note(rates, "raw insert_many", count / (time.perf_counter() - since))
        since = time.perf_counter()
        for _ in range(RAW_CLAIMS):
            job = jobs.find_one_and_update(
                {"state": "ready"}, {"$set": {"state": "held"}}, sort=[("priority", -1), ("at", 1)]
            )
            jobs.delete_one({"_id": (job or {})["_id"]})
        _note(rates, "raw claim loop", RAW_CLAIMS / (time.perf_counter() - since))
        jobs.drop()


def _job(number: int) -> dict[str, Any]:
    body = b'{"id":"%d","task":"benchapp.noop"}\n{"args":[%d],"kwargs":{}}' % (number, number)
    return {"_id": ObjectId(), "state": "ready", "priority": 4, "at": time.time(), "body": body}


def _queuekit(url: str, count: int, rates: Rates) -> None:
    os.environ["QUEUEKIT_BROKER"] = url
    import benchapp

    app = benchapp.app
    app.configure()
    app.send(benchapp.noop.s(0))
    app.runtime.broker.purge("default")
    single = count // 20
    since = time.perf_counter()
    for number in range(single):
        benchapp.silent.send(number)
    _note(rates, "single send", single / (time.perf_counter() - since))
    app.runtime.broker.purge("default")
    for task, name in ((benchapp.silent, "without results"), (benchapp.noop, "with results")):
        for processes in (1, 2):
            since = time.perf_counter()
            app.send_many(task.s(number) for number in range(count))
            _note(rates, f"bulk send {name}", count / (time.perf_counter() - since))
            with _workers(processes):
                _note(rates, f"drain {name}, {processes} process(es)", _drained(lambda: _left(app), count))
    app.close()


def _celery(python: str, url: str, count: int, rates: Rates) -> None:
    environ = {**os.environ, "BENCH_MONGO_URL": url.replace("/bench", "/celery"), "PYTHONPATH": str(HERE)}
    script = (
        "import time, celeryapp\n"
        f"since = time.perf_counter()\nfor number in range({count}): celeryapp.noop.delay(number)\n"
        f"print({count} / (time.perf_counter() - since))"
    )
    sent = subprocess.run([python, "-c", script], env=environ, capture_output=True, text=True, check=True)
    _note(rates, "celery single send", float(sent.stdout))
    database = environ["BENCH_MONGO_URL"]
    with pymongo.MongoClient[dict[str, Any]](database) as client:
        messages = client.get_default_database()["messages"]
        command = [python, "-m", "celery", "-A", "celeryapp", "worker", "-P", "threads", "-c", "8", "-l", "error"]
        with _process(command, environ):
            _note(rates, "celery drain", _drained(lambda: messages.count_documents({"queue": "celery"}), count))


def _left(app: Any) -> int:
    counts = app.runtime.broker.counts(["default"])["default"]
    return int(counts.ready + counts.leased)


def _drained(left: Callable[[], int], count: int) -> float:
    """Return tasks a second between the first look that sees work done and the end."""
    while (seen := left()) >= count:
        time.sleep(0.01)
    since, first = time.perf_counter(), seen
    while left():
        time.sleep(0.05)
    return first / (time.perf_counter() - since)


@contextmanager
def _workers(count: int) -> Iterator[list[int]]:
    command = [sys.executable, "-m", "queuekit.cli", "worker", "benchapp:app", "-c", "8", "-q", "default"]
    environ = {**os.environ, "PYTHONPATH": str(HERE), "QUEUEKIT_LOG__LEVEL": "WARNING"}
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
    time.sleep(2)
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]

    def used() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in tree)

    before = used()
    time.sleep(seconds)
    return (used() - before) / seconds * 100


def _note(rates: Rates, key: str, value: float) -> None:
    rates.setdefault(key, []).append(value)


def _print_rates(medians: dict[str, float]) -> None:
    bulk, loop = medians["raw insert_many"], medians["raw claim loop"]
    print(f"{'':38}{'per second':>12}  against raw")
    for name, rate in medians.items():
        base = bulk if "bulk" in name else loop if "drain" in name else None
        print(f"{name:38}{rate:12,.0f}  {'' if base is None else f'{rate / base:.2f} x'}")


if __name__ == "__main__":
    main()
