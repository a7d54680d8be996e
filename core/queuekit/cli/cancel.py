"""``queuekit cancel``."""

from __future__ import annotations

import click

from queuekit.cli.options import as_option, common_options, duration_option, engine_options, pass_session
from queuekit.cli.session import Session
from queuekit.logs.plaintext import clean
from queuekit.operations.admin import MessageView
from queuekit.states import FINAL, State

__all__ = ["command"]

_WAIT = 5.0
NOT_YET = 6
"""Exit code for a task that was asked to stop and is still running."""
_CANCELLED = {
    "asked": "its body saw the request and stopped",
    "dropped": "a worker held it, but did not start it",
    "killed": "its process was killed",
    "raised": "an exception stopped its body",
    "removed": "it was waiting, and will never run",
}
_NOT_YET = {
    "": "no worker has seen the request",
    "asked": "its body was notified, but is still running",
    "raised": "an exception was raised in its body, but it is still running",
}


@click.command()
@click.argument("id", metavar="ID")
@duration_option("--wait", help="How long to wait for a running task to stop. Default: 5s.")
@as_option
@engine_options
@common_options
@pass_session
def command(session: Session, *, id: str, wait: float | None, by: str | None) -> int:
    """Cancel the message or workflow ID, and say what happened.

    A waiting task never runs. The worker stops a running task: by an exception in its thread or on the event loop, or
    by killing its process if it has one of its own.

    Exits with 0 if it is cancelled, with 1 if it had already ended or ended on its own meanwhile, and with 6 if it was
    asked to stop and has not stopped yet.
    """
    admin, patience = session.admin(), _WAIT if wait is None else wait
    if not admin.cancel(id, by=by):
        return _ended(id, "has already ended")
    admin.acted("cancel", by=by, ids=[id])
    if admin.is_workflow(id):
        session.say(f"cancelled  {id}: waiting tasks will never run, running tasks are asked to stop")
        return 0
    view = admin.after_cancel(id, patience=patience)
    state, did = view.info.state, _did(view)
    if state in FINAL and state is not State.CANCELLED:
        return _ended(id, f"has ended as {state.value} before it could be stopped")
    if state is State.CANCELLED or did in {"removed", "dropped", "killed"}:
        session.say(f"cancelled  {id}: {_CANCELLED.get(did, 'it was already cancelled')}")
        return 0
    click.echo(
        f"asked to cancel  {id}: {_NOT_YET.get(did, did)}, after {patience:g} s. See:  queuekit show {id}", err=True
    )
    return NOT_YET


def _did(view: MessageView) -> str:
    return "removed" if view.cancellation is None else view.cancellation.did


def _ended(id: str, how: str) -> int:
    click.echo(clean(f"{id} {how}. See:  queuekit show {id}"), err=True)
    return 1
