"""RQ, with the worker that its documentation names for short jobs, since the default one forks for each."""

from __future__ import annotations

from typing import Any

from redis import Redis
from rq import Queue

from peers.peer import RESULTS, URL, Peer, Rows, stamp

queue = Queue("bench", connection=Redis.from_url(URL))
ttl = 500 if RESULTS else 0


def noop(number: int) -> None:
    """Do nothing."""
    stamp()


def large(rows: Rows) -> None:
    """Do nothing with *rows*."""
    stamp()


def send_many(count: int) -> None:
    """Send *count* tasks through one pipeline."""
    queue.enqueue_many([Queue.prepare_data(noop, (number,), result_ttl=ttl) for number in range(count)])


def wait(job: Any) -> None:
    """Return once *job* has a result."""
    if job.latest_result(timeout=60) is None:
        raise TimeoutError


PEER = Peer(
    distributions=["rq", "redis", "hiredis"],
    send=lambda number: queue.enqueue(noop, number, result_ttl=ttl),
    send_many=send_many,
    send_rows=lambda rows: queue.enqueue(large, rows, result_ttl=ttl),
    wait=wait,
    worker=["python", "-m", "rq.cli", "worker", "bench", "--url", URL, "--worker-class", "rq.SimpleWorker", "--quiet"],
    settings={
        "--worker-class rq.SimpleWorker": "does not fork for each job, which is several times as fast as the default. "
        "A worker of RQ runs one job at a time; it has no threads",
        "--quiet": "no worker here logs each task",
        "result_ttl = 0": "for the rows without results; the default keeps them for 500 seconds",
    },
    many="queue.enqueue_many(...)",
)
