"""Huey on Redis or SQLite, as ``BENCH_URL`` says."""

from __future__ import annotations

from huey import RedisHuey, SqliteHuey

from peers.peer import RESULTS, THREADS, URL, Peer, Rows, stamp

if URL.startswith("redis"):
    huey = RedisHuey("bench", url=URL, results=RESULTS, store_none=RESULTS)
else:
    huey = SqliteHuey("bench", filename=URL.removeprefix("file:"), results=RESULTS, store_none=RESULTS)


@huey.task()  # type: ignore[untyped-decorator]
def noop(number: int) -> None:
    """Do nothing."""
    stamp()


@huey.task()  # type: ignore[untyped-decorator]
def large(rows: Rows) -> None:
    """Do nothing with *rows*."""
    stamp()


PEER = Peer(
    distributions=["huey", *(["redis", "hiredis"] if URL.startswith("redis") else [])],
    send=noop,
    send_many=lambda count: noop.map(range(count)),
    send_rows=large,
    wait=lambda result: result.get(blocking=True, timeout=60),
    worker=[
        *("python", "-m", "huey.bin.huey_consumer", "peers.with_huey.huey"),
        *("--workers", str(THREADS), "--worker-type", "thread", "--quiet"),
    ],
    settings={
        "--workers 8 --worker-type thread": "the same for all; the default is one thread",
        "--quiet": "no worker here logs each task",
        "store_none": "for the rows with results, since these tasks return None and all others store that",
        "results = False": "for the rows without results",
    },
    many="task.map(...)",
)
