"""Measures SQS and DynamoDB on an imitation of AWS, and prints a table; judges nothing.

Run it with ``python tests/bench/sqs_bench.py [tasks]`` where tests/requirements.txt is installed. Where the variable
``BENCH_PEERS`` names a Python that has celery[sqs], dramatiq_sqs and taskiq-aio-sqs, those are measured beside. The
imitation is one Python process that takes about as long for each task as the worker does, so on few processors its own
speed is measured as well: the CPU of all three processes is printed.
"""

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from support.aws_proxy import AwsProxy  # noqa: E402 - found by the line above
from support.aws_servers import AwsServer, ministack  # noqa: E402

LATENCY = 0.02
"""Seconds between a machine and AWS."""
OURS = """
import sys, time
from queuekit import Queuekit
from queuekit.worker import Worker
broker, backend, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
app = Queuekit()
app.configure({"broker": broker, "backend": backend, "worker.concurrency": 8})
@app.task(name="noop")
def noop(number: int) -> None:
    pass
begin = time.monotonic()
app.send_many(noop.s(number) for number in range(count))
sent = time.monotonic()
cpu = time.process_time()
Worker(app, burst=True).run()
end = time.monotonic()
cost = 1000 * (time.process_time() - cpu) / count
print(f"send {count / (sent - begin):6.0f}/s   drain {count / (end - sent):6.0f}/s   {cost:.2f} ms CPU a task")
"""
PEERS = ("celery", "dramatiq", "taskiq")


def run(*command: object) -> str:
    """Return what a command prints."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=600)
    return done.stdout.strip() or done.stderr.strip()[-300:]


def cpu_of(server: AwsServer) -> float:
    """Return the seconds of CPU that *server* and its children have taken."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(") ")[2].split()
            total += (int(fields[11]) + int(fields[12])) * (int(fields[2]) == server.pid)
    return total / os.sysconf("SC_CLK_TCK")


def ours(server: AwsServer, proxy: AwsProxy, count: int) -> None:
    """Measure queuekit: with and without results, with and without latency."""
    for name, address, latency in (("direct", server.address, 0.0), ("20 ms away", proxy.address, LATENCY)):
        for results in (False, True):
            proxy.latency = latency
            proxy.counts.clear()
            cpu = _cpu(server)
            backend = f"dynamodb+http://{address}/bench" if results else "none"
            url = f"sqs+http://{address}/{secrets.token_hex(4)}"
            line = run(sys.executable, "-c", OURS, url, backend, count)
            served, passed = (1000 * (now - then) / count for now, then in zip(_cpu(server), cpu, strict=True))
            requests = f"   {proxy.counts.total() / count:.3f} requests a task" if proxy.counts else ""
            what = f"queuekit, {name}, results {'on' if results else 'off'}"
            print(f"{what:<38} {line}, server {served:.2f}, proxy {passed:.2f}{requests}", flush=True)


def peers(python: str, server: AwsServer, proxy: AwsProxy, count: int) -> None:
    """Measure others."""
    script = Path(__file__).with_name("sqspeers.py")
    for name, address, some in (("direct", server.address, count), ("20 ms away", proxy.address, count // 10)):
        for peer in PEERS:
            proxy.counts.clear()
            line = run(python, "-W", "ignore", script, peer, address, f"{peer}{secrets.token_hex(4)}", some)
            requests = f"   {proxy.counts.total() / some:.3f} requests a task" if proxy.counts else ""
            print(f"{f'{peer}, {name}, results off':<38} {line}{requests}", flush=True)


def _cpu(server: AwsServer) -> tuple[float, float]:
    return cpu_of(server), time.process_time()


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3_000
    print(f"{count} tasks, 8 threads, load {os.getloadavg()[0]:.1f}; times include the start of the worker")
    with tempfile.TemporaryDirectory() as folder:
        server = ministack(Path(folder)).start()
        proxy = AwsProxy(server.port).start()
        ours(server, proxy, count)
        if python := os.environ.get("BENCH_PEERS"):
            peers(python, server, proxy, count // 3)
        proxy.stop()
        server.stop()


if __name__ == "__main__":
    main()
