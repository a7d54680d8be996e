"""``queuekit stack``."""

from __future__ import annotations

import shlex
from typing import Any

import click

from queuekit.broker import Place
from queuekit.cli.options import common_options, duration_option, engine_options, json_option, pass_session
from queuekit.cli.output import age, echo, print_json
from queuekit.cli.session import Session
from queuekit.operations.admin import Admin, MessageView
from queuekit.operations.stacks import ask_stack
from queuekit.states import FINAL
from queuekit.wire.presence import LIVE
from queuekit.wire.stacks import Frame, StackReport

__all__ = ["KINDS", "NO_ANSWER", "command", "no_answer", "not_running"]

NO_ANSWER = 6
"""Exit code if no worker answers, or its answer holds no stack."""
_WAIT = 5.0
KINDS = {"thread": "in a thread", "coroutine": "on the event loop", "process": "in a process of its own"}


@click.command()
@click.argument("id", metavar="ID")
@duration_option("--wait", help="How long to wait for the worker's answer. Default: 5s.")
@json_option
@engine_options
@common_options
@pass_session
def command(session: Session, *, id: str, wait: float | None, as_json: bool) -> int:
    """Print where the running body of the message ID is: its Python stack, without the values of variables.

    The worker answers within about a second, even while a body holds its interpreter.

    Exits with 1 if the message does not run, and with 6 if no worker answers or the stack cannot be read.
    """
    admin = session.admin()
    view, patience = admin.show(id), _WAIT if wait is None else wait
    idle = not_running(view)
    if idle:
        return _fail(session, id, f"{id} does not run: {idle}", code=1, as_json=as_json)
    report = ask_stack(admin.runtime, id, patience=patience)
    if report is None:
        return _fail(session, id, no_answer(admin, id, patience), code=NO_ANSWER, as_json=as_json)
    if as_json:
        print_json({"id": id, **_document(report)})
    else:
        echo("\n".join([_heading(id, report), *map(_line, report.frames)]))
    return 0 if report.frames else NO_ANSWER


def not_running(view: MessageView) -> str:
    """Return why a message certainly does not run; an empty text if it may be running."""
    place = None if view.queued is None else view.queued.stored.place
    if place is Place.DEAD:
        return "it is a dead letter"
    if view.info.state in FINAL:
        return f"it has ended as {view.info.state.value}"
    if place in {Place.READY, Place.DELAYED}:
        return "it waits in its queue"
    return "no queue holds it" if place is None and not view.silent else ""


def no_answer(admin: Admin, id: str, patience: float) -> str:
    """Return what is known of a message that no worker answers for."""
    holders = [worker for worker in admin.seen_workers() or () if id in worker.begun]
    if not holders:
        return f"no worker has answered for {id} within {patience:g} s, and none has reported to run it"
    holder = min(holders, key=lambda worker: worker.quiet)
    state = "is silent: it hangs, was killed, or is disconnected" if holder.quiet > LIVE else "may be about to end it"
    seen = f"its last sign of life was {age(holder.quiet)} ago"
    return f"{holder.name} has reported to run {id} and has not answered within {patience:g} s; {seen}; it {state}"


def _fail(session: Session, id: str, text: str, *, code: int, as_json: bool) -> int:
    if as_json:
        print_json({"id": id, "frames": [], "note": text})
    else:
        echo(text, err=True)
        session.say(f"next  {session.command(shlex.join(['why', id]))}")
    return code


def _heading(id: str, report: StackReport) -> str:
    name = f"{report.task} {id}" if report.task else id
    where = f"on {report.worker} (pid {report.pid}) {KINDS.get(report.kind, report.kind)}"
    note = f"; {report.note}" if report.note else ""
    return f"{name} has been running {where} for {age(report.seconds)}{note}".replace("\n", " ")


def _line(frame: Frame) -> str:
    if not frame.function:
        return f"  {frame.file}"
    code = f"\n    {frame.code}" if frame.code else ""
    return f'  File "{frame.file}", line {frame.line}, in {frame.function}{code}'


def _document(report: StackReport) -> dict[str, Any]:
    return {
        "task": report.task or None,
        "worker": report.worker,
        "host": report.host,
        "pid": report.pid,
        "kind": report.kind,
        "seconds": report.seconds,
        "frames": [
            {"file": one.file, "line": one.line, "function": one.function, "code": one.code or None}
            for one in report.frames
        ],
        "note": report.note or None,
    }
