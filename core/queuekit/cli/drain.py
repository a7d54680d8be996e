"""``queuekit drain``."""

from __future__ import annotations

import click

from queuekit.cli.options import as_option, common_options, duration_option, engine_options, pass_session
from queuekit.cli.output import age
from queuekit.cli.pauses import NOT_YET
from queuekit.cli.session import Session
from queuekit.operations.pauses import PATIENCE, drain, drained
from queuekit.wire.presence import Presence

__all__ = ["command"]


@click.command()
@click.argument("worker", metavar="WORKER")
@duration_option("--wait", help="How long to wait until it has ended. Default: only until it has obeyed, at most 3s.")
@as_option
@engine_options
@common_options
@pass_session
def command(session: Session, *, worker: str, wait: float | None, by: str | None) -> int:
    """Let WORKER finish its tasks, however long that takes, then end it. Say whether it has obeyed.

    WORKER is a name or a process id from queuekit workers. The worker takes no more messages, hands back those that
    have not started, and is not replaced. Exits with 6 if it has not obeyed, or with --wait if it has not ended.
    """
    admin = session.admin()
    name = drain(admin, worker, by=by).name
    patience = PATIENCE if wait is None else wait
    sleep = session.opened[-1].clock.sleep
    found = drained(admin, name, until_ended=wait is not None, patience=patience, sleep=sleep)
    if found is None:
        session.say(f"drained  {name}: it has ended")
        return 0
    if not found.draining:
        session.say(f"asked to drain  {name}: not obeyed yet; {_seen(found)}")
        return NOT_YET
    runs = len(found.runs) or len(found.begun)
    session.say(f"draining  {name}: it takes no more messages; {runs} {'task runs' if runs == 1 else 'tasks run'}")
    return 0 if wait is None else NOT_YET


def _seen(worker: Presence) -> str:
    return f"last seen {age(worker.quiet)} ago" if worker.live else f"silent for {age(worker.quiet)}"
