"""procrastinate on PostgreSQL."""

from __future__ import annotations

from typing import Any

from procrastinate import App, PsycopgConnector

from peers.peer import THREADS, URL, Peer, Rows, stamp

app = App(connector=PsycopgConnector(conninfo=URL))


@app.task(name="noop")
def noop(number: int) -> None:
    """Do nothing."""
    stamp()


@app.task(name="large")
def large(rows: Rows) -> None:
    """Do nothing with *rows*."""
    stamp()


def send_many(count: int) -> None:
    """Send *count* tasks with one statement."""
    jobs: list[dict[str, Any]] = [{"number": number} for number in range(count)]
    noop.batch_defer(*jobs)


PEER = Peer(
    distributions=["procrastinate", "psycopg"],
    send=lambda number: noop.defer(number=number),
    send_many=send_many,
    send_rows=lambda rows: large.defer(rows=rows),
    opened=app.open,
    worker=[
        *("python", "-m", "procrastinate", "--app", "peers.with_procrastinate.app", "--log-level", "warning"),
        *("worker", "--concurrency", str(THREADS)),
    ],
    settings={
        "--concurrency 8": "the same for all; the default is 1",
        "--log-level warning": "no worker here logs each task",
        "no results": "it keeps each job and its state, and does not store what a task returns",
    },
    many="task.batch_defer(...)",
)
