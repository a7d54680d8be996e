"""``queuekit resume``."""

from __future__ import annotations

from typing import Any

import click

from queuekit.cli.pauses import NOT_YET, of_workers, target_arguments, target_of
from queuekit.cli.session import Session
from queuekit.operations.pauses import resume, until_obeyed

__all__ = ["command"]


@click.command()
@click.option("--all", "everything", is_flag=True, help="End all pauses.")
@target_arguments
def command(session: Session, *, everything: bool, by: str | None, **given: Any) -> int:
    """End the pause of QUEUE, or of a task with --task, and say which workers have obeyed.

    Workers serve a queue again at once. Messages of a paused task were put off, a little longer each time, so they come
    back within 75 seconds. Exits with 6 if a worker has not obeyed within 3 seconds.
    """
    admin = session.admin()
    if everything:
        if any(given.values()):
            raise click.UsageError("give a queue or a task, or --all")
        ended = resume(admin, everything=True, by=by)
    else:
        ended = resume(admin, **target_of(session, admin, **given)._asdict(), by=by)
    if not ended:
        session.say("Nothing was paused.")
        return 0
    found = until_obeyed(admin, resumed=ended, sleep=session.opened[-1].clock.sleep)
    for one in ended:
        session.say(f"resumed  {one.what}, which {one.by} had paused")
    session.say(of_workers(found))
    return NOT_YET if found is not None and found.others else 0
