"""``queuekit scheduler``."""

from __future__ import annotations

import signal
import threading
from itertools import islice

import click

from queuekit.app import Queuekit
from queuekit.cli.options import common_options, engine_options, pass_session
from queuekit.cli.output import echo, moment
from queuekit.cli.session import Session, need_shared
from queuekit.client.requirements import require
from queuekit.execution.children import stop_signals
from queuekit.ids import worker_name
from queuekit.operations.admin import Admin
from queuekit.schedules.schedule import about
from queuekit.schedules.scheduler import Scheduler
from queuekit.worker.log_setup import configure_logging

__all__ = ["command"]

SHOWN = 5
"""Number of next ticks of each schedule that ``--dry-run`` prints."""


@click.command()
@click.argument("target", metavar="[APP]", required=False)
@click.option("--dry-run", is_flag=True, help="Print the schedules declared in code with their next ticks, and exit.")
@engine_options
@common_options
@pass_session
def command(session: Session, *, target: str | None, dry_run: bool) -> int:
    """Send the ticks of schedules until told to stop, without running tasks.

    Workers do this already, so you need it only if all workers have worker.schedules = false. You may run several: only
    one process, a scheduler or a worker, sends ticks at a time.
    """
    session.target = target or session.target
    app, _ = session.app()
    if dry_run:
        _print(session, app)
        return 0
    need_shared(app)
    require(app.runtime, app.tasks, app.declared)
    Admin(app).ping()
    configure_logging(level=app.config.log.level, style=app.config.log.format)
    one = Scheduler(app, name=worker_name())
    signals = threading.Event()
    for number in stop_signals():
        signal.signal(number, lambda *_: signals.set())
    one.start()
    signals.wait()
    one.stop()
    return 0


def _print(session: Session, app: Queuekit) -> None:
    now = app.clock.time()
    for name, schedule in sorted(app.declared.items()):
        echo(f"{name}: {schedule.when.words()}: {about(schedule.call)}")
        for tick in islice(schedule.when.ticks(now), SHOWN):
            click.echo(f"  {moment(tick)}")
    if not app.declared:
        session.say("The code declares no schedules.")
