"""Measure queuekit on RabbitMQ beside Celery, on one server with quorum queues: ``python tests/bench/amqp_bench.py``.

``QUEUEKIT_TEST_AMQP_ADDRESS`` names the server; without it one is started. Rates are medians over interleaved rounds;
what matters are the ratios, since all figures share one machine and one moment, the server too. Nothing here judges.
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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pika

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from support.rabbitmq import RabbitMQ  # noqa: E402 - it is found by the line above

Rates = dict[str, list[float]]
PATH = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
CELERY_PREFETCH = (4, 125)
"""Messages that Celery prefetches per thread: its default, and as many as queuekit."""


def main() -> None:
    """Run all rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=20_000, help="tasks to drain; Celery a quarter of them")
    options = parser.parse_args()
    rates: Rates = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="queuekit-bench-")))
        address = os.environ.get("QUEUEKIT_TEST_AMQP_ADDRESS") or stack.enter_context(_own_server(folder))
        for number in range(options.rounds):
            mark = f"bench-{os.urandom(3).hex()}-{number}"
            _queuekit(address, mark, options.count, rates)
            for prefetch in CELERY_PREFETCH:
                _celery(address, f"{mark}-celery-{prefetch}", options.count // 4, prefetch, rates)
            print(".", end="", flush=True, file=sys.stderr)
    print(file=sys.stderr)
    medians = {key: statistics.median(values) for key, values in rates.items()}
    for key, rate in medians.items():
        peer = f"celery {key.partition(' ')[2]}, prefetch 4 a thread"
        ratio = f"{rate / medians[peer]:6.1f} x" if peer in medians else ""
        print(f"{key:40}{rate:10,.0f}/s {ratio}".rstrip())


@contextmanager
def _own_server(folder: Path) -> Iterator[str]:
    server = RabbitMQ(folder / "node")
    try:
        yield server.start().address
    finally:
        server.close()


def _queuekit(address: str, queue: str, count: int, rates: Rates) -> None:
    os.environ |= {"QUEUEKIT_BROKER": f"amqp://{address}/?auto_delete=1h", "QUEUEKIT_BACKEND": "none"}
    import benchapp

    app = benchapp.app
    app.configure()
    task = benchapp.silent.options(queue=queue)
    app.send(task.s(0))
    single = count // 20
    since = time.perf_counter()
    for number in range(single):
        task.send(number)
    _note(rates, "queuekit send", single / (time.perf_counter() - since))
    since = time.perf_counter()
    app.send_many(task.s(number) for number in range(count))
    _note(rates, "queuekit send many", count / (time.perf_counter() - since))
    command = [sys.executable, "-m", "queuekit.cli", "worker", "benchapp:app", "-c", "8", "-q", queue]
    environ = {**os.environ, "PYTHONPATH": PATH, "QUEUEKIT_LOG__LEVEL": "WARNING"}
    _note(rates, "queuekit drain", _drained(address, queue, command, environ))
    app.close()


def _celery(address: str, queue: str, count: int, prefetch: int, rates: Rates) -> None:
    environ = {
        **os.environ,
        "BENCH_AMQP_URL": f"amqp://{address}//",
        "BENCH_QUEUE": queue,
        "BENCH_PREFETCH": str(prefetch),
        "PYTHONPATH": PATH,
    }
    script = (
        "import time, celeryamqp\nceleryamqp.noop.delay(0)\n"
        f"since = time.perf_counter()\nfor number in range({count}): celeryamqp.noop.delay(number)\n"
        f"print({count} / (time.perf_counter() - since))"
    )
    sent = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    _note(rates, "celery send", float(sent.stdout))
    command = [sys.executable, "-m", "celery", "-A", "celeryamqp", "worker", "-P", "threads", "-c", "8", "-l", "error"]
    _note(rates, f"celery drain, prefetch {prefetch} a thread", _drained(address, queue, command, environ))


def _drained(address: str, queue: str, command: list[str], environ: dict[str, str]) -> float:
    """Start a worker; return tasks a second between its first message and its last."""
    host, _, port = address.partition(":")
    with pika.BlockingConnection(pika.ConnectionParameters(host, int(port))) as connection:
        channel = connection.channel()

        def ready() -> int:
            return int(channel.queue_declare(queue, passive=True).method.message_count)

        before = ready()
        process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while (left := ready()) == before:
                time.sleep(0.002)
            since = time.perf_counter()
            while ready():
                time.sleep(0.02)
            return left / (time.perf_counter() - since)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _note(rates: Rates, key: str, value: float) -> None:
    rates.setdefault(key, []).append(value)


if __name__ == "__main__":
    main()
