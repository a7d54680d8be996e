"""A task that says that it has begun, on the queue that ``BENCH_PEER`` names: it measures starts of workers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PEER, URL = os.environ["BENCH_PEER"], os.environ["BENCH_URL"]
Peer = tuple[Any, Callable[[], object], list[str]]
"""What a worker looks for, what enqueues the task, and the arguments of Python that start a worker."""


def began() -> None:
    """Say so, and stay, so that nothing else happens meanwhile."""
    Path(os.environ["BENCH_MARK"]).touch()
    time.sleep(60)


def _queuekit() -> Peer:
    from queuekit import Queuekit

    app = Queuekit()
    command = ["-c", "from queuekit_start import main; main()", "worker", "startapp:app"]
    return app, app.task(ignore_result=True)(began).send, command


def _dramatiq() -> Peer:
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=URL)  # type: ignore[no-untyped-call]
    dramatiq.set_broker(broker)
    command = ["-m", "dramatiq", "startapp", "--processes", "1", "--threads", "8"]
    return broker, dramatiq.actor(began).send, command


def _huey() -> Peer:
    from huey import RedisHuey

    huey = RedisHuey("bench", url=URL, results=False)
    options = ["--workers", "8", "--worker-type", "thread", "--quiet"]
    return huey, huey.task()(began), ["-m", "huey.bin.huey_consumer", "startapp.app", *options]


app, send, command = {"queuekit": _queuekit, "dramatiq": _dramatiq, "huey": _huey}[PEER]()
