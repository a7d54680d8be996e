"""Measure queuekit on SQLite in one run beside raw sqlite3 and Huey: ``python tests/bench/run.py [--rounds 3]``.

Rates are medians over interleaved rounds; what matters are the ratios, since all figures of a run share one machine
and one moment. Nothing here judges.
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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

Rates = dict[str, list[float]]


def main() -> None:
    """Run all rounds and print the tables."""
    options = _options()
    rates: Rates = {}
    with tempfile.TemporaryDirectory(prefix="queuekit-bench-") as name:
        for number in range(options.rounds):
            folder = Path(name, str(number))
            folder.mkdir()
            for measure in (_sends, _raw, _huey, _queuekit):
                measure(folder, options.count, rates)
                print(".", end="", flush=True, file=sys.stderr)
        print(file=sys.stderr)
        medians = {key: statistics.median(values) for key, values in rates.items()}
        _print_rates(medians)
        _print_worker(Path(name), options.samples)
    _print_core_cost()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=20_000, help="tasks to drain")
    parser.add_argument("--samples", type=int, default=300, help="sends to an idle worker")
    return parser.parse_args()


# -- rates


def _sends(folder: Path, count: int, rates: Rates) -> None:
    """Send with raw sqlite3, the same writes and queuekit by turns, so that the disk's moods hit all alike."""
    from raw import RawQueue, SameWrites

    raw, same = RawQueue(folder / "raw.db"), SameWrites(folder / "same.db")
    app = _app(folder)
    _by_turns(rates, count // 10, 100, {"raw single": raw.single, "same single": same.single, "single": _send_each})
    for table, db in (("jobs", raw.db), ("messages", same.db)):
        db.execute(f"DELETE FROM {table}")  # noqa: S608 - one of the two above
    app.runtime.broker.purge("default")
    _by_turns(rates, count, 1000, {"raw bulk": raw.bulk, "same bulk": same.bulk, "bulk": _send_many})
    raw.close()
    same.close()
    app.close()


def _by_turns(rates: Rates, count: int, block: int, ways: dict[str, Callable[[int], float]]) -> None:
    """Let each of *ways* do *block* of *count* after the other; each returns its rate."""
    spent = dict.fromkeys(ways, 0.0)
    for _ in range(count // block):
        for key, way in ways.items():
            spent[key] += block / way(block)
    for key, seconds in spent.items():
        _note(rates, key, count / seconds)


def _send_each(count: int) -> float:
    import benchapp

    since = time.perf_counter()
    for number in range(count):
        benchapp.noop.send(number)
    return count / (time.perf_counter() - since)


def _send_many(count: int) -> float:
    import benchapp

    since = time.perf_counter()
    benchapp.app.send_many(benchapp.noop.s(number) for number in range(count))
    return count / (time.perf_counter() - since)


def _app(folder: Path) -> Any:
    """Return the app on a file in *folder*, which has been used once."""
    os.environ["QUEUEKIT_BROKER"] = f"sqlite:///{folder / 'queuekit.db'}"
    import benchapp

    benchapp.app.configure()
    benchapp.app.send(benchapp.noop.s(0))
    benchapp.app.runtime.broker.purge("default")
    return benchapp.app


def _raw(folder: Path, count: int, rates: Rates) -> None:
    """Drain what :func:`_sends` has left."""
    from raw import RawQueue, SameWrites

    for key, queue in (("raw drain", RawQueue(folder / "raw.db")), ("same drain", SameWrites(folder / "same.db"))):
        _note(rates, key, queue.drain(count))
        queue.close()


def _huey(folder: Path, count: int, rates: Rates) -> None:
    environ = {**os.environ, "BENCH_HUEY_FILE": str(folder / "huey.db"), "PYTHONPATH": _path()}
    script = (
        "import time, hueyapp\n"
        f"since = time.perf_counter()\nfor number in range({count}): hueyapp.noop(number)\n"
        f"print({count} / (time.perf_counter() - since))"
    )
    sent = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    _note(rates, "huey single", float(sent.stdout))
    import sqlite3

    db = sqlite3.connect(folder / "huey.db")
    command = [sys.executable, "-m", "huey.bin.huey_consumer", "hueyapp.huey", "-w", "1", "-q"]
    with _process(command, environ):
        _note(rates, "huey drain", _drained(lambda: db.execute("SELECT count(*) FROM task").fetchone()[0], count))
    db.close()


def _queuekit(folder: Path, count: int, rates: Rates) -> None:
    """Drain *count* with results stored, and as many without."""
    app = _app(folder)
    import benchapp

    app.send_many(benchapp.noop.s(number) for number in range(count))
    with _worker():
        _note(rates, "drain", _drained(lambda: _left(app), count))
    app.send_many(benchapp.silent.s(number) for number in range(count))
    with _worker():
        _note(rates, "drain silent", _drained(lambda: _left(app), count))
    app.close()


def _left(app: Any) -> int:
    counts = app.runtime.broker.counts(["default"])["default"]
    return int(counts.ready + counts.leased)


def _drained(left: Callable[[], int], count: int) -> float:
    """Return tasks a second between the first look that sees work done and the end."""
    while (seen := left()) >= count:
        time.sleep(0.002)
    since, first = time.perf_counter(), seen
    while left():
        time.sleep(0.01)
    return first / (time.perf_counter() - since)


# -- one worker, looked at


def _print_worker(folder: Path, samples: int) -> None:
    import psutil

    os.environ["QUEUEKIT_BROKER"] = f"sqlite:///{folder / 'worker.db'}"
    import benchapp

    benchapp.app.configure()
    with _worker() as process:
        _latency(benchapp, 0)  # the worker has started when this one is back
        late = sorted(_latency(benchapp, 0.01) for _ in range(samples))
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        before = [sum(one.cpu_times()[:2]) for one in family]
        time.sleep(10)
        spent = [sum(one.cpu_times()[:2]) - old for one, old in zip(family, before, strict=True)]
        memory = [one.memory_info().rss / 1e6 for one in family]
    print("\nOne worker, one queue")
    print(f"  send to start, idle      p50 {_at(late, 0.5):.2f} ms   p99 {_at(late, 0.99):.2f} ms")
    print(f"  idle CPU                 {100 * sum(spent) / 10:.2f} %   supervisor and worker")
    sizes = f"worker {memory[-1]:.1f} MB, supervisor {memory[0]:.1f} MB"
    print(f"  memory                   {sizes}")
    benchapp.app.close()


def _latency(benchapp: Any, gap: float) -> float:
    """Return the milliseconds from just before a send to the start of the body."""
    time.sleep(gap)
    since = time.monotonic()
    began: float = benchapp.clock.send().get(timeout=10)
    return (began - since) * 1000


def _at(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]


# -- core alone


def _print_core_cost() -> None:
    os.environ["QUEUEKIT_BROKER"] = "memory://bench"
    import benchapp

    from queuekit.broker import Delivery
    from queuekit.client.sender import Sending
    from queuekit.execution.executor import Executor
    from queuekit.execution.outcome import Run

    app = benchapp.app
    app.configure()
    sending = Sending(app.runtime, app.tasks)
    executor = Executor(app.runtime, app.tasks, sending, worker="bench")
    envelopes = [sending.prepare(benchapp.noop.s(number)).envelope for number in range(5_000)]
    deliveries = [Delivery(envelope=one, token="1", number=1, sent_at=1.0, claimed_at=2.0) for one in envelopes]  # noqa: S106
    costs = []
    for _ in range(7):
        since = time.process_time()
        for delivery in deliveries:
            run = executor.prepare(delivery, {})
            assert isinstance(run, Run)
            executor.begin(run)
            executor.call(run).item()
        costs.append((time.process_time() - since) / len(deliveries) * 1e6)
    print("\nCore alone")
    print(f"  decode, look-up, call, outcome   {min(costs):.1f} us a message, best of 7")


# -- processes


@contextmanager
def _worker(*options: str) -> Iterator[subprocess.Popen[bytes]]:
    environ = {**os.environ, "PYTHONPATH": _path(), "QUEUEKIT_LOG__LEVEL": "WARNING"}
    with _process([sys.executable, "-m", "queuekit.cli", "worker", "benchapp:app", *options], environ) as process:
        yield process


def _path() -> str:
    return os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])


@contextmanager
def _process(command: list[str], environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=environ, start_new_session=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# -- printing


def _note(rates: Rates, key: str, rate: float) -> None:
    rates.setdefault(key, []).append(rate)


def _print_rates(rate: dict[str, float]) -> None:
    print(f"\n{'':24}{'queuekit':>10}   beside")
    for title, key, others in _ROWS:
        for index, (name, other) in enumerate(others):
            ours = f"{rate[key]:>10,.0f}" if index == 0 else " " * 10
            text = f"{name} {rate[other]:,.0f}"
            print(f"{title if index == 0 else '':24}{ours}   {text:32} ratio {rate[key] / rate[other]:5.2f}")


# What is measured, its key, and beside what: name and key.
_ROWS: list[tuple[str, str, list[tuple[str, str]]]] = [
    (
        "send one by one",
        "single",
        [("raw commit", "raw single"), ("same writes", "same single"), ("huey", "huey single")],
    ),
    ("send_many", "bulk", [("raw batched insert", "raw bulk"), ("same writes", "same bulk")]),
    (
        "drain, results stored",
        "drain",
        [("huey", "huey drain"), ("raw claim and delete", "raw drain"), ("same writes", "same drain")],
    ),
    ("drain, results off", "drain silent", [("huey", "huey drain"), ("raw claim and delete", "raw drain")]),
]


if __name__ == "__main__":
    main()
