"""``queuekit run``."""

from __future__ import annotations

import click

from queuekit.cli.options import common_options, json_option, pass_session
from queuekit.cli.output import as_json as to_json
from queuekit.cli.output import echo, print_json
from queuekit.cli.send import SendCommand, parse_arguments
from queuekit.cli.session import Session
from queuekit.context import Context
from queuekit.errors import ArgumentsError
from queuekit_dev.here import BodyError, call_here, fail

__all__ = ["command"]


@click.command(cls=SendCommand)
@click.argument("task")
@click.argument("arguments", metavar="[ARGS]... [NAME=VALUE]...", nargs=-1)
@click.option("--pdb", "debug", is_flag=True, help="Enter the debugger where the task raises.")
@json_option
@common_options
@pass_session
def command(session: Session, /, *, task: str, arguments: tuple[str, ...], debug: bool, as_json: bool) -> None:
    """Run one call of TASK here, without a queue, and print its result.

    TASK and values are read as by queuekit send. It runs once and without time limit, and nothing is stored.
    What the task itself sends is sent.
    """
    app, _ = session.app()
    chosen = app.tasks.find(task)
    args, kwargs = parse_arguments(arguments)
    context = Context(id="", task=chosen.name, queue="")
    try:
        value = call_here(chosen, args, kwargs, context=context)
    except BodyError as error:
        fail(chosen.name, error, debug=debug)
    except ArgumentsError as error:
        usual = " ".join([task, *map(str.upper, chosen.parameters.names)])
        error.fix = error.fix or f"Write e.g.:  queuekit run {usual}"
        raise
    if as_json:
        print_json({"task": chosen.name, "result": value})
    else:
        echo(value if isinstance(value, str) else to_json(value))
