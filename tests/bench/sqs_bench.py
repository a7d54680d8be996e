"""Measures SQS and DynamoDB on an imitation of AWS, and prints a table; judges nothing.

Run it with ``python tests/bench/sqs_bench.py [tasks]`` where tests/requirements.txt is installed. Where dramatiq_sqs is
installed as well, it is measured beside. The imitation is one Python process, so from about 1,500 tasks a second on its
own speed is what is measured.
"""

import importlib.util
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from support.aws_proxy import AwsProxy  # noqa: E402 - found by the line above
from support.aws_servers import ministack  # noqa: E402

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
DRAMATIQ = """
import os, sys, time
import dramatiq
from dramatiq_sqs import SQSBroker
address, prefix, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
broker = SQSBroker(namespace=prefix, endpoint_url=f"http://{address}", **keys)
dramatiq.set_broker(broker)
done = []
@dramatiq.actor
def noop(number):
    done.append(number)
begin = time.monotonic()
for number in range(count):
    noop.send(number)
sent = time.monotonic()
worker = dramatiq.Worker(broker, worker_threads=8)
worker.start()
while len(done) < count:
    time.sleep(0.01)
print(f"send {count / (sent - begin):6.0f}/s   drain {count / (time.monotonic() - sent):6.0f}/s")
os._exit(0)
"""


def run(script: str, *arguments: object) -> str:
    """Return what a script prints, in a process of its own."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    return done.stdout.strip() or done.stderr.strip()[-300:]


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3_000
    print(f"{count} tasks, 8 threads, load {os.getloadavg()[0]:.1f}; times include the start of the worker")
    with tempfile.TemporaryDirectory() as folder:
        server = ministack(Path(folder)).start()
        proxy = AwsProxy(server.port).start()
        for name, address, latency in (
            ("direct", server.address, 0.0),
            ("by a proxy, 20 ms", proxy.address, LATENCY),
        ):
            for results in (False, True):
                proxy.latency = latency
                proxy.counts.clear()
                begin = time.monotonic()
                backend = f"dynamodb+http://{address}/bench" if results else "none"
                line = run(OURS, f"sqs+http://{address}/{secrets.token_hex(4)}", backend, count)
                requests = f"   {proxy.counts.total() / count:.3f} requests a task" if proxy.counts else ""
                what = f"queuekit, {name}, results {'on' if results else 'off'}"
                print(f"{what:<46} {line}{requests}   ({time.monotonic() - begin:.0f} s)", flush=True)
        if importlib.util.find_spec("dramatiq_sqs"):
            line = run(DRAMATIQ, server.address, secrets.token_hex(4), count // 3)
            print(f"{'dramatiq_sqs, direct':<46} {line}")
        server.stop()


if __name__ == "__main__":
    main()
