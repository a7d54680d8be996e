"""The same no-op task on other queues over SQS: ``python sqspeers.py celery|dramatiq|taskiq ADDRESS PREFIX COUNT``.

Each sends one by one, as it has no other way, and then drains with eight threads, or one event loop, and the largest
batches that it can; results are off. Prints messages a second, the start of the worker included.
"""

import asyncio
import importlib
import os
import sys
import threading
import time
from typing import Any

COUNT, BEGIN = "BENCH_COUNT", "BENCH_BEGIN"
KEYS = {"aws_access_key_id": "k", "aws_secret_access_key": "s"}
REGION = "us-east-1"


def celery_app(address: str, prefix: str) -> Any:
    """Return an app; its worker imports this module as well."""
    app = _library("celery").Celery("sqspeers", broker=f"sqs://k:s@{address}//")
    options = {"region": REGION, "is_secure": False, "queue_name_prefix": f"{prefix}-", "wait_time_seconds": 1}
    app.conf.update(broker_transport_options=options, task_ignore_result=True, worker_prefetch_multiplier=10)
    lock, left = threading.Lock(), [int(os.environ[COUNT])]

    def noop(number: int) -> None:
        with lock:
            left[0] -= 1
        if not left[0]:
            _done("drain", float(os.environ[BEGIN]), int(os.environ[COUNT]))

    app.task(name="noop")(noop)
    return app


def celery(address: str, prefix: str, count: int) -> None:
    """Send, and become the worker."""
    os.environ |= {COUNT: str(count), "BENCH_ADDRESS": address, "BENCH_PREFIX": prefix, "AWS_DEFAULT_REGION": REGION}
    app = celery_app(address, prefix)
    begin = time.monotonic()
    for number in range(count):
        app.tasks["noop"].delay(number)
    _say("send", begin, count)
    os.environ[BEGIN] = repr(time.monotonic())
    options = ["-P", "threads", "-c", "8", "-l", "CRITICAL", "--without-gossip", "--without-mingle"]
    os.chdir(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100,PTH120 - the worker imports this module
    os.execv(sys.executable, [sys.executable, "-m", "celery", "-q", "-A", "sqspeers", "worker", *options])  # noqa: S606


def dramatiq(address: str, prefix: str, count: int) -> None:
    """Send and drain in this process."""
    library = _library("dramatiq")
    broker = _library("dramatiq_sqs").SQSBroker(
        namespace=prefix, endpoint_url=f"http://{address}", region_name=REGION, **KEYS
    )
    library.set_broker(broker)
    left = [count]

    def noop(number: int) -> None:
        left.append(number)
        if len(left) > count:
            _done("drain", drain, count)

    actor = library.actor(noop)
    begin = time.monotonic()
    for number in range(count):
        actor.send(number)
    _say("send", begin, count)
    drain = time.monotonic()
    library.Worker(broker, worker_threads=8).start()
    threading.Event().wait(120)


def taskiq(address: str, prefix: str, count: int) -> None:
    """Send and drain in this process."""
    import boto3

    url = f"http://{address}"
    boto3.client("sqs", endpoint_url=url, region_name=REGION, **KEYS).create_queue(QueueName=prefix)
    broker = _library("taskiq_aio_sqs").SQSBroker(
        prefix, endpoint_url=url, max_number_of_messages=10, wait_time_seconds=1, **KEYS
    )
    left, begin = [count], time.monotonic()

    async def noop(number: int) -> None:
        left[0] -= 1
        if not left[0]:
            _done("drain", begin, count)

    task = broker.task(task_name="noop")(noop)

    async def run() -> None:
        nonlocal begin
        await broker.startup()
        for number in range(count):
            await task.kiq(number)
        _say("send", begin, count)
        begin = time.monotonic()
        await _library("taskiq.api").run_receiver_task(broker, max_prefetch=80)

    asyncio.run(asyncio.wait_for(run(), 120))


def _library(name: str) -> Any:
    """Import a module that need not be installed where this is checked."""
    return importlib.import_module(name)


def _say(what: str, begin: float, count: int) -> None:
    os.write(1, f"{what} {count / (time.monotonic() - begin):6.0f}/s   ".encode())


def _done(what: str, begin: float, count: int) -> None:
    """Print and end, whatever else runs."""
    _say(what, begin, count)
    os._exit(0)


if __name__ == "__main__":
    {"celery": celery, "dramatiq": dramatiq, "taskiq": taskiq}[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4]))
elif "BENCH_ADDRESS" in os.environ:
    app = celery_app(os.environ["BENCH_ADDRESS"], os.environ["BENCH_PREFIX"])
