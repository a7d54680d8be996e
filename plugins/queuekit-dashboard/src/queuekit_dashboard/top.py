"""``queuekit top``."""

from __future__ import annotations

import math
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import click

from queuekit.broker import Place
from queuekit.cli.options import common_options, engine_options, pass_session
from queuekit.cli.output import age, columns, counted, one_line, size
from queuekit.cli.session import Session
from queuekit.errors import UnavailableError
from queuekit.logs.plaintext import clean
from queuekit.operations.admin import Admin, QueueView
from queuekit.wire.presence import Presence
from queuekit_dashboard.figures import total_of

__all__ = ["TopFrame", "command", "drawn", "frames", "look"]

QUEUES = ("QUEUE", "WAITING", "RUNNING", "DELAYED", "DEAD", "CHANGE", "OLDEST", "WORKERS")
WORKERS = ("WORKER", "HOST", "QUEUES", "RUNNING", "RATE", "MEMORY", "SEEN", "STATE")
RUNS = ("RUNS", "TASK", "QUEUE", "WORKER", "FOR")
_MOST_ROWS = 50
"""Rows of each table, where the height of the terminal does not say."""
_STATES = {Place.READY: "waiting", Place.LEASED: "running", Place.DELAYED: "delayed", Place.DEAD: "dead"}
_MOST_QUEUES = 40
"""Characters of the column of a worker's queues."""
_CLEAR, _REST = "\x1b[H", "\x1b[0J"
_MODE = "\x1b[?"
_ENTER, _LEAVE = f"{_MODE}1049h{_MODE}25l", f"{_MODE}25h{_MODE}1049l"
"""Enter and leave the other screen of the terminal, with the cursor hidden."""


@attrs.frozen(kw_only=True)
class TopFrame:
    """What one look at the engines has found.

    Attributes:
        at: Monotonic seconds of the look.
        queues: All queues.
        workers: All workers that have left a presence record; ``None`` if the backend cannot list them.
    """

    at: float
    queues: tuple[QueueView, ...]
    workers: tuple[Presence, ...] | None


def _number(context: click.Context, parameter: click.Parameter, value: float) -> float:
    if math.isnan(value):
        raise click.BadParameter("nan is not a number of seconds", ctx=context, param=parameter)
    return value


@click.command()
@click.option("--once", is_flag=True, help="Print one frame and exit; the default if the output is not a terminal.")
@click.option(
    "--every",
    type=click.FloatRange(0.2, 3_600.0),
    default=1.0,
    show_default=True,
    callback=_number,
    help="Seconds between two frames.",
)
@engine_options
@common_options
@pass_session
def command(session: Session, *, once: bool, every: float) -> None:
    """Watch the queues, the workers and what they run. Ctrl-C ends it.

    CHANGE is how many messages per second a queue gains (+) or loses (-). Workers report what they run, and their rate,
    every 10 seconds. Each frame asks for the counts of the queues and for the workers, however many messages wait.
    """
    admin = session.admin()
    if once or not sys.stdout.isatty():
        click.echo(drawn(look(admin), None))
        return
    with _other_screen():
        for text in frames(admin, every):
            click.echo(_CLEAR + _fitted(text) + _REST, nl=False)
            time.sleep(every)


@contextmanager
def _other_screen() -> Iterator[None]:
    """Show another screen of the terminal until Ctrl-C or SIGTERM, and leave the terminal as it was."""

    def end(number: int, _: Any) -> None:
        sys.exit(128 + number)  # as shells write the end by a signal

    before = signal.signal(signal.SIGTERM, end)
    try:
        click.echo(_ENTER, nl=False)
        yield
    except KeyboardInterrupt:
        return
    finally:
        click.echo(_LEAVE, nl=False)
        signal.signal(signal.SIGTERM, before)


def look(admin: Admin) -> TopFrame:
    """Ask the engines once."""
    queues, workers = admin.queues(), admin.seen_workers()
    found = None if workers is None else tuple(sorted(workers, key=lambda worker: worker.name))
    return TopFrame(at=time.monotonic(), queues=tuple(queues), workers=found)


def frames(admin: Admin, every: float) -> Iterator[str]:
    """Yield the text of each frame; an engine that does not answer is said above the last one."""
    last, shown = None, ""
    while True:
        try:
            now = look(admin)
        except UnavailableError as error:
            yield f"no answer: {one_line(error.what)}; asks again in {every:g} s\n\n{shown}"
            continue
        shown, last = drawn(now, last), now
        yield shown


def drawn(now: TopFrame, last: TopFrame | None) -> str:
    """Return *now* as text; rates compare it with *last*."""
    tables = [_summary(now), columns(QUEUES, _queue_rows(now, last), right=QUEUES[1:])]
    if now.workers:
        tables.append(columns(WORKERS, [_worker_row(one) for one in now.workers[:_MOST_ROWS]], right=WORKERS[3:7]))
        tables.append(columns(RUNS, _run_rows(now.workers), right=("FOR",)))
    return "\n\n".join(table for table in tables if "\n" in table or table is tables[0])


def _summary(now: TopFrame) -> str:
    total = total_of(now.queues)
    live = [worker for worker in now.workers or () if worker.live]
    rates = [worker.rate for worker in live if worker.rate is not None]
    parts = [
        *(f"{counted(total, place, ',')} {state}" for place, state in _STATES.items()),
        "workers: not reported" if now.workers is None else f"{len(live)} workers",
    ]
    return " | ".join([*parts, *([f"{sum(rates):,.1f} done/s"] if rates else [])])


def _queue_rows(now: TopFrame, last: TopFrame | None) -> list[tuple[str, ...]]:
    """Return the rows of the queues, those with the most messages first."""
    before = {view.name: view for view in last.queues} if last is not None else {}
    seconds = now.at - last.at if last is not None else 0.0
    busiest = sorted(now.queues, key=lambda view: (-_all(view), view.name))
    rows: list[tuple[str, ...]] = [
        (
            view.name,
            *(counted(view.counts, place) for place in _STATES),
            _change(view, before, seconds),
            age(view.counts.oldest_age if view.counts.oldest_age is not None else view.seen_age),
            "-" if view.workers is None else str(view.workers),
        )
        for view in busiest[:_MOST_ROWS]
    ]
    rest = len(busiest) - len(rows)
    return [*rows, (f"... and {rest} more", *[""] * 7)] if rest else rows


def _all(view: QueueView) -> int:
    return view.counts.ready + view.counts.leased + view.counts.delayed


def _change(view: QueueView, before: Mapping[str, QueueView], seconds: float) -> str:
    old = before.get(view.name)
    if old is None or old.counts.at_least or view.counts.at_least:
        return "-"
    return "-" if seconds <= 0 else f"{(_all(view) - _all(old)) / seconds:+.1f}/s"


def _worker_row(worker: Presence) -> tuple[str, ...]:
    queues = ",".join(worker.queues)
    running = max(len(worker.begun), len(worker.runs))
    state = "silent" if not worker.live else worker.leaving or ("gate" if worker.gate else "ready")
    return (
        worker.name,
        worker.host or "-",
        queues if len(queues) <= _MOST_QUEUES else f"{queues[: _MOST_QUEUES - 3]}...",
        f"{running}/{'-' if worker.slots is None else worker.slots}",
        "-" if worker.rate is None else f"{worker.rate:.1f}/s",
        size(worker.rss),
        age(worker.quiet),
        state,
    )


def _run_rows(workers: Sequence[Presence]) -> list[tuple[str, ...]]:
    """Return what runs, the longest first."""
    runs = [(run, worker.name) for worker in workers for run in worker.runs]
    runs.sort(key=lambda pair: -pair[0].seconds)
    return [(run.id, run.task, run.queue, name, age(run.seconds)) for run, name in runs[:_MOST_ROWS]]


def _fitted(text: str) -> str:
    """Return *text* cut to the terminal, each line erased to its end first."""
    width, height = shutil.get_terminal_size()
    return "\r\n".join(f"{clean(line)[:width]}\x1b[K" for line in text.split("\n")[: height - 1])
