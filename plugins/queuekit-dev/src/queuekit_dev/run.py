"""``queuekit run``."""

from __future__ import annotations

import click

from queuekit.cli.arguments import CallCommand, typed_call, unchecked_option
from queuekit.cli.options import common_options, json_option, pass_session
from queuekit.cli.output import as_json as to_json
from queuekit.cli.output import echo, print_json
from queuekit.cli.session import Session
from queuekit.context import Context
from queuekit_dev.here import BodyError, call_here, fail

__all__ = ["command"]


@click.command(cls=CallCommand)
@click.argument("task")
@click.argument("arguments", metavar="[ARGS]... [NAME=VALUE]...", nargs=-1)
@click.option("--pdb", "debug", is_flag=True, help="Enter the debugger where the task raises.")
@unchecked_option
@json_option
@common_options
@pass_session
def command(
    session: Session, /, *, task: str, arguments: tuple[str, ...], debug: bool, unchecked: bool, as_json: bool
) -> None:
    """Run one call of TASK here, without a queue, and print its result.

    TASK and values are read as by queuekit send. It runs once and without time limit, and nothing is stored.
    What the task itself sends is sent.
    """
    app, _ = session.app()
    chosen = app.tasks.find(task)
    args, kwargs = typed_call(chosen, arguments, usage=f"queuekit run {task}", unchecked=unchecked)
    context = Context(id="", task=chosen.name, queue="")
    try:
        value = call_here(chosen, args, kwargs, context=context)
    except BodyError as error:
        fail(chosen.name, error, debug=debug)
    if as_json:
        print_json({"task": chosen.name, "result": value})
    else:
        echo(value if isinstance(value, str) else to_json(value))
