"""The same no-op task on other queues, with the settings that their docs recommend; ``BENCH_PEER`` says which.

Workers import this module; ``send`` and ``command`` are what the benchmark asks of all of them alike. Results are
off unless ``BENCH_RESULTS`` is set.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

PEER = os.environ.get("BENCH_PEER", "")
PORT = int(os.environ.get("BENCH_REDIS_PORT", "0"))
URL = f"redis://127.0.0.1:{PORT}/0"
RESULTS = bool(os.environ.get("BENCH_RESULTS"))

send: Callable[[int], object]
"""Enqueue one no-op."""
command: list[str] = []
"""Starts one worker process."""


def _huey() -> None:
    from huey import RedisHuey

    global huey, send, command  # noqa: PLW0603 - the consumer finds it by name
    huey = RedisHuey("bench", url=URL, results=RESULTS, store_none=RESULTS)

    @huey.task()  # type: ignore[untyped-decorator]
    def noop(number: int) -> None:
        """Do nothing."""

    send = noop
    command = [sys.executable, "-m", "huey.bin.huey_consumer", "redispeers.huey", "-w", "1", "-q"]


def _dramatiq() -> None:
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    global send, command  # noqa: PLW0603 - ...
    broker = RedisBroker(url=URL)  # type: ignore[no-untyped-call]
    if RESULTS:
        from dramatiq.results import Results
        from dramatiq.results.backends import RedisBackend

        broker.add_middleware(Results(backend=RedisBackend(url=URL)))  # type: ignore[no-untyped-call]
    dramatiq.set_broker(broker)
    options: dict[str, Any] = {"store_results": True} if RESULTS else {}

    @dramatiq.actor(**options)  # type: ignore[untyped-decorator]
    def noop(number: int) -> None:
        """Do nothing."""

    send = noop.send
    command = [sys.executable, "-m", "dramatiq", "redispeers", "--processes", "1", "--threads", "8"]


def _rq() -> None:
    from redis import Redis
    from rq import Queue

    global send, command  # noqa: PLW0603 - ...
    queue = Queue("bench", connection=Redis(port=PORT))
    ttl = 500 if RESULTS else 0
    send = lambda number: queue.enqueue(nothing, number, result_ttl=ttl)  # noqa: E731 - one line of one peer
    # SimpleWorker does not fork for each job, which is ten times as fast as what RQ does by default.
    program = f"from redis import Redis; from rq import SimpleWorker as W; W(['bench'], connection=Redis(port={PORT}))"
    command = [sys.executable, "-c", f"{program}.work(logging_level='ERROR')"]


def _celery() -> None:
    from celery import Celery

    global celery, send, command  # noqa: PLW0603 - ...
    celery = Celery("redispeers", broker=URL, backend=URL if RESULTS else None)
    celery.conf.update(task_ignore_result=not RESULTS, worker_prefetch_multiplier=128, task_default_queue="bench")
    send = celery.task(nothing, name="nothing").delay
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR"]
    program = [sys.executable, "-m", "celery", "-A", "redispeers:celery", "worker"]
    command = [*program, "--pool", "solo", "-c", "1", *quiet]


def _taskiq() -> None:
    import asyncio

    from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

    global taskiq, send, command  # noqa: PLW0603 - ...
    taskiq = ListQueueBroker(URL, queue_name="bench")
    if RESULTS:
        taskiq = taskiq.with_result_backend(RedisAsyncResultBackend(URL, result_ex_time=600))
    task = taskiq.task(task_name="nothing")(nothing)
    loop = asyncio.new_event_loop()
    send = lambda number: loop.run_until_complete(task.kiq(number))  # noqa: E731 - ...
    command = [sys.executable, "-m", "taskiq", "worker", "redispeers:taskiq", "--workers", "1", "--log-level", "ERROR"]


def _saq() -> None:
    import asyncio

    from saq import Queue

    global saq, send, command  # noqa: PLW0603 - ...
    queue, ttl = Queue.from_url(URL, name="bench"), 600 if RESULTS else -1
    saq = {"queue": queue, "functions": [anothing], "concurrency": 100}
    loop = asyncio.new_event_loop()
    send = lambda number: loop.run_until_complete(queue.enqueue("anothing", number=number, ttl=ttl))  # noqa: E731 - ...
    command = [sys.executable, "-m", "saq", "redispeers.saq"]


async def anothing(_context: object, *, number: int) -> None:
    """Do nothing, for one that takes coroutines."""


def nothing(number: int) -> None:
    """Do nothing, for those that take plain functions."""


huey: Any = None
celery: Any = None
taskiq: Any = None
saq: Any = None
if PEER:
    {"huey": _huey, "dramatiq": _dramatiq, "rq": _rq, "celery": _celery, "taskiq": _taskiq, "saq": _saq}[PEER]()
