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


huey: Any = None
if PEER:
    {"huey": _huey, "dramatiq": _dramatiq}[PEER]()
