"""queuekit, on the engine that ``BENCH_URL`` names."""

from __future__ import annotations

from peers.peer import RESULTS, THREADS, URL, Peer, Rows, stamp
from queuekit import Queuekit

app = Queuekit(broker=URL)


@app.task(ignore_result=not RESULTS)
def noop(number: int) -> None:
    """Do nothing."""
    stamp()


@app.task(ignore_result=not RESULTS)
def large(rows: Rows) -> None:
    """Do nothing with *rows*."""
    stamp()


PEER = Peer(
    distributions=["queuekit", *(["queuekit-redis", "redis", "hiredis"] if URL.startswith("redis") else [])],
    send=noop.send,
    send_many=lambda count: app.send_many(noop.s(number) for number in range(count)),
    send_rows=large.send,
    wait=lambda result: result.get(timeout=60),
    worker=["queuekit", "worker", "peers.with_queuekit:app", "--concurrency", str(THREADS)],
    environ={"QUEUEKIT_LOG__LEVEL": "WARNING"},
    settings={
        "--concurrency 8": "the same for all; the default is 10",
        "log.level = warning": "no worker here logs each task",
        "ignore_result": "set on the tasks for the rows without results",
    },
    many="app.send_many(...)",
)
