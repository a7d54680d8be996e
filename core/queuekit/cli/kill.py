"""``queuekit kill``."""

from __future__ import annotations

import shlex

import click

from queuekit.cli.cancel import NOT_YET
from queuekit.cli.options import as_option, common_options, duration_option, engine_options, pass_session
from queuekit.cli.output import echo
from queuekit.cli.purge import confirm
from queuekit.cli.session import Session
from queuekit.cli.stack import KINDS, no_answer, not_running
from queuekit.operations.admin import Admin
from queuekit.operations.kills import kill
from queuekit.operations.stacks import ask_stack
from queuekit.states import FINAL, State
from queuekit.wire.stacks import StackReport

__all__ = ["command"]

_WAIT = 10.0


@click.command()
@click.argument("id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@duration_option("--wait", help="How long to wait for the worker. Default: 10s.")
@as_option
@engine_options
@common_options
@pass_session
def command(session: Session, *, id: str, yes: bool, wait: float | None, by: str | None) -> int:
    """Kill the running body of the message ID, whatever it does, and say what happened.

    A body in a process of its own ends alone. One in a thread or on the event loop ends with its whole worker process:
    the other tasks of that process go back to their queues, uncounted, and start again. The command asks before it
    does that. The message ends as CANCELLED, and no `finally` of its body runs.

    Exits with 0 if it was killed, with 1 if it was not running or ended by itself meanwhile, and with 6 if no worker
    answers.
    """
    admin, patience = session.admin(), _WAIT if wait is None else wait
    idle = "it is a workflow, which has no body" if admin.is_workflow(id) else not_running(admin.show(id))
    if idle:
        return _fail(session, f"{id} does not run: {idle}; nothing was killed", "why", id, code=1)
    report = ask_stack(admin.runtime, id, patience=patience)
    if report is None:
        return _fail(session, f"{no_answer(admin, id, patience)}; nothing was killed", "cancel", id, code=NOT_YET)
    if report.kind != "process" and not report.replaceable:
        text = (
            f"{id} runs {KINDS[report.kind]} of {report.worker}, which no supervisor would replace: it cannot be killed"
        )
        return _fail(session, text, "cancel", id, code=1)
    if report.kind != "process":
        echo(_consequence(id, report), err=True)
        if not confirm("Kill it?", yes=yes):
            session.say("Nothing was killed.")
            return 1
    admin.acted("kill", by=by, ids=[id], on=report.worker)
    return _kill(session, admin, id, report, by=by, patience=patience)


def _kill(session: Session, admin: Admin, id: str, report: StackReport, *, by: str | None, patience: float) -> int:
    view = kill(admin, id, by=by, patience=patience)
    state, did = view.info.state, "" if view.cancellation is None else view.cancellation.did
    if state in FINAL and state is not State.CANCELLED:
        return _fail(session, f"{id} ended as {state.value} before it was killed", "show", id, code=1)
    if did != "killed":
        text = f"asked {report.worker} to kill {id}, which has not done so within {patience:g} s"
        return _fail(session, text, "show", id, code=NOT_YET)
    apart = report.kind == "process"
    rest = "" if apart else f" with its worker process {report.pid}; {_others(report)} back to their queues, uncounted"
    session.say(f"killed  {id}: its body ended{rest}")
    return 0


def _consequence(id: str, report: StackReport) -> str:
    where = f"{id} runs {KINDS[report.kind]} of worker process {report.pid} on {report.host}"
    return f"{where}, which has to be killed and replaced: {_others(report)} back to their queues"


def _others(report: StackReport) -> str:
    others = {0: "", 1: "1 other body that it runs and "}.get(
        report.others, f"{report.others} other bodies that it runs and "
    )
    return f"{others}all messages that wait in it go"


def _fail(session: Session, text: str, then: str, id: str, *, code: int) -> int:
    echo(text, err=True)
    session.say(f"next  {session.command(shlex.join([then, id]))}")
    return code
