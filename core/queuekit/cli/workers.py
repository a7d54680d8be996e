"""``queuekit workers``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import click

from queuekit.cli.options import common_options, engine_options, json_option, pass_session
from queuekit.cli.output import age, columns, print_json, size
from queuekit.cli.session import Session
from queuekit.wire.pauses import Pause
from queuekit.wire.presence import Presence, RunningTask

__all__ = ["command"]

HEADER = ("WORKER", "HOST", "PID", "VERSION", "APP", "QUEUES", "RUNNING", "MEMORY", "RATE", "UP", "SEEN", "STATE")
RUNS_HEADER = ("WORKER", "RUNS", "TASK", "QUEUE", "FOR")
RIGHT = ("PID", "RUNNING", "MEMORY", "RATE", "UP", "SEEN")
SHOWN = 100
"""Workers to print without ``--limit``, and the most running tasks to print."""
_MOST_QUEUES = 60
"""Characters of the column of queues."""


@click.command()
@click.option("--limit", type=click.IntRange(1), default=SHOWN, show_default=True, help="Print at most this many.")
@click.option("--after", metavar="WORKER", help="Print those whose names come after this one.")
@json_option
@engine_options
@common_options
@pass_session
def command(session: Session, *, limit: int, after: str | None, as_json: bool) -> None:
    """List the workers: where each runs, what it serves and runs, its memory, and when it last gave a sign of life.

    Each worker process reports this every 10 seconds. One that gives no sign of life for 30 seconds is silent: it
    hangs, was killed, or is disconnected.
    """
    admin = session.admin()
    found = [worker for worker in admin.fleet() if after is None or worker.name > after]
    pauses = {pause.mark: pause for pause in admin.pauses()}
    shown = found[:limit]
    if as_json:
        print_json([_document(worker, pauses) for worker in shown])
        return
    if not found and after is not None:
        session.say("No more workers.")
        return
    if not found:
        session.say(f"No workers. Start one:  {session.command('worker')}")
        return
    click.echo(columns(HEADER, [_row(worker, pauses) for worker in shown], right=RIGHT))
    _print_runs(session, shown)
    if len(found) > limit:
        rest = shlex.join(["workers", "--limit", str(limit), "--after", shown[-1].name])
        session.say(f"... and {len(found) - limit} more:  {session.command(rest)}")


def _print_runs(session: Session, workers: Sequence[Presence]) -> None:
    """Print what the workers run, longest first."""
    runs = [(run, worker.name) for worker in workers for run in worker.runs]
    runs.sort(key=lambda pair: pair[0].seconds, reverse=True)
    rows = [(name, run.id, run.task, run.queue, age(run.seconds)) for run, name in runs[:SHOWN]]
    if not rows:
        return
    click.echo(f"\n{columns(RUNS_HEADER, rows, right=('FOR',))}")
    if len(runs) > SHOWN:
        session.say(f"... and {len(runs) - SHOWN} more: --json lists them all")


def _row(worker: Presence, pauses: Mapping[str, Pause]) -> list[str]:
    queues = ",".join(worker.queues)
    return [
        worker.name,
        worker.host or "-",
        _or_dash(worker.pid),
        worker.version or "-",
        worker.app_version or "-",
        queues if len(queues) <= _MOST_QUEUES else f"{queues[: _MOST_QUEUES - 3]}...",
        f"{_running(worker)}/{_or_dash(worker.slots)}",
        size(worker.rss),
        "-" if worker.rate is None else f"{worker.rate:.1f}/s",
        age(worker.uptime),
        f"{age(worker.quiet)} ago",
        _state(worker, pauses),
    ]


def _running(worker: Presence) -> int:
    return len(worker.runs) or len(worker.begun)


def _state(worker: Presence, pauses: Mapping[str, Pause]) -> str:
    if not worker.live:
        return "silent"
    if worker.leaving:
        return worker.leaving
    if worker.gate:
        return "held back by gate"
    return "paused" if worker.queues and set(worker.queues) <= set(_paused_queues(worker, pauses)) else "working"


def _paused_queues(worker: Presence, pauses: Mapping[str, Pause]) -> list[str]:
    """Return the queues of *worker* that it leaves alone."""
    obeyed = {pauses[mark].queue for mark in worker.paused if mark in pauses}
    return [queue for queue in worker.queues if queue in obeyed]


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)


def _document(worker: Presence, pauses: Mapping[str, Pause]) -> dict[str, Any]:
    return {
        "worker": worker.name,
        "host": worker.host or None,
        "pid": worker.pid,
        "version": worker.version or None,
        "app_version": worker.app_version or None,
        "queues": list(worker.queues),
        "slots": worker.slots,
        "pool": worker.pool or None,
        "memory_bytes": worker.rss,
        "per_second": worker.rate,
        "up_seconds": None if worker.uptime is None else round(worker.uptime, 1),
        "seen_seconds": round(worker.quiet, 1),
        "broker_silent_seconds": worker.silent,
        "state": _state(worker, pauses),
        "recycled": worker.recycling or None,
        "held_back": worker.gate or None,
        "paused_queues": _paused_queues(worker, pauses),
        "unknown_tasks": list(worker.unknown),
        "runs": [_run_document(run) for run in worker.runs],
    }


def _run_document(run: RunningTask) -> dict[str, Any]:
    return {"id": run.id, "task": run.task, "queue": run.queue, "seconds": round(run.seconds, 1)}
