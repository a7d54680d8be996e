"""``queuekit pause``."""

from __future__ import annotations

from typing import Any

import click

from queuekit import durations
from queuekit.cli.options import duration_option
from queuekit.cli.pauses import NOT_YET, of_workers, target_arguments, target_of
from queuekit.cli.session import Session
from queuekit.operations.admin import Admin
from queuekit.operations.pauses import pause, resume_command, until_obeyed
from queuekit.wire.pauses import Pause

__all__ = ["command"]


@click.command()
@duration_option("--for", help="How long; then it ends by itself. Default: until resumed.")
@click.option("--why", metavar="TEXT", default="", help="The reason, for others; at most 500 characters.")
@target_arguments
def command(session: Session, *, by: str | None, why: str, **given: Any) -> int:
    """Pause QUEUE, or a task with --task, and say which workers have obeyed.

    Workers start no more of its messages, and hand back those that they have fetched. What runs goes on, and messages
    are still sent, by schedules too. Exits with 6 if a worker has not obeyed within 3 seconds.
    """
    lasts: float | None = given.pop("for")
    if lasts is not None and lasts <= 0:
        raise click.UsageError("--for must be longer than 0")
    admin = session.admin()
    target = target_of(session, admin, **given)
    made = pause(admin, **target._asdict(), lasts=lasts, by=by, why=why)
    found = until_obeyed(admin, paused=[made], sleep=session.opened[-1].clock.sleep)
    ends = "" if lasts is None else f" for {durations.format(lasts)}"
    session.say(f"paused  {made.what}{ends}: {of_workers(found)}")
    _note_unknown(session, admin, made)
    session.say(f"next  {session.command(resume_command(made))}")
    return NOT_YET if found is not None and found.others else 0


def _note_unknown(session: Session, admin: Admin, made: Pause) -> None:
    """Say so if nobody here knows the queue: its name may be misspelt."""
    served = {queue for worker in admin.workers() or () for queue in worker.queues}
    if made.queue and made.queue not in {*admin.queue_names(), *served}:
        session.say(f"no queue {made.queue!r} is known here: no task names it, no worker serves it, and it is empty")
