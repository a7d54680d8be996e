"""Celery on Redis, acknowledging after the run, as the other queues here that promise to run each task do."""

from __future__ import annotations

from typing import Any

from celery import Celery, group

from peers.peer import READ_AHEAD, RESULTS, THREADS, URL, Peer, Rows, stamp

app = Celery("with_celery", broker=URL, backend=URL if RESULTS else None)
app.conf.update(
    task_ignore_result=not RESULTS,
    task_acks_late=True,
    worker_prefetch_multiplier=READ_AHEAD // THREADS,
)


def do_nothing(number: int) -> None:
    """Do nothing."""
    stamp()


def do_nothing_with(rows: Rows) -> None:
    """Do nothing with *rows*."""
    stamp()


noop: Any = app.task(do_nothing)  # as a decorator it hides from type checkers what it makes
large: Any = app.task(do_nothing_with)


PEER = Peer(
    distributions=["celery", "kombu", "redis", "hiredis"],
    send=noop.delay,
    send_many=lambda count: group(noop.s(number) for number in range(count)).apply_async(),
    send_rows=large.delay,
    wait=lambda result: result.get(timeout=60),
    worker=[
        *("python", "-m", "celery", "-A", "peers.with_celery:app", "worker", "--pool", "threads"),
        *("--concurrency", str(THREADS), "--loglevel", "ERROR"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ],
    settings={
        "--pool threads --concurrency 8": "the same for all; the default is one process per core",
        "task_acks_late": "its documentation advises it for tasks that may run twice; the default loses the tasks of "
        "a killed worker",
        "worker_prefetch_multiplier = 125": "its documentation advises 64 to 128 for many short tasks",
        "task_ignore_result, no result backend": "for the rows without results, as its documentation advises",
        "--loglevel ERROR": "no worker here logs each task",
        "--without-gossip --without-mingle --without-heartbeat": "one worker has nobody to talk to; it starts sooner",
    },
    many="group(...).apply_async()",
)
