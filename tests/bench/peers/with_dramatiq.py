"""Dramatiq on Redis."""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from peers.peer import READ_AHEAD, RESULTS, THREADS, URL, Peer, Rows, stamp

broker = RedisBroker(url=URL)  # type: ignore[no-untyped-call]
if RESULTS:
    broker.add_middleware(Results(backend=RedisBackend(url=URL)))  # type: ignore[no-untyped-call]
dramatiq.set_broker(broker)
options: dict[str, Any] = {"store_results": True} if RESULTS else {}


@dramatiq.actor(**options)  # type: ignore[untyped-decorator]
def noop(number: int) -> None:
    """Do nothing."""
    stamp()


@dramatiq.actor(**options)  # type: ignore[untyped-decorator]
def large(rows: Rows) -> None:
    """Do nothing with *rows*."""
    stamp()


PEER = Peer(
    distributions=["dramatiq", "redis", "hiredis"],
    send=noop.send,
    send_many=lambda count: dramatiq.group(noop.message(number) for number in range(count)).run(),  # type: ignore[no-untyped-call]
    send_rows=large.send,
    wait=lambda message: message.get_result(block=True, timeout=60_000),
    worker=["python", "-m", "dramatiq", "peers.with_dramatiq", "--processes", "1", "--threads", str(THREADS)],
    environ={"dramatiq_queue_prefetch": str(READ_AHEAD)},
    settings={
        "--processes 1 --threads 8": "the same for all; the default is a process per core, of 8 threads each",
        "dramatiq_queue_prefetch = 1000": "the same read-ahead as queuekit; the default is 16",
        "Results(RedisBackend), store_results": "for the rows with results",
    },
    many="group(...).run()",
)
